"""Flat coordinates: there and back, volumes, and units."""

import math

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

from drl_density.distributions import FittedSupport
from drl_density.partition_function.targets.coordinates import Coordinates
from drl_density.testing import seeded_generator
from drl_density.transforms import Affine, Composed


def test_a_density_moved_to_the_reals_keeps_its_mass():
    """The standard normal is moved by exp, and the volume makes its moved density that of a log-normal pulled back."""
    coordinates = Coordinates.onto(constraints.positive, torch.Size((2,)))
    coordinates = coordinates.rescaled(torch.tensor([1.0, 0.0]).double(), torch.tensor([3.0, 0.5]).double())
    u = torch.randn(5, 2, generator=seeded_generator(0), dtype=torch.float64)
    x, volume = coordinates.to_event_and_volume(u)
    torch.testing.assert_close(x, torch.exp(torch.tensor([1.0, 0.0]).double() + torch.tensor([3.0, 0.5]) * u))
    torch.testing.assert_close(coordinates.to_event(u), x)
    torch.testing.assert_close(coordinates.to_flat(x), u)
    moved = dist.LogNormal(torch.tensor([1.0, 0.0]).double(), torch.tensor([3.0, 0.5]).double()).to_event(1).log_prob(x)
    normal = dist.Normal(torch.zeros(2).double(), 1.0).to_event(1).log_prob(u)
    torch.testing.assert_close(moved + volume, normal)


def test_points_of_any_event_shape_are_flat():
    coordinates = Coordinates.onto(constraints.simplex, torch.Size((2, 4)))
    assert coordinates.num_features == 6
    x = coordinates.to_event(torch.randn(3, 6, generator=seeded_generator(1), dtype=torch.float64))
    assert x.shape == (3, 2, 4)
    torch.testing.assert_close(x.sum(-1), torch.ones(3, 2).double())
    single = Coordinates.onto(None, torch.Size())
    assert single.to_event(torch.zeros(3, 1).double()).shape == (3,)


def test_points_off_the_support_have_no_coordinates():
    coordinates = Coordinates.onto(constraints.interval(0.0, 1.0), torch.Size((1,)))
    found = coordinates.to_flat(torch.tensor([[0.5], [2.0], [-1.0]]))
    assert found.isfinite().flatten().tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("support", "size", "inner", "outer"),
    [
        (constraints.positive, 1, (-740.0, 709.0), (-760.0, 720.0)),
        (constraints.unit_interval, 1, (-700.0, 33.0), (-760.0, 39.0)),
        (constraints.greater_than(1.0), 1, (-33.0, 709.0), (-39.0, 720.0)),
        (constraints.simplex, 2, (-700.0, 700.0), (-800.0, 800.0)),
    ],
    ids=["exponential", "sigmoid", "shifted", "stick-breaking"],
)
def test_points_are_held_up_to_the_last_numbers(support, size, inner, outer):
    coordinates = Coordinates.onto(support, torch.Size((size,)))
    for values, expected in ((inner, True), (outer, False)):
        assert coordinates.hold(torch.tensor(values).double()[:, None]).tolist() == [expected] * 2


def test_points_of_a_fitted_density_are_placed_by_its_own_map():
    """Without bounds too: chains then move in model space, where the density was fitted, and not among the data."""
    support = FittedSupport(Composed([Affine(3.0, 2.0)]), torch.Size((2,)))
    coordinates = Coordinates.onto(support, torch.Size((2,)))
    u = torch.randn(4, 2, generator=seeded_generator(3), dtype=torch.float64)
    assert support.is_whole_space
    x, volume = coordinates.to_event_and_volume(u)
    assert not torch.allclose(x, u)
    torch.testing.assert_close(support.transform(x), u)
    torch.testing.assert_close(volume, torch.full((4,), -2 * math.log(2.0)).double())
