"""Flat coordinates: there and back, volumes, and units."""

import pyro.distributions as dist
import torch
from torch.distributions import constraints

from drl_density.partition_function.targets.coordinates import Coordinates
from drl_density.testing import seeded_generator


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
