"""A fitted base together with wider ones."""

import torch

from drl_density.partition_function.target_bases.defended import DefendedBase
from drl_density.partition_function.target_bases.mixture import MixtureBase
from drl_density.testing import assert_z, seeded_generator
from tests.partition_function.known_answers import three_gaussians

LIKE = torch.empty(0, dtype=torch.float64)


def test_defended_base_is_one_normalised_density():
    """E_b[1 / b] over a box is its area: the mean of 1 / b over draws inside."""
    weights, means, covariances = three_gaussians()
    narrow = MixtureBase(weights, means, 0.3 * covariances, LIKE)
    wide = MixtureBase(torch.ones(1), torch.zeros(1, 2), 9 * torch.eye(2)[None], LIKE)
    base = DefendedBase((narrow, wide), (0.6, 0.4), narrow)
    x = base.draw(20_000, seeded_generator(3))
    inside = (x.abs() < 2).all(1).double()
    assert_z(inside * (-base.log_prob(x)).exp(), 16.0)
