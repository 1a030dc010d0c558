"""Planted modes are found where they attract a start, and missed where they are needles."""

import dataclasses
import math

import pytest
import torch

from drl_density.partition_function.mode_search import planting
from drl_density.partition_function.mode_search.ascent import Climb
from drl_density.partition_function.mode_search.climbs import Ground
from drl_density.partition_function.mode_search.planting import Plants, Soil, copied, gaussian
from drl_density.partition_function.mode_search.record import Power
from drl_density.partition_function.mode_search.screen import screen
from drl_density.partition_function.mode_search.shape import measure_shape
from drl_density.partition_function.target_bases.mixture import MixtureBase


def round_target(x):
    return -0.5 * x.square().sum(-1)


def soil(dim, seed_width=None, log_density=round_target, num_starts=512):
    base = MixtureBase(torch.ones(1), torch.zeros(1, dim), torch.eye(dim)[None], torch.zeros(1).double())
    generator = torch.Generator().manual_seed(0)
    unit = measure_shape(log_density, torch.zeros(dim).double())
    seed = copied(log_density, unit)
    if seed_width is not None:
        narrow = measure_shape(lambda x: -0.5 * (x / seed_width).square().sum(-1), torch.zeros(dim).double())
        seed = gaussian(narrow, 0.5 * dim * math.log(2 * math.pi))
    ground = Ground.of(base, generator)
    starts = screen(log_density, *ground.starts(num_starts, generator), ())
    return Soil(log_density, ground, unit, seed, starts), generator


def test_modes_like_the_target_are_found_and_narrower_ones_until_they_are_missed():
    ground, generator = soil(6)
    first, light, *narrower = ground.measure(64.0, generator=generator)
    assert (first.mass, first.num_planted, first.is_copy) == (0.2, 40, True)
    assert first.share >= 0.95
    assert light.mass == 0.05
    assert [power.width / first.width for power in narrower] == [0.5]  # half as wide is missed, so none follows
    assert narrower[0].share < 0.95


def test_in_two_dimensions_far_narrower_modes_are_found():
    ground, generator = soil(2, num_starts=4096)
    first, _, *narrower = ground.measure(64.0, generator=generator)
    assert [power.width / first.width for power in narrower] == [0.5, 0.25, 0.125]
    assert min(power.share for power in narrower) >= 0.9


def test_needles_are_missed_and_nothing_else_is_measured():
    ground, generator = soil(6, seed_width=0.05)
    (first,) = ground.measure(64.0, generator=generator)
    assert (first.num_found, first.num_planted, first.is_copy) == (0, 20, False)


def test_copies_have_the_tails_of_the_target():
    """A Gaussian far out in heavy tails is a needle; a copy of the target is not."""

    def heavy(x):
        return -2 * torch.log1p(x.square()).sum(-1)

    ground, generator = soil(3, log_density=heavy, num_starts=256)
    assert ground.look(Power(0.2, 1.0, 64.0, 0, 0, True), generator).share >= 0.95


@pytest.mark.parametrize("power", [2.0, 1.0])
def test_a_copy_is_evaluated_at_few_starts_and_found_as_often(monkeypatch, power):
    """Narrow copies, of which some are missed: the starts left out attract none, for tails of either kind."""
    rows = []

    def density(x):
        rows.append(len(x))
        return -0.5 * (x.square().sum(-1) + 1e-6).pow(power / 2)

    def look():
        rows.clear()
        ground, generator = soil(5, log_density=density, num_starts=2048)
        made = sum(rows)
        case = Power(0.2, 0.4 * ground.seed.shape.width, 64.0, 0, 0, True)
        return ground.look(case, generator), sum(rows) - made

    found, few = look()
    monkeypatch.setattr(planting, "NUM_CANDIDATES", 2048)
    everywhere, many = look()
    assert found == everywhere
    assert few < 0.3 * many


def test_fewer_starts_find_less():
    shares = []
    for number in (4, 56):
        ground, generator = soil(2, seed_width=0.3, num_starts=number)
        shares.append(ground.measure(64.0, generator=generator)[0].share)
    assert shares[0] < shares[1]


def test_a_mode_whose_top_the_target_hides_counts_as_found():
    ground, generator = soil(2, num_starts=2)
    case = Power(0.05, 1.0, 0.5, 0, 0, True)
    assert ground.look(case, generator).share == 1


def test_the_end_of_a_climb_decides_whether_a_plant_is_found(monkeypatch):
    case = Power(0.2, 0.5, 30.0, 0, 0)
    ground, generator = soil(2, seed_width=0.5)
    assert ground.look(case, generator).share > 0.9

    def to_the_top_of_the_target(log_density, starts, **_):
        top = torch.zeros_like(starts)
        return Climb(top, log_density(top, torch.arange(len(top))), torch.ones(len(top)).bool())

    monkeypatch.setattr(planting, "climb_rows", to_the_top_of_the_target)
    assert ground.look(case, generator).share < 0.2


def test_climbs_that_end_early_count_the_same_plants_as_whole_ones(monkeypatch):
    """All starts lie where wide plants exceed the target by a few nats, and many climbs from there end in the target."""
    whole = planting.climb_rows
    angle = torch.arange(8).double() * math.pi / 4
    ring = 4 * torch.stack([angle.cos(), angle.sin()], 1)

    def look(*, ends_early):
        rows = []

        def counted(log_density, starts, *, is_done, **options):
            def seen(z, chosen):
                rows.append(len(z))
                return log_density(z, chosen)

            return whole(seen, starts, is_done=is_done if ends_early else None, **options)

        monkeypatch.setattr(planting, "climb_rows", counted)
        ground, generator = soil(2, seed_width=4.0)
        ground = dataclasses.replace(ground, starts=screen(round_target, ring, torch.ones(8), ()))
        return ground.look(Power(0.2, 4.0, 10.0, 0, 0), generator), sum(rows)

    (early, few), (late, many) = look(ends_early=True), look(ends_early=False)
    assert early == late
    assert 0.2 < early.share < 0.9
    assert few < 0.9 * many


def test_plants_of_any_width_have_their_mass():
    seed = soil(2, seed_width=1.0)[0].seed  # its mass is that of the target, 2 pi
    grid = torch.linspace(-8, 8, 201).double()
    points = torch.cartesian_prod(grid, grid)
    for width in (1.0, 0.5):
        plants = Plants(seed, torch.ones(1, 2).double(), width, math.log(0.25))
        mass = plants.log_density(points, torch.zeros(len(points), dtype=torch.long)).exp().sum() * (16 / 200) ** 2
        # The trapezoid rule is exact to rounding for a Gaussian of six grid steps or more.
        assert float(mass) == pytest.approx(0.25 * 2 * math.pi, rel=1e-6)
