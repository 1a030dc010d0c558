"""Units of coordinates: wide targets, walls, tails and funnels."""

import math

import pytest
import torch

from drl_density.partition_function.targets.coordinates import Coordinates
from drl_density.partition_function.targets.flat_density import FlatDensity
from drl_density.partition_function.targets.ground import find_ground
from drl_density.partition_function.targets.units import find_units
from drl_density.testing import seeded_generator
from tests.partition_function.known_answers import funnel


def units(function, dim, data=None):
    flat = FlatDensity(function, Coordinates.onto(None, torch.Size((dim,))))
    ground = find_ground(flat, base=None, data=data, generator=seeded_generator(0))
    return find_units(flat, ground, base=None, data=data, generator=seeded_generator(0))


def gaussian(center, spread):
    return lambda x: -0.5 * ((x - center) / torch.as_tensor(spread)).square().sum(1)


@pytest.mark.parametrize("dim", [1, 5, 40])
def test_a_wide_gaussian_gets_wide_units(dim):
    center, unit = units(gaussian(5e5, 1e6), dim)
    assert center.tolist() == [0.0] * dim
    assert 1e5 <= float(unit.min()) <= float(unit.max()) <= 1e7


def test_each_coordinate_has_its_own_unit():
    _, unit = units(gaussian(0.0, [1e5, 1.0, 1e-4]), 3)
    assert 1e4 <= float(unit[0]) <= 1e6
    assert unit[1:].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("function", "dim"),
    [
        (gaussian(0.0, 0.3), 4),
        (gaussian(1.0, 1e-6), 4),
        (lambda x: -(1 + x.square()).log().sum(1), 1),
        (lambda x: -(1 + x.square()).log().sum(1), 10),
        (funnel, 10),
        (lambda x: 0 * x.sum(1), 2),
    ],
    ids=["unit", "narrow", "Cauchy", "ten Cauchys", "funnel", "flat everywhere"],
)
def test_other_targets_keep_their_units(function, dim):
    assert units(function, dim)[1].tolist() == [1.0] * dim


def test_a_wall_does_not_hide_the_width_beside_it():
    _, unit = units(lambda x: torch.where((x > 0).all(1), -x.sum(1) / 1e6, -math.inf), 2)
    assert float(unit.min()) >= 1e5
    _, box = units(lambda x: torch.where((x.abs() < 1e4).all(1), 0.0, -math.inf), 3)
    assert 1e3 <= float(box.min()) <= 1e5


def test_rows_of_data_give_center_and_unit():
    rows = torch.tensor([1e6, 0.0]) + torch.tensor([1e-3, 1.0]) * torch.randn(200, 2, generator=seeded_generator(1))
    center, unit = units(gaussian(torch.tensor([1e6, 0.0]), [1e-3, 1.0]), 2, data=rows.double())
    assert float(center[0]) == pytest.approx(1e6, abs=1)
    assert unit[1] == 1.0
    assert center[1] == 0.0
