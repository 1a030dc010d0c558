"""Bases fitted to pilot draws."""

import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from drl_density.partition_function.target_bases.fitted_base import DefendedBase, MixtureBase, ProductBase, fit_base
from drl_density.partition_function.target_bases.scale_base import ScaleBase
from drl_density.testing import assert_z, seeded_generator

LIKE = torch.empty(0, dtype=torch.float64)


def mixture(seed=0):
    generator = seeded_generator(seed)
    factors = torch.randn(3, 2, 2, generator=generator, dtype=torch.float64)
    covariances = 0.1 * torch.eye(2).double() + factors @ factors.mT
    means = 2 * torch.randn(3, 2, generator=generator, dtype=torch.float64)
    return torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64), means, covariances


def test_mixture_density_and_draws():
    weights, means, covariances = mixture()
    base = MixtureBase(weights, means, covariances, LIKE)
    exact = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covariances))
    x = base.draw(20_000, seeded_generator(1))
    torch.testing.assert_close(base.log_prob(x), exact.log_prob(x), rtol=1e-9, atol=1e-9)
    assert_z(x[:, 0], float((weights * means[:, 0]).sum()))
    second = covariances[:, 0, 1] + means[:, 0] * means[:, 1]
    assert_z(x[:, 0] * x[:, 1], float((weights * second).sum()))


def test_product_density_and_draws():
    weights = torch.tensor([[0.3, 1.0], [0.7, 0.0]], dtype=torch.float64)  # a component without weight is no component
    means, spreads = torch.tensor([[-1.0, 0.5], [2.0, 9.0]]).double(), torch.tensor([[0.4, 2.0], [1.0, 1.0]]).double()
    base = ProductBase(weights, means, spreads)
    x = base.draw(20_000, seeded_generator(2))
    one = MixtureSameFamily(Categorical(weights[:, 0]), Normal(means[:, 0], spreads[:, 0])).log_prob(x[:, 0])
    torch.testing.assert_close(base.log_prob(x), one + Normal(0.5, 2.0).log_prob(x[:, 1]), rtol=1e-9, atol=1e-9)
    assert_z(x[:, 0], 0.3 * -1.0 + 0.7 * 2.0)


def test_defended_base_is_one_normalised_density():
    """E_b[1 / b] over a box is its area: the mean of 1 / b over draws inside."""
    weights, means, covariances = mixture()
    narrow = MixtureBase(weights, means, 0.3 * covariances, LIKE)
    wide = MixtureBase(torch.ones(1), torch.zeros(1, 2), 9 * torch.eye(2)[None], LIKE)
    base = DefendedBase((narrow, wide), (0.6, 0.4), narrow)
    x = base.draw(20_000, seeded_generator(3))
    inside = (x.abs() < 2).all(1).double()
    assert_z(inside * (-base.log_prob(x)).exp(), 16.0)


def test_the_best_kind_is_kept():
    generator = seeded_generator(4)
    signs = 2.0 * torch.randint(0, 2, (4, 400, 6), generator=generator) - 1
    wells = signs + 0.2 * torch.randn(4, 400, 6, generator=generator)
    assert isinstance(fit_base(wells).parts[0], ProductBase)
    first = 3 * torch.randn(4, 400, 1, generator=generator)
    neck = torch.cat([first, (first / 2).exp() * torch.randn(4, 400, 5, generator=generator)], -1)
    base = fit_base(neck[..., [1, 0, 2, 3, 4, 5]])
    assert isinstance(base.parts[0], ScaleBase)
    assert base.local is base.parts[0].chart
    assert base.local.driver == 1
    crossed = torch.stack([first[..., 0], torch.where(neck[..., 1] > 0, 1.0, -1.0) * first[..., 0]], -1)
    base = fit_base(crossed + 0.1 * torch.randn(crossed.shape, generator=generator))
    assert base.local.num_components > 1
    assert base.parts[0] is base.local


def test_a_coordinate_that_does_not_vary_still_gets_a_base():
    draws = torch.randn(4, 200, 3, generator=seeded_generator(10))
    draws[..., 2] = 1.5
    base = fit_base(draws)
    assert not isinstance(base.parts[0], ScaleBase)
    assert bool(base.log_prob(draws.flatten(0, 1)).isfinite().all())
