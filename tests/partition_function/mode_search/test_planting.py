"""Planted modes are found where starts surround them, and missed where they are needles."""

import math

import torch

from drl_density.partition_function.mode_search.climbs import Ground
from drl_density.partition_function.mode_search.planting import Soil, copied, gaussian
from drl_density.partition_function.mode_search.shape import measure_shape
from drl_density.partition_function.target_bases.mixture import MixtureBase


def round_target(x):
    return -0.5 * x.square().sum(-1)


def soil(dim, seed_width=None, log_density=round_target):
    base = MixtureBase(torch.ones(1), torch.zeros(1, dim), torch.eye(dim)[None], torch.zeros(1).double())
    generator = torch.Generator().manual_seed(0)
    unit = measure_shape(log_density, torch.zeros(dim).double())
    seed = copied(log_density, unit)
    if seed_width is not None:
        narrow = measure_shape(lambda x: -0.5 * (x / seed_width).square().sum(-1), torch.zeros(dim).double())
        seed = gaussian(narrow, 0.5 * dim * math.log(2 * math.pi))
    return Soil(log_density, Ground.of(base, generator), unit, seed), generator


def test_modes_like_the_target_are_found():
    ground, generator = soil(6)
    first, *others = ground.measure(64.0, 14, generator=generator)
    assert (first.mass, first.num_planted) == (0.2, 40)
    assert first.share >= 0.95
    assert [power.mass for power in others] == [0.05, 0.5, 0.2]
    assert others[2].width == 0.5 * first.width
    assert others[2].share < others[1].share  # half as wide is harder in six dimensions


def test_needles_are_missed_and_nothing_else_is_measured():
    ground, generator = soil(6, seed_width=0.05)
    (first,) = ground.measure(64.0, 14, generator=generator)
    assert (first.num_found, first.num_planted) == (0, 20)


def test_copies_have_the_tails_of_the_target():
    """A Gaussian far out in heavy tails is a needle; a copy of the target is not."""

    def heavy(x):
        return -2 * torch.log1p(x.square()).sum(-1)

    ground, generator = soil(3, log_density=heavy)
    assert ground.measure(64.0, 14, generator=generator)[0].share >= 0.95


def test_fewer_climbs_find_less():
    shares = []
    for per_width in (1, 14):
        ground, generator = soil(2, seed_width=0.3)
        shares.append(ground.measure(64.0, per_width, generator=generator)[0].share)
    assert shares[0] < shares[1]
