"""Climbs remember where they began, and take the units of the target."""

import math

import torch

from drl_density.partition_function.mode_search.climbs import Climbs, Ground
from drl_density.partition_function.mode_search.components import ComponentBase
from drl_density.partition_function.mode_search.shape import measure_shape
from drl_density.partition_function.target_bases.contract import GivenBase
from drl_density.partition_function.target_bases.mixture import MixtureBase


def ground(center=0.0, spread=1.0):
    base = MixtureBase(
        torch.ones(1), torch.full((1, 2), center), spread**2 * torch.eye(2)[None], torch.zeros(1).double()
    )
    return Ground.of(base, torch.Generator().manual_seed(0))


def pair(x):
    return torch.logaddexp(-0.5 * x.square().sum(-1), -0.5 * (x - 50).square().sum(-1))


def test_starts_are_as_wide_as_the_base_times_widths_from_1_to_64():
    own = ground(center=5.0, spread=3.0)
    starts, widths = own.starts(600, torch.Generator().manual_seed(1))
    octaves = (widths / own.spread).log2()
    assert octaves.min() >= 0
    assert octaves.max() <= 6
    assert torch.histc(octaves, 6, 0, 6).tolist() == [100] * 6
    assert (((starts - own.center) / widths[:, None]).std(0) - 1).abs().max() < 0.15
    assert own.radius == 64 * own.spread


def test_the_highest_point_of_a_base_is_climbed_to():
    assert (ground(center=5.0).highest() - 5).abs().max() < 1e-6
    flat = GivenBase(lambda x: torch.zeros(len(x)), lambda count, generator: torch.rand(count, 2), torch.Size((2,)))
    own = Ground.of(flat, None)
    assert own.highest().equal(own.center[None])


def test_hits_are_counted_by_origin():
    generator = torch.Generator().manual_seed(0)
    climbs = Climbs(pair, ground())
    climbs.find_unit(generator)
    climbs.from_random(24, 24, (), generator)
    climbs.from_pilots([torch.full((9, 2), 50.0), torch.zeros(9, 2)])
    climbs.from_given(torch.full((40, 2), 49.0), torch.zeros(2, 2), generator)
    grouping = climbs.grouping()
    assert grouping.num_modes == 2
    (far,) = (index for index in range(2) if grouping.shapes[grouping.modes.index(index)].center[0] > 25)
    assert climbs.hits(grouping, 0) + climbs.hits(grouping, 1) == climbs.num_random == 8 + 24
    assert (climbs.pilots(grouping, far), climbs.pilots(grouping, 1 - far)) == (1, 1)
    assert (climbs.given(grouping, far), climbs.given(grouping, 1 - far)) == (24, 2)


def test_starts_that_point_to_a_known_mode_are_counted_without_a_climb():
    """Their number of hits is that of climbs from the same starts."""
    hits, climbed = [], []
    for is_known in (False, True):
        generator = torch.Generator().manual_seed(0)
        climbs = Climbs(pair, ground())
        climbs.find_unit(generator)
        climbs.from_random(40, 40, (), generator)
        shapes = climbs.grouping().shapes if is_known else ()
        climbed.append(climbs.from_random(400, 400, shapes, generator))
        grouping = climbs.grouping()
        hits.append([climbs.hits(grouping, mode) for mode in range(grouping.num_modes)])
    assert hits[0] == hits[1]
    assert climbed[0] == 400
    assert climbed[1] < 20


def test_starts_after_the_last_climb_are_left_out():
    climbs = Climbs(pair, ground())
    assert climbs.from_random(100, 30, (), torch.Generator().manual_seed(0)) == 30
    assert climbs.num_random == len(climbs.random.value) == 30


def test_the_middle_of_the_base_is_looked_at():
    """A spike 0.002 wide there, beside a unit Gaussian two away in five dimensions, attracts no random start."""

    def spike(x):
        return torch.logaddexp(-0.5 * (x - 2).square().sum(-1), -0.5 * (x / 2e-3).square().sum(-1) - 5 * math.log(2e-3))

    generator = torch.Generator().manual_seed(0)
    base = MixtureBase(torch.ones(1), torch.zeros(1, 5), torch.eye(5)[None], torch.zeros(1).double())
    climbs = Climbs(spike, Ground.of(base, generator))
    climbs.from_random(50, 50, (), generator)
    assert climbs.ends.value.max() < 1
    climbs.from_inside((), 10, generator)
    assert climbs.ends.value.max() > 30
    assert climbs.num_random == 50


def test_points_inside_a_mode_find_a_narrower_one_there():
    """The spike lies 0.7 widths from the center of the unit Gaussian in two dimensions."""

    def spike(x):
        return torch.logaddexp(-0.5 * x.square().sum(-1), -0.5 * ((x - 0.5) / 0.2).square().sum(-1) - 2 * math.log(0.2))

    wide = measure_shape(lambda x: -0.5 * x.square().sum(-1), torch.zeros(2).double())
    climbs = Climbs(spike, ground(center=40.0))
    climbs.from_inside((wide,), 30, torch.Generator().manual_seed(0))
    assert climbs.ends.value.max() > 3


def test_lost_starts_are_counted():
    climbs = Climbs(lambda x: torch.where(x[:, 0] > 0, -x.square().sum(-1), -math.inf), ground())
    climbs.from_random(200, 200, (), torch.Generator().manual_seed(0))
    assert 70 < climbs.num_lost < 130


def test_expensive_targets_and_few_dimensions_take_fewer_points_of_a_sweep():
    """In two dimensions a quarter of them; a 32nd where a point costs thousands of numbers."""
    shape = measure_shape(lambda x: -x.square().sum(-1), torch.zeros(2).double())
    known, rows = ComponentBase([shape], torch.tensor([[0.9], [0.1]])), torch.ones(2, 5000).double()
    counts = []
    for density in (lambda x: -x.square().sum(-1), lambda x: -x.square().sum(-1) - 1e-9 * (x @ rows).square().mean(-1)):
        seen = []
        climbs = Climbs(lambda x, density=density, seen=seen: seen.append(len(x)) or density(x), ground())
        climbs.from_sweep(known, 3200, torch.Generator().manual_seed(0))
        counts.append(max(seen))
    assert counts == [800, 104]
