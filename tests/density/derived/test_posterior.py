"""Posteriors and evidence against quadrature."""

import math

import pytest
import torch

import drl_density as drl
from drl_density.errors import DataError, NumericalError

AXIS = torch.linspace(-7, 7, 561, dtype=torch.float64)


CELL = float(AXIS[1] - AXIS[0]) ** 2


SMALL = drl.AISSettings(num_particles=256, num_replicates=4, num_transitions=3)


def log_likelihood(x):
    """One noisy look at the sum of both coordinates."""
    return torch.distributions.Normal(0.5, 0.4).log_prob(x.sum(-1))


def test_posterior_and_evidence_match_quadrature(tiny_density):
    found = tiny_density.posterior(log_likelihood, num_samples=800, settings=SMALL, seed=0)
    grid = torch.cartesian_prod(AXIS, AXIS)
    joint = tiny_density.log_prob(grid) + log_likelihood(grid)
    evidence = float(joint.logsumexp(0)) + math.log(CELL)
    assert abs(found.log_z - evidence) < 5 * found.standard_error + 0.02
    shares = (joint - joint.logsumexp(0)).exp()
    mean = (shares[:, None] * grid).sum(0)
    spread = (shares[:, None] * (grid - mean) ** 2).sum(0).sqrt()
    assert float(((found.draws.mean(0) - mean) / spread).abs().max()) < 6 / math.sqrt(800) + 0.05
    assert found.r_hat.shape == (2,)
    assert found.interval()[0] < found.log_z < found.interval()[1]


def test_wrong_likelihoods_are_refused(tiny_density):
    with pytest.raises(DataError, match="one number per row"):
        tiny_density.posterior(lambda x: x)
    with pytest.raises(DataError, match="differentiable"):
        tiny_density.posterior(lambda x: x.detach().sum(-1))
    with pytest.raises(NumericalError, match="gave NaN"):
        tiny_density.posterior(lambda x: (x[..., 0] + 0.5).log(), num_samples=50, settings=SMALL)
    with pytest.raises(DataError, match="at least 2"):
        tiny_density.posterior(log_likelihood, num_samples=1)


def test_a_likelihood_may_be_zero_beyond_a_wall(tiny_density):
    """About half of the draws survive, and the evidence is their share."""

    def right_half(x):
        return torch.where(x[:, 0] > 0, 0.0, -math.inf) + 0 * x.sum(-1)

    found = tiny_density.posterior(right_half, num_samples=60, settings=SMALL, seed=0)
    assert bool((found.draws[:, 0] > 0).all())
    grid = torch.cartesian_prod(AXIS, AXIS)
    share = float(tiny_density.log_prob(grid[grid[:, 0] > 0]).logsumexp(0)) + math.log(CELL)
    assert abs(found.log_z - share) < 5 * found.standard_error + 0.02
