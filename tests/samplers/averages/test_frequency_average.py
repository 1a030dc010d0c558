"""Frequency averages: what they reduce to, and their variance on Gaussian data."""

import math

import pytest
import torch

import drl_density as drl
from drl_density.samplers import (
    AncestralSettings,
    DDIMSettings,
    FlowSettings,
    FrequencyAverage,
    PredictorCorrectorSettings,
    cosine_axes,
    haar_axes,
    moving_average,
    sample_ancestral,
    sample_averaged,
    sample_ddim,
    sample_flow,
    sample_predictor_corrector,
)
from drl_density.samplers.averages.frequency_average import AveragedDenoiser
from drl_density.testing import GaussianMixtureSequence, gaussian_sequence, seeded_generator

SAMPLERS = {
    sample_ddim: DDIMSettings(num_steps=12, eta=0.5),
    sample_ancestral: AncestralSettings(num_steps=40),
    sample_predictor_corrector: PredictorCorrectorSettings(DDIMSettings(num_steps=6, eta=1.0)),
    sample_flow: FlowSettings(num_steps=6),
}


@pytest.fixture(scope="module")
def mixture():
    return GaussianMixtureSequence.example(dim=4, seed=0)


def averaged(mixture, axes, weight, sampler=sample_ddim):
    average = FrequencyAverage(axes, *(torch.full((4,), weight) for _ in range(2)))
    settings = SAMPLERS[sampler]
    generator = seeded_generator(0)
    return sample_averaged(
        mixture.model, 30, average=average, sampler=sampler, settings=settings, generator=generator
    ).draws


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_weight_one_is_the_sampler_itself_to_the_bit(mixture, sampler):
    plain = sampler(mixture.model, 30, settings=SAMPLERS[sampler], generator=seeded_generator(0)).draws
    assert torch.equal(averaged(mixture, cosine_axes((2, 2))[0], 1.0, sampler), plain)
    assert float((averaged(mixture, torch.eye(4), 0.6, sampler) - plain).abs().max()) > 0.01


def test_equal_weights_are_the_plain_moving_average_in_any_transform(mixture):
    moving = averaged(mixture, torch.eye(4), 0.6)
    for axes in (cosine_axes((2, 2))[0], haar_axes(2, 2)[0], cosine_axes((4,))[0]):
        torch.testing.assert_close(averaged(mixture, axes, 0.6), moving, rtol=1e-5, atol=1e-6)
    by_name = sample_averaged(
        mixture.model,
        30,
        average=moving_average(4, 0.6),
        settings=SAMPLERS[sample_ddim],
        generator=seeded_generator(0),
    )
    torch.testing.assert_close(by_name.draws, moving)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_gaussian_data_have_a_closed_form_and_lose_variance(eta):
    """Everything is linear per band: state, memory and their covariance obey a recursion, no draw needed."""
    schedule, variances = drl.NoiseSchedule.log_spaced(8), torch.tensor([0.9, 0.5, 0.3, 0.1], dtype=torch.float64)
    axes, frequency = cosine_axes((2, 2))
    system = gaussian_sequence(torch.zeros(4), axes @ variances.diag() @ axes.T, schedule)
    early, late = 0.9 - 0.5 * frequency, 0.5 + 0.5 * frequency
    average, num_steps = FrequencyAverage(axes, early, late), 10
    levels = torch.linspace(8, 0, num_steps + 1, dtype=torch.float64).tolist()
    spread, plain = [], []
    for band in range(4):
        for weights, into in (((early[band], late[band]), spread), ((1.0, 1.0), plain)):
            into.append(_variance(schedule, float(variances[band]), weights, levels, eta))
    found = sample_averaged(
        system.model,
        60_000,
        average=average,
        settings=DDIMSettings(num_steps=num_steps, eta=eta),
        generator=seeded_generator(1),
    )
    measured = (found.draws @ axes).var(0)
    # The variance of 60,000 draws has a relative error of sqrt(2 / 60,000) = 0.58 %, five of which are allowed.
    assert float((measured / torch.tensor(spread) - 1).abs().max()) < 0.029
    assert all(a < b for a, b in zip(spread, plain, strict=True))


def _variance(schedule, variance, weights, levels, eta):
    """Variance of one band: (state, memory) is a linear map of itself plus noise at every step."""
    covariance, is_first = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64), True
    for noisier, cleaner in zip(levels, levels[1:], strict=False):
        (a, s), (b, t) = ((float(schedule.alpha_at(v)), float(schedule.sigma_at(v))) for v in (noisier, cleaner))
        progress = 1 - noisier / schedule.num_levels
        weight = 1.0 if is_first else float((1 - progress) * weights[0] + progress * weights[1])
        denoise = a * variance / (a**2 * variance + s**2)
        noise = eta * t / s * math.sqrt(1 - (a / b) ** 2)
        memory = torch.tensor([weight * denoise, 1 - weight], dtype=torch.float64)
        direction = math.sqrt(t**2 - noise**2)
        state = (b - direction * a / s) * memory + torch.tensor([direction / s, 0.0], dtype=torch.float64)
        step = torch.stack([state, memory])
        covariance = step @ covariance @ step.T
        covariance[0, 0] += noise**2
        is_first = False
    return float(covariance[0, 0])


def test_wrong_averages(mixture):
    with pytest.raises(ValueError, match="orthonormal"):
        FrequencyAverage(2 * torch.eye(2), torch.ones(2), torch.ones(2))
    for weight in (0.0, math.inf):
        with pytest.raises(ValueError, match="positive numbers"):
            FrequencyAverage(torch.eye(2), torch.full((2,), weight), torch.ones(2))
    with pytest.raises(ValueError, match="for 3 coefficients, points have 4"):
        sample_averaged(mixture.model, 3, average=moving_average(3, 0.5))
    with pytest.raises(TypeError, match="average must be a FrequencyAverage, got float: calibrated_average"):
        sample_averaged(mixture.model, 3, average=0.5)


def test_a_new_walk_begins_without_memory(mixture):
    denoiser = AveragedDenoiser(moving_average(4, 0.6), mixture.model.denoise, mixture.model.num_levels)
    first, second = (
        sample_ddim(
            mixture.model, count, settings=DDIMSettings(4), denoiser=denoiser, generator=seeded_generator(0)
        ).draws[:5]
        for count in (5, 5)
    )
    assert torch.equal(first, second)
