"""Weights that match the spread of draws to that of the data, by the closed form and by pilot draws."""

import pytest
import torch

import drl_density as drl
from drl_density.distributions import SampleResult
from drl_density.errors import NumericalError
from drl_density.samplers import (
    AncestralSettings,
    DDIMSettings,
    FlowSettings,
    FrequencyAverage,
    PredictorCorrectorSettings,
    calibrated_average,
    cosine_axes,
    final_spread,
    matched_average,
    sample_averaged,
    sample_ddim,
    sample_flow,
)
from drl_density.testing import GaussianMixtureSequence, gaussian_sequence, seeded_generator


@pytest.fixture(scope="module")
def mixture():
    return GaussianMixtureSequence.example(dim=4, seed=0)


@pytest.mark.parametrize("settings", [DDIMSettings(7), FlowSettings(4)])
@pytest.mark.parametrize("weight", [0.6, 1.0, 1.7])
def test_the_final_spread_is_that_of_the_sampler(settings, weight):
    """A deterministic walk on Gaussian data multiplies every coefficient of its noise by one number."""
    schedule, variances = drl.NoiseSchedule.log_spaced(8), torch.tensor([3.0, 0.9, 0.3, 0.01], dtype=torch.float64)
    axes = cosine_axes((2, 2))[0]
    model = gaussian_sequence(torch.zeros(4), axes @ variances.diag() @ axes.T, schedule).model
    draws = sample_averaged(
        model,
        3,
        average=FrequencyAverage(axes, *(torch.full((4,), weight, dtype=torch.float64),) * 2),
        sampler=sample_ddim if isinstance(settings, DDIMSettings) else sample_flow,
        settings=settings,
        generator=seeded_generator(0),
    ).draws
    noise = torch.randn(draws.shape, generator=seeded_generator(0), dtype=draws.dtype)
    true = (float(schedule.alpha_at(0)) ** 2 * variances + float(schedule.sigma_at(0)) ** 2).sqrt()
    ratios = (draws @ axes) / (noise @ axes) / true
    expected = final_spread(model, settings, variances, torch.tensor(weight, dtype=torch.float64)).expand_as(ratios)
    torch.testing.assert_close(ratios.abs(), expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_averages_only_take_spread_away_and_matched_weights_restore_it(eta):
    schedule, variances = drl.NoiseSchedule.log_spaced(8), torch.logspace(-3, 1, 9, dtype=torch.float64)
    model = gaussian_sequence(torch.zeros(9), variances.diag(), schedule).model
    for num_steps in (2, 5, 20):
        settings = DDIMSettings(num_steps, eta=eta)
        ratios = final_spread(model, settings, variances, torch.linspace(0.1, 1.0, 10)[:, None])
        assert bool((ratios.diff(dim=0) > 0).all())
        assert bool((ratios[-1] < 1).all())
    average = matched_average(model, settings, torch.eye(9), variances)
    assert bool((average.early > 1).all())
    assert torch.equal(average.early, average.late)
    # Steps of 0.01 in the weight move the spread by less than a thousandth, and one percent is given away to be near 1.
    assert float((final_spread(model, settings, variances, average.late) - 1).abs().max()) < 0.012
    bands = torch.arange(9) // 3
    banded = matched_average(model, settings, torch.eye(9), variances, bands=bands).late
    true = float(schedule.alpha_at(0)) ** 2 * variances + float(schedule.sigma_at(0)) ** 2
    found = final_spread(model, settings, variances, banded).square() * true
    for band in range(3):
        assert len(banded[bands == band].unique()) == 1
        assert abs(float((found[bands == band].sum() / true[bands == band].sum()).sqrt()) - 1) < 0.012
    # Independent errors as large as the data add spread, which averages take away; the least coefficient is all noise.
    noisy = matched_average(model, settings, torch.eye(9), variances, error=variances.sqrt())
    assert bool((noisy.late[1:] < 1).all())


@pytest.mark.parametrize("settings", [DDIMSettings(8), DDIMSettings(8, eta=1.0), FlowSettings(4)])
@pytest.mark.parametrize("ratio", [0.6, 1.0])
def test_pilot_draws_find_the_weights_of_a_model_whose_spread_is_not_that_of_the_data(settings, ratio):
    """Data have ``ratio`` of the model's variance, so that the recursion for the data is wrong for the model."""
    schedule = drl.NoiseSchedule.log_spaced(8, sigma_min=0.3)
    variances = torch.tensor([2.0, 0.5, 2.0, 0.5], dtype=torch.float64)
    model = gaussian_sequence(torch.zeros(4), variances.diag(), schedule).model
    bands, wanted = torch.tensor([0, 1, 0, 1]), ratio * variances
    average = calibrated_average(
        model,
        settings,
        torch.eye(4),
        wanted,
        bands=bands,
        num_pilot_draws=4000,
        generator=seeded_generator(0),
    )
    assert torch.equal(average.early, average.late)
    assert torch.equal(average.late[:2], average.late[2:])
    alpha, sigma = float(schedule.alpha_at(0)), float(schedule.sigma_at(0))
    scale = ((alpha**2 * variances + sigma**2) / (alpha**2 * wanted + sigma**2)).sqrt()
    found = final_spread(model, settings, variances, average.late) * scale
    # The spread of 8,000 coefficients has a relative error of 0.8 %, and one percent is given away to be near 1.
    assert float((found - 1).abs().max()) < 0.045
    if ratio < 1:
        assert bool((average.late < 1).any())
        closed = matched_average(model, settings, torch.eye(4), wanted, bands=bands)
        assert float((final_spread(model, settings, variances, closed.late) * scale - 1).abs().max()) > 0.2


def test_of_all_pilots_a_band_takes_the_weight_of_the_nearest(mixture, monkeypatch):
    spreads, seen = [(1.5, 1.0), (0.5, 2.0), (1.1, 0.7), (3.0, 1.2)], []

    def pilot(model, num_samples, *, average, **more):
        level_0 = (0.5 * float(model.schedule.alpha_at(0)) ** 2 + float(model.schedule.sigma_at(0)) ** 2) ** 0.5
        scale = torch.tensor([spreads[len(seen)]] * 2).T.flatten() * level_0
        seen.append(average.late)
        draws = torch.randn(num_samples, 4, generator=seeded_generator(0), dtype=torch.float64)
        return SampleResult(draws / draws.std(0) * scale, {})

    monkeypatch.setattr("drl_density.samplers.averages.matching.sample_averaged", pilot)
    bands = torch.tensor([0, 0, 1, 1])
    average = calibrated_average(mixture.model, DDIMSettings(4), torch.eye(4), torch.full((4,), 0.5), bands=bands)
    assert len({weights[0].item() for weights in seen}) == 4
    assert torch.equal(average.late, torch.cat([seen[2][:2], seen[0][2:]]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"variances": torch.tensor([0.9, -0.1])},
        {"variances": torch.tensor([0.9, torch.nan])},
        {"variances": torch.tensor([0.9, torch.inf])},
        {"variances": torch.ones(3)},
        {"variances": torch.ones(2, 2)},
        {"axes": torch.full((2, 2), torch.nan)},
        {"axes": torch.ones(2, 3)},
        {"axes": 2 * torch.eye(2)},
        {"bands": torch.zeros(3)},
        {"bands": torch.tensor([0.0, torch.nan])},
        {"error": -0.1},
        {"error": torch.nan},
        {"error": torch.ones(3)},
        {"settings": AncestralSettings()},
        {"settings": PredictorCorrectorSettings()},
        {"settings": DDIMSettings(10, is_denoised=True)},
    ],
    ids=str,
)
def test_spreads_that_no_walk_has_are_refused(mixture, wrong):
    given = {"settings": DDIMSettings(10), "axes": torch.eye(2), "variances": torch.ones(2), "bands": None, "error": 0.0}
    matched_average(mixture.model, **given)
    with pytest.raises(ValueError, match="got|off by"):
        matched_average(mixture.model, **given | wrong)
    if "error" not in wrong:
        with pytest.raises(ValueError, match="got|off by"):
            calibrated_average(mixture.model, **{key: value for key, value in (given | wrong).items() if key != "error"})


@pytest.mark.parametrize("weight", [0.0, -1.0, torch.nan, torch.inf])
def test_weights_of_no_average_have_no_spread(mixture, weight):
    with pytest.raises(ValueError, match="weights that are positive and finite"):
        final_spread(mixture.model, DDIMSettings(10), torch.ones(2), torch.tensor(weight))


@pytest.mark.parametrize(
    "wrong", [{"num_pilots": 1}, {"num_pilots": 2.5}, {"num_pilot_draws": 1}, {"num_pilot_draws": True}], ids=str
)
def test_too_few_pilots_are_refused(mixture, wrong):
    with pytest.raises(ValueError, match="integer of at least 2"):
        calibrated_average(mixture.model, DDIMSettings(4), torch.eye(4), torch.ones(4), **wrong)


def test_pilots_without_a_spread_are_an_error(mixture, monkeypatch):
    monkeypatch.setattr(type(mixture.model), "denoise", lambda self, x, level, **more: torch.full_like(x, torch.nan))
    with pytest.raises((NumericalError, FloatingPointError), match="finite"):
        calibrated_average(mixture.model, DDIMSettings(4), torch.eye(4), torch.ones(4))
