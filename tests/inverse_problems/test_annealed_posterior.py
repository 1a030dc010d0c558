"""Annealed posterior draws against the exact posterior of a linear Gaussian model."""

import math

import torch

import drl_density as drl
from drl_density.inverse_problems import (
    gaussian_likelihood,
    sample_posterior,
)
from drl_density.operators import MatrixOperator
from drl_density.testing import assert_z, seeded_generator
from tests.inverse_problems.linear_gaussian import exact_posterior


def test_annealed_posterior_is_the_exact_one(correlated):
    matrix, y = torch.tensor([[1.0, 0.5, 0.0]], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    likelihood = gaussian_likelihood(correlated.model, MatrixOperator(matrix), y, noise=0.2)
    found = sample_posterior(
        correlated.model,
        likelihood,
        num_samples=1500,
        settings=drl.AISSettings(num_particles=256, num_replicates=4, num_transitions=4),
        generator=seeded_generator(0),
    )
    mean, covariance, evidence = exact_posterior(correlated, matrix, y, 0.2)
    spread = covariance.diagonal().sqrt()
    assert float(((found.draws.mean(0) - mean) / spread).abs().max()) < 5 / math.sqrt(1500) + 0.03
    assert float((found.draws.std(0) / spread - 1).abs().max()) < 0.12
    assert_z(found.estimate.log_z, evidence, found.estimate.standard_error + 0.005)
