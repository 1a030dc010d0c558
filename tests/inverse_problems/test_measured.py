"""Draws given a measurement, against exact posteriors of a mixture."""

import pytest
import torch

from drl_density.inverse_problems import MeasuredSettings, sample_measured
from drl_density.inverse_problems.measured import has_orthonormal_rows, level_of_noise
from drl_density.operators import Mask, MaskedFourier, MatrixOperator
from drl_density.samplers import DDIMSettings, PredictorCorrectorSettings
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


def test_only_orthonormal_rows_are_enforced():
    assert has_orthonormal_rows(MaskedFourier(torch.eye(4, dtype=torch.bool)), (4, 4))

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
    assert level_of_noise(model, 0.05) is level_of_noise(model, 1e9) is None
