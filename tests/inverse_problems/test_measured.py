"""Draws given a measurement, against exact posteriors of a mixture."""

import dataclasses

import pytest
import torch

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.inverse_problems import MeasuredSettings, measured, sample_measured
from drl_density.inverse_problems.measured import has_orthonormal_rows, level_of_noise
from drl_density.networks.contract import NoTilt
from drl_density.operators import ComplexPairs, Mask, MaskedFourier, MatrixOperator
from drl_density.samplers import DDIMSettings, PredictorCorrectorSettings
from drl_density.samplers.predictor_corrector import correct
from drl_density.testing import assert_z, seeded_generator
from tests.inverse_problems.test_conditioned_base import MATRIX, NOISE, Y, exact_posterior, mixture_sequence, moments

# Predictor steps are exact under a mixture, however few.
SETTINGS = MeasuredSettings(PredictorCorrectorSettings(DDIMSettings(4, eta=1.0), num_corrections=1), num_final_steps=6)


@pytest.mark.parametrize("noise", [NOISE, 0.02])
@pytest.mark.parametrize("is_orthonormal", [True, False])
def test_draws_have_the_moments_of_the_exact_posterior(noise, is_orthonormal):
    """A mask and the larger noise: enforced at the level of that noise. Otherwise the base judges the measurement."""
    operator = Mask(torch.tensor([True, False, False])) if is_orthonormal else MatrixOperator(MATRIX)
    matrix = torch.eye(3)[:1] if is_orthonormal else MATRIX
    model, count = mixture_sequence(), 2000
    found = sample_measured(model, operator, Y, count, noise=noise, settings=SETTINGS, generator=seeded_generator(0))
    mean, covariance = moments(*exact_posterior(matrix, Y, noise)[:3])
    spread = covariance.diagonal().sqrt()
    assert_z(found.draws.mean(0), mean, spread * count**-0.5)
    # Entries of a correlation matrix of normal draws have a standard error of at most sqrt(2 / n).
    assert_z(found.draws.T.cov(), covariance, spread.outer(spread) * (2 / count) ** 0.5)


def test_final_steps_find_a_step_size_that_is_accepted():
    """A Gaussian that is a hundredth as wide along the diagonal: steps of the prior's usual size are never accepted."""
    dim, count, noise = 64, 200, 0.05
    diagonal = torch.full((dim,), dim**-0.5)
    covariance = torch.eye(dim) - 0.9999 * diagonal.outer(diagonal)
    schedule = drl.NoiseSchedule.log_spaced(6, sigma_min=0.02)
    base = NoisedGaussianMixture(torch.ones(1), torch.zeros(1, dim), covariance[None])
    model, is_seen = drl.EnergySequence(schedule, NoTilt(), (dim,), base=base), torch.arange(dim) < 16
    y = torch.linspace(-1.0, 1.0, 16)
    settings = MeasuredSettings(PredictorCorrectorSettings(DDIMSettings(4, eta=1.0), num_corrections=0), num_final_steps=40)
    found = sample_measured(
        model, Mask(is_seen), y, count, noise=noise, settings=settings, generator=seeded_generator(0)
    )
    assert 0.4 < float(found.stats["acceptance_rate"][-1].mean()) < 0.9
    prior, seen = covariance.double(), torch.eye(dim).double()[:16]
    gain = prior @ seen.T @ torch.linalg.inv(seen @ prior @ seen.T + noise**2 * torch.eye(16))
    exact = prior - gain @ seen @ prior
    spread = exact.diagonal().sqrt()
    assert_z(found.draws.mean(0), gain @ y.double(), spread * count**-0.5)
    assert_z(found.draws.T.cov(), exact, spread.outer(spread) * (2 / count) ** 0.5)
    along, exact_along = found.draws.double() @ diagonal.double(), float(diagonal.double() @ exact @ diagonal.double())
    assert_z(float(along.var()), exact_along, exact_along * (2 / count) ** 0.5)


@pytest.mark.parametrize(("num_final_steps", "blocks"), [(0, []), (1, [1]), (3, [1, 2])])
def test_no_pass_is_made_for_final_steps_that_there_are_not(num_final_steps, blocks, monkeypatch):
    seen = []

    def counted(model, x, level, settings, **options):
        seen.append(settings.num_corrections)
        return correct(model, x, level, settings, **options)

    monkeypatch.setattr(measured, "correct", counted)
    base = NoisedGaussianMixture(torch.ones(1), torch.zeros(1, 4), torch.eye(4)[None])
    model = drl.EnergySequence(drl.NoiseSchedule.log_spaced(3, sigma_min=0.02), NoTilt(), (4,), base=base)
    walk = PredictorCorrectorSettings(DDIMSettings(2, eta=1.0), num_corrections=0)
    settings = MeasuredSettings(walk, num_final_steps=num_final_steps)
    sample_measured(model, Mask(torch.arange(4) < 1), torch.zeros(1), 5, noise=0.1, settings=settings)
    assert seen == blocks


def test_only_orthonormal_rows_are_enforced():
    assert has_orthonormal_rows(ComplexPairs(MaskedFourier(torch.eye(4, dtype=torch.bool))), (2, 4, 4))

    class Doubled(Mask):
        def forward(self, x):
            return 2 * super().forward(x)

    assert not has_orthonormal_rows(Doubled(torch.tensor([True, False, False])), (3,))


def test_noise_has_a_level():
    model = mixture_sequence()
    for level in (0.0, 1.7, 4.0):
        ratio = float(model.schedule.sigma_at(level) / model.schedule.alpha_at(level))
        assert level_of_noise(model, ratio) == pytest.approx(level, abs=1e-8)  # a logarithm and its inverse
    assert level_of_noise(model, 0.999 * 0.1 / 0.99**0.5) == 0.0
    top = float(model.schedule.sigma_at(6.0) / model.schedule.alpha_at(6.0))  # a sequence cannot end at its top
    assert level_of_noise(model, 0.05) is level_of_noise(model, top) is level_of_noise(model, 1e9) is None


def draws(operator=None, y=Y, walk=SETTINGS.walk.walk, **options):
    operator = operator or Mask(torch.tensor([True, False, False]))
    settings = MeasuredSettings(dataclasses.replace(SETTINGS.walk, walk=walk), num_final_steps=6)
    options = {"noise": NOISE, "settings": settings, "generator": seeded_generator(0)} | options
    return sample_measured(mixture_sequence(), operator, y, 4, **options).draws


def test_levels_of_a_walk_are_those_of_the_model():
    """The measured part is enforced near level 1.4, and the levels below are left out."""
    level = level_of_noise(mixture_sequence(), NOISE)
    below = DDIMSettings(levels=(6.0, 4.0, 2.0, level, 0.0), eta=1.0)
    assert torch.equal(draws(walk=below), draws(walk=DDIMSettings(levels=(6.0, 4.0, 2.0, 0.0), eta=1.0)))
    assert not torch.equal(draws(walk=below), draws(walk=DDIMSettings(levels=(6.0, 4.0, 1.7, 0.0), eta=1.0)))


@pytest.mark.parametrize("operator", [None, MatrixOperator(MATRIX)], ids=["enforced", "judged"])
def test_draws_are_clean_points_whether_or_not_the_walk_is_denoised(operator):
    walk = dataclasses.replace(SETTINGS.walk.walk, is_denoised=True)
    assert torch.equal(draws(operator, walk=walk), draws(operator))


@pytest.mark.parametrize("noise", [0.0, -0.1, torch.inf, torch.nan])
def test_noise_that_is_not_positive_and_finite_is_refused(noise):
    with pytest.raises(ValueError, match="noise must be positive and finite"):
        draws(noise=noise)


def test_a_projection_onto_complex_points_is_refused_with_the_way_out():
    inner = MaskedFourier(torch.eye(2, dtype=torch.bool))
    with pytest.raises(ValueError, match="those of the model are real: wrap it in ComplexPairs"):
        has_orthonormal_rows(inner, (2, 2))
    assert has_orthonormal_rows(ComplexPairs(inner), (2, 2, 2))
