"""Posteriors by blocks, against the usual formulas with whole matrices."""

import pytest
import torch

from drl_density.inverse_problems import ConditionedBase, MeasuredGaussian, Measurements, sample_factor_posterior
from drl_density.operators import GramBlocks, MatrixOperator
from drl_density.testing import assert_z, seeded_generator
from tests.inverse_problems.test_conditioned_base import BASE, MATRIX, NOISE, Y, exact_posterior, moments
from tests.operators.test_gram import LINES, SIZE, coils, whole_matrix

D = 2 * SIZE * SIZE


def line_problem():
    """Coils on lines of frequencies: blocks, loadings, noises, means and measurements, and the whole matrix."""
    operator = coils(torch.tensor([True, False, False, True, False, False]).expand(SIZE, SIZE))
    generator = seeded_generator(0)
    loadings = torch.randn(D, 3, generator=generator, dtype=torch.float64)
    noises = 0.1 + torch.rand(D, generator=generator, dtype=torch.float64)
    means = torch.randn(2, D, generator=generator, dtype=torch.float64)
    x = means + torch.randn(2, D, generator=generator, dtype=torch.float64)
    gram = GramBlocks(operator, (2, SIZE, SIZE), LINES)
    y = operator.forward(x.reshape(-1, 2, SIZE, SIZE))
    return gram, loadings, noises, means, y, whole_matrix(operator, (2, SIZE, SIZE))


def test_means_draws_and_evidence_are_those_of_whole_matrices():
    gram, loadings, noises, means, y, matrix = line_problem()
    law, measured = MeasuredGaussian(loadings, noises, gram, noise=NOISE), Measurements.of(gram, y)
    prior = loadings @ loadings.T + torch.diag(noises)
    innovation = matrix @ prior @ matrix.T + NOISE**2 * torch.eye(len(matrix), dtype=torch.float64)
    gain = prior @ matrix.T @ torch.linalg.inv(innovation)
    gaps = torch.view_as_real(y).flatten(1) - means @ matrix.T
    mean, covariance = means + gaps @ gain.T, prior - gain @ matrix @ prior
    # Matrices of condition 1e3 in float64.
    torch.testing.assert_close(law.mean(means, measured), mean, rtol=0, atol=1e-9)
    exact = torch.distributions.MultivariateNormal(torch.zeros(len(matrix)).double(), innovation).log_prob(gaps)
    found = law.observed_log_density(means, measured)
    torch.testing.assert_close(found[0] - found[1], exact[0] - exact[1], rtol=1e-9, atol=1e-9)
    other = MeasuredGaussian(2 * loadings, noises, gram, noise=NOISE)
    wider = innovation + 3 * matrix @ loadings @ loadings.T @ matrix.T
    exact_other = torch.distributions.MultivariateNormal(torch.zeros(len(matrix)).double(), wider).log_prob(gaps)
    gain = other.observed_log_density(means, measured) - found
    torch.testing.assert_close(gain, exact_other - exact, rtol=1e-9, atol=1e-9)
    count = 4000
    draws = law.sample(means[:1], Measurements(measured.pulled[:1], measured.squares[:1]).repeat(count))
    spread = covariance.diagonal().sqrt()
    assert_z(draws.mean(0), mean[0], spread * count**-0.5)
    # Entries of a correlation matrix of normal draws have a standard error of at most sqrt(2 / n).
    assert_z(draws.T.cov(), covariance, spread.outer(spread) * (2 / count) ** 0.5)


def test_draws_of_a_mixture_have_the_moments_of_its_posterior():
    gram, count = GramBlocks(MatrixOperator(MATRIX.double()), (3,)), 4000
    draws = sample_factor_posterior(
        BASE, gram, Measurements.of(gram, Y[None]), count, noise=NOISE, generator=seeded_generator(0)
    )[0]
    mean, covariance = moments(*exact_posterior()[:3])
    spread = covariance.diagonal().sqrt()
    assert_z(draws.mean(0), mean, spread * count**-0.5)
    assert_z(draws.T.cov(), covariance, spread.outer(spread) * (2 / count) ** 0.5)
    whole = ConditionedBase(BASE, MatrixOperator(MATRIX), (3,), noise=NOISE)(Y)
    torch.testing.assert_close(moments(whole.log_weights.exp().double(), whole.conditional().means, whole.covariances())[0],
                               mean, rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_is_refused():
    gram, loadings, noises, _, y, _ = line_problem()
    with pytest.raises(ValueError, match="noise must be positive"):
        MeasuredGaussian(loadings, noises, gram, noise=0.0)
    with pytest.raises(ValueError, match="every noise variance must be positive"):
        MeasuredGaussian(loadings, 0 * noises, gram, noise=0.1)
    with pytest.raises(ValueError, match="expected loadings"):
        MeasuredGaussian(loadings[1:], noises, gram, noise=0.1)
    with pytest.raises(ValueError, match="expected finite measurements"):
        Measurements.of(gram, y * torch.nan)
