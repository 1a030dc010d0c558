"""Energies: shapes of events, starting points, supports."""

import math
import warnings

import pytest
import torch
from pyro.distributions import constraints

from drl_density import ChainSampler, EnergyDistribution
from drl_density.distributions import SampleResult
from drl_density.errors import DivergenceWarning
from drl_density.testing import assert_z, seeded_generator


def test_events_of_image_shape():
    target = EnergyDistribution.from_log_density(lambda x: -0.5 * x.square().flatten(1).sum(1), (3, 4, 5))
    target = target.with_sampler(ChainSampler(num_warmup=5, num_steps=2))
    x = target.expand(torch.Size([2])).sample((6,))
    assert x.shape == (6, 2, 3, 4, 5)
    assert target.support.event_dim == 3
    torch.testing.assert_close(target.log_prob(x), -0.5 * x.square().flatten(2).sum(2))
    with pytest.raises(ValueError, match="event_shape"):
        target.log_prob(torch.zeros(4, 5))


def test_starting_points_lie_in_the_support():
    target = EnergyDistribution.from_log_density(
        lambda x: -x.sum(-1), (2,), support=constraints.independent(constraints.positive, 1)
    ).with_sampler(lambda log_density, initial, generator: SampleResult(initial))
    starts = target.run(200, generator=seeded_generator(0)).draws
    assert bool((starts > 0).all())
    assert_z(starts.log().double(), 0.0)  # the exponential of N(0, 1)
    with pytest.raises(ValueError, match="support"):
        target.log_prob(torch.tensor([1.0, -1.0]))


def test_given_starting_points_are_used():
    start = torch.tensor([[1.0, 2.0]])
    target = EnergyDistribution(
        lambda x: -x.square().sum(-1),
        (2,),
        initial=lambda num_rows, generator: start.expand(num_rows, 2),
        sampler=lambda log_density, initial, generator: SampleResult(initial),
    )
    assert torch.equal(target.sample(3), start.expand(3, 2))


def test_chains_start_where_the_density_is_positive():
    """An eighth of the starting points of N(0, I) lie in the corner; none of the draws leaves it."""

    def corner(x):
        return torch.where((x > 0).all(-1), -0.5 * x.square().sum(-1), -torch.inf)

    target = EnergyDistribution.from_log_density(corner, (3,)).with_sampler(ChainSampler(num_warmup=50, num_steps=20))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DivergenceWarning)  # proposals behind the wall count as divergent
        x = target.run((500,), generator=seeded_generator(3)).draws
    assert bool((x > 0).all())
    assert_z(x[:, 0], (2 / math.pi) ** 0.5)
