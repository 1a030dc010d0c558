"""Given bases over flat coordinates, and pilots' draws kept to where a target has density."""

import math

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

from drl_density.errors import NumericalError
from drl_density.partition_function.targets.coordinates import Coordinates
from drl_density.partition_function.targets.flat_base import alive_base, flat_base
from drl_density.testing import seeded_generator


def test_a_flat_base_has_the_density_and_draws_of_its_own():
    base = dist.Normal(torch.zeros(2, 3), 2.0).to_event(2)
    flat = flat_base(base, Coordinates.onto(None, torch.Size((2, 3))))
    rows = flat.draw(5, seeded_generator(7))
    assert rows.shape == (5, 6)
    assert rows.dtype == torch.float64
    assert flat.event_shape == (6,)
    torch.testing.assert_close(flat.log_prob(rows), base.log_prob(rows.reshape(5, 2, 3)).double())


def test_a_base_moves_with_the_support():
    base = dist.LogNormal(torch.zeros(2), 1.0).to_event(1)
    flat = flat_base(base, Coordinates.onto(constraints.positive, torch.Size((2,))))
    rows = flat.draw(4000, seeded_generator(0))
    assert float(rows.mean().abs()) < 0.1
    normal = dist.Normal(torch.zeros(2).double(), 1.0).to_event(1)
    torch.testing.assert_close(flat.log_prob(rows), normal.log_prob(rows))


def test_a_box_is_zero_outside_and_draws_on_an_edge_are_replaced():
    box = dist.Uniform(torch.zeros(1), torch.ones(1)).to_event(1)
    over_reals = flat_base(box, Coordinates.onto(None, torch.Size((1,))))
    assert over_reals.log_prob(torch.tensor([[0.5], [1.5]]).double()).tolist() == [0.0, -math.inf]
    edge = dist.Beta(torch.full((1,), 0.02), torch.full((1,), 0.02)).to_event(1)  # draws of exactly 0 and 1 in float32
    moved = flat_base(edge, Coordinates.onto(constraints.unit_interval, torch.Size((1,))))
    assert bool(moved.draw(2000, seeded_generator(1)).isfinite().all())


def test_a_base_elsewhere_is_refused():
    base = dist.Normal(torch.full((1,), -50.0), 1.0).to_event(1)
    with pytest.raises(NumericalError, match="lies inside the target's support"):
        flat_base(base, Coordinates.onto(constraints.positive, torch.Size((1,)))).draw(10, None)


def test_draws_of_a_pilot_lie_where_the_target_has_density():
    base = flat_base(dist.Normal(torch.zeros(3).double(), 1.0).to_event(1), Coordinates.onto(None, torch.Size((3,))))

    def octant(x):
        return torch.where((x > 1).all(1), 0.0, -math.inf)  # 0.4 % of the draws

    rows = alive_base(base, octant).draw(50, seeded_generator(2))
    assert rows.shape == (50, 3)
    assert bool((rows > 1).all())
    assert len(rows[:, 0].unique()) == 50
    with pytest.raises(NumericalError, match="no density at any"):
        alive_base(base, lambda x: torch.full((len(x),), -math.inf)).draw(4, None)
