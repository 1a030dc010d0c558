"""Densities are zero outside their supports, and chains stay inside."""

import math
import pickle

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints

import drl_density as drl
from drl_density.distributions.supports import InsideSupport, ZeroOutside, inner_point, is_same_support, is_whole_space
from drl_density.errors import NumericalError
from drl_density.testing import assert_z, seeded_generator

BOX = constraints.stack([constraints.interval(0.0, 2.0), constraints.real, constraints.positive], dim=-1)


def test_whole_spaces():
    assert is_whole_space(constraints.independent(constraints.independent(constraints.real, 1), 1))
    assert is_whole_space(constraints.real_vector)
    assert not is_whole_space(BOX)


def test_supports_compare_by_value():
    again = constraints.stack([constraints.interval(0.0, 2.0), constraints.real, constraints.positive], dim=-1)
    other = constraints.stack([constraints.interval(0.0, 3.0), constraints.real, constraints.positive], dim=-1)
    assert is_same_support(BOX, again)
    assert not is_same_support(BOX, other)
    assert not is_same_support(constraints.positive, constraints.real)


def test_the_density_is_zero_outside_and_nan_at_nan():
    density = ZeroOutside(lambda x: x.log().sum(-1), BOX, 1)
    x = torch.tensor([[1.0, 1.0, 1.0], [3.0, 1.0, 1.0], [1.0, 1.0, -1.0], [1.0, math.nan, 1.0]])
    assert density(x)[:3].tolist() == [0.0, -math.inf, -math.inf]
    assert math.isnan(density(x)[3])
    assert pickle.loads(pickle.dumps(ZeroOutside(torch.sum, BOX, 1))).event_dim == 1
    assert bool(BOX.check(inner_point(BOX, torch.zeros(4, 3))).all())


def test_chains_on_a_half_line_have_its_law():
    """exp(-x) on x > 0: without the support the density grows without limit to the left."""
    target = drl.EnergyDistribution(lambda x: -x[:, 0], (1,), support=constraints.independent(constraints.positive, 1))
    draws = target.run(800, generator=seeded_generator(0)).draws
    assert bool((draws > 0).all())
    assert_z(draws, 1.0)


def test_starting_points_on_the_edge_are_replaced():
    sampler = InsideSupport(
        lambda log_density, initial, generator: drl.distributions.SampleResult(initial), constraints.positive
    )
    start = torch.tensor([0.0, 2.0, 0.0])
    assert sampler(torch.log, start, None).draws.tolist() == [2.0, 2.0, 2.0]
    with pytest.raises(NumericalError, match="none of 2 starting points"):
        sampler(torch.log, torch.zeros(2), None)


def test_a_product_over_different_supports_is_zero_outside_each():
    both = drl.product([dist.Normal(0.0, 1.0), dist.Exponential(1.0)])
    assert both.support is constraints.nonnegative
    draws = both.run(600, generator=seeded_generator(1)).draws
    truth = dist.Normal(-1.0, 1.0)  # x^2 / 2 + x is a normal density with mean -1, cut off at 0
    tail = 1 - truth.cdf(torch.tensor(0.0))
    assert_z(draws, float(-1 + truth.log_prob(torch.tensor(0.0)).exp() / tail))
    far = drl.product([dist.Normal(0.0, 1.0), dist.Uniform(50.0, 51.0)])
    with pytest.raises(NumericalError, match="no place to start"):
        far.sample((2,))


def test_a_mixture_over_different_supports_counts_each_where_it_is():
    mixed = drl.Mixture([dist.Normal(0.0, 1.0), dist.Exponential(1.0)], [1.0, 1.0])
    x = torch.tensor([-1.0, 1.0])
    normal = dist.Normal(0.0, 1.0).log_prob(x).exp()
    exact = 0.5 * torch.stack([normal[0], normal[1] + math.exp(-1)])
    assert torch.allclose(mixed.log_prob(x).exp(), exact)
    assert is_whole_space(mixed.support)
    assert mixed.class_log_prob(x)[0].exp().tolist() == [1.0, 0.0]
    assert bool(mixed.sample((50,)).isfinite().all())
