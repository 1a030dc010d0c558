"""Climbs remember where they began, and take the units of the target."""

import torch

from drl_density.partition_function.mode_search.climbs import WIDTHS, Climbs, Ground
from drl_density.partition_function.target_bases.mixture import MixtureBase


def ground(center=0.0, spread=1.0):
    base = MixtureBase(
        torch.ones(1), torch.full((1, 2), center), spread**2 * torch.eye(2)[None], torch.zeros(1).double()
    )
    return Ground.of(base, torch.Generator().manual_seed(0))


def test_starts_are_as_wide_as_the_base_times_every_width():
    own = ground(center=5.0, spread=3.0)
    starts, widths = own.starts(500, torch.Generator().manual_seed(1))
    for index, width in enumerate(WIDTHS):
        rows = starts[500 * index : 500 * (index + 1)]
        assert ((rows - own.center).std(0) / (3 * width) - 1).abs().max() < 0.15
    assert (widths / own.spread).unique().tolist() == list(WIDTHS)
    assert own.radius == 64 * own.spread


def test_hits_are_counted_by_origin():
    def pair(x):
        return torch.logaddexp(-0.5 * x.square().sum(-1), -0.5 * (x - 50).square().sum(-1))

    generator = torch.Generator().manual_seed(0)
    climbs = Climbs(pair, ground())
    climbs.find_unit(generator)
    pilots = [torch.full((9, 2), 50.0), torch.zeros(9, 2)]
    climbs.add(6, pilots=pilots, data=torch.full((40, 2), 49.0), starts=torch.zeros(2, 2), generator=generator)
    grouping = climbs.grouping()
    assert grouping.num_modes == 2
    (far,) = (index for index in range(2) if grouping.shapes[grouping.modes.index(index)].center[0] > 25)
    assert climbs.hits(grouping, 0) + climbs.hits(grouping, 1) == 4 * 8
    assert (climbs.pilots(grouping, far), climbs.pilots(grouping, 1 - far)) == (1, 1)
    assert (climbs.given(grouping, far), climbs.given(grouping, 1 - far)) == (24, 2)
