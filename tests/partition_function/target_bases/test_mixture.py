"""Mixtures of Gaussians as bases."""

import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from drl_density.partition_function.target_bases.mixture import MixtureBase
from drl_density.testing import assert_z, seeded_generator
from tests.partition_function.known_answers import three_gaussians

LIKE = torch.empty(0, dtype=torch.float64)


def test_mixture_density_and_draws():
    weights, means, covariances = three_gaussians()
    base = MixtureBase(weights, means, covariances, LIKE)
    exact = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covariances))
    x = base.draw(20_000, seeded_generator(1))
    torch.testing.assert_close(base.log_prob(x), exact.log_prob(x), rtol=1e-9, atol=1e-9)
    assert_z(x[:, 0], float((weights * means[:, 0]).sum()))
    second = covariances[:, 0, 1] + means[:, 0] * means[:, 1]
    assert_z(x[:, 0] * x[:, 1], float((weights * second).sum()))
