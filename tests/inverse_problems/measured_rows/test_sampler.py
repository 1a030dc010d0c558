"""Draws for many measurements, against the exact posterior of a Gaussian."""

import pytest
import torch

import drl_density as drl
from drl_density.bases import FactorAnalysers
from drl_density.inverse_problems import DenoisingErrors, MeasuredRowSettings, sample_measured_rows
from drl_density.networks.contract import NoTilt
from drl_density.operators import GramBlocks, MatrixOperator
from drl_density.testing import assert_z, seeded_generator

MEAN, LOADINGS = torch.tensor([0.5, -0.3, 0.2]), torch.tensor([[0.8], [0.5], [-0.4]])
NOISES = torch.tensor([0.1, 0.2, 0.15])
# Rows of different lengths, which no projection makes orthonormal.
MATRIX, Y = torch.tensor([[0.9, 0.3, 0.0], [0.0, 0.4, -0.5]]).double(), torch.tensor([0.9, -0.4]).double()
COUNT = 3000


def gaussian_sequence():
    base = FactorAnalysers(torch.ones(1), MEAN[None], LOADINGS[None], NOISES[None])
    return drl.EnergySequence(drl.NoiseSchedule.log_spaced(6, sigma_min=0.1), NoTilt(), (3,), base=base)


def exact_moments(noise):
    prior = (LOADINGS @ LOADINGS.T + torch.diag(NOISES)).double()
    gain = prior @ MATRIX.T @ torch.linalg.inv(MATRIX @ prior @ MATRIX.T + noise**2 * torch.eye(2).double())
    return MEAN.double() + gain @ (Y - MATRIX @ MEAN.double()), prior - gain @ MATRIX @ prior


def check(draws, noise):
    mean, covariance = exact_moments(noise)
    spread = covariance.diagonal().sqrt()
    assert_z(draws.mean(0), mean, spread * len(draws) ** -0.5)
    # Entries of a correlation matrix of normal draws have a standard error of at most sqrt(2 / n).
    assert_z(draws.T.cov(), covariance, spread.outer(spread) * (2 / len(draws)) ** 0.5)


@pytest.mark.parametrize("noise", [0.3, 0.05])  # level 0 has less noise than the one, and more than the other
def test_draws_have_the_moments_of_the_exact_posterior(noise):
    model, gram = gaussian_sequence(), GramBlocks(MatrixOperator(MATRIX), (3,))
    errors = DenoisingErrors.of_base(model, num_steps=5)
    settings = MeasuredRowSettings(num_final_steps=4, batch_size=COUNT)
    found = sample_measured_rows(
        model, gram, Y[None], COUNT, errors=errors, noise=noise, settings=settings, generator=seeded_generator(0)
    )
    check(found.draws[0].double(), noise)
    assert bool(found.stats["acceptance_rate"].isnan().all()) == (noise < 0.1)


def test_the_last_steps_reach_the_exact_posterior_by_themselves():
    """The walk ends far from the posterior, since it takes the errors for far smaller than they are.

    The noise of level 0 explains 0.4 of the variance of the measurement, so that no term of the likelihood is small.
    """
    model, gram = gaussian_sequence(), GramBlocks(MatrixOperator(MATRIX), (3,))
    exact = DenoisingErrors.of_base(model, num_steps=5)
    loadings = tuple(1e-4 * each if index < 4 else each for index, each in enumerate(exact.loadings))
    noises = tuple(1e-8 * each if index < 4 else each for index, each in enumerate(exact.noises))
    blind = DenoisingErrors(exact.levels, loadings, noises)
    settings = MeasuredRowSettings(num_final_steps=150, batch_size=COUNT)
    found = sample_measured_rows(
        model, gram, Y[None], COUNT, errors=blind, noise=0.15, settings=settings, generator=seeded_generator(1)
    )
    check(found.draws[0].double(), 0.15)


def test_what_does_not_fit_is_refused():
    model, gram = gaussian_sequence(), GramBlocks(MatrixOperator(MATRIX), (3,))
    errors = DenoisingErrors.of_base(model, num_steps=5)
    with pytest.raises(ValueError, match="noise must be positive"):
        sample_measured_rows(model, gram, Y[None], 3, errors=errors, noise=0.0)
    with pytest.raises(TypeError, match=r"gram must be GramBlocks\(operator, event_shape\), got MatrixOperator"):
        sample_measured_rows(model, MatrixOperator(MATRIX), Y[None], 3, errors=errors, noise=0.1)
    with pytest.raises(ValueError, match="expected an operator on points of shape"):
        sample_measured_rows(model, GramBlocks(MatrixOperator(MATRIX[:, :2]), (2,)), Y[None], 3, errors=errors, noise=0.1)
