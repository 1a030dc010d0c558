"""Products of one-dimensional mixtures as bases."""

import math

import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from drl_density.partition_function.target_bases.product import ProductBase
from drl_density.testing import assert_z, seeded_generator


def test_product_density_and_draws():
    weights = torch.tensor([[0.3, 1.0], [0.7, 0.0]], dtype=torch.float64)  # a component without weight is no component
    means, spreads = torch.tensor([[-1.0, 0.5], [2.0, 9.0]]).double(), torch.tensor([[0.4, 2.0], [1.0, 1.0]]).double()
    base = ProductBase(weights, means, spreads)
    x = base.draw(20_000, seeded_generator(2))
    one = MixtureSameFamily(Categorical(weights[:, 0]), Normal(means[:, 0], spreads[:, 0])).log_prob(x[:, 0])
    torch.testing.assert_close(base.log_prob(x), one + Normal(0.5, 2.0).log_prob(x[:, 1]), rtol=1e-9, atol=1e-9)
    assert_z(x[:, 0], 0.3 * -1.0 + 0.7 * 2.0)


def test_a_defended_product_is_the_old_one_and_a_wide_normal():
    two = torch.tensor([[0.4, 0.5], [0.6, 0.5]]).double()
    base = ProductBase(two, 3 * two - 1.5, 0.5 + two)
    wider = base.defended(0.1, 2.0)
    x = base.draw(4000, seeded_generator(3))
    one = [ProductBase(two[:, [k]], 3 * two[:, [k]] - 1.5, 0.5 + two[:, [k]]).log_prob(x[:, [k]]) for k in range(2)]
    mean = (two * (3 * two - 1.5)).sum(0)
    spread = ((two * ((0.5 + two).square() + (3 * two - 1.5).square())).sum(0) - mean.square()).sqrt()
    wide = Normal(mean, 2 * spread).log_prob(x)
    exact = sum(torch.logaddexp(math.log(0.9) + one[k], math.log(0.1) + wide[:, k]) for k in range(2))
    torch.testing.assert_close(wider.log_prob(x), exact, rtol=1e-9, atol=1e-9)
