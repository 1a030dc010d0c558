"""Points with density: found at any scale, and the cause named where there are none."""

import math

import pytest
import torch

from drl_density.partition_function.targets.coordinates import Coordinates
from drl_density.partition_function.targets.flat_density import FlatDensity
from drl_density.partition_function.targets.ground import find_ground, highest_value
from drl_density.testing import seeded_generator


def flat(function, dim=2):
    return FlatDensity(function, Coordinates.onto(None, torch.Size((dim,))))


def found(function, dim=2, data=None):
    return find_ground(flat(function, dim), base=None, data=data, generator=seeded_generator(0))


@pytest.mark.parametrize("size", [1e-7, 1.0, 1e7])
def test_a_box_of_any_size_is_found(size):
    ground = found(lambda x: torch.where((x.abs() < size).all(1), -x.abs().sum(1), -math.inf))
    assert float(ground.rows.abs().max()) < size
    assert bool((ground.values.diff() <= 0).all())
    moved = ground.moved(torch.ones(2).double(), torch.full((2,), 2.0).double())
    torch.testing.assert_close(moved.rows, (ground.rows - 1) / 2)
    torch.testing.assert_close(moved.values, ground.values + 2 * math.log(2))


def test_a_corner_that_few_draws_hit_is_found():
    assert len(found(lambda x: torch.where((x > 0).all(1), 0.0, -math.inf), dim=12).rows)  # 1 of 4,096


@pytest.mark.parametrize(
    ("value", "words"),
    [(math.nan, "is NaN or plus infinity at all"), (-math.inf, "is minus infinity at all"), (None, "nowhere finite")],
)
def test_the_cause_is_named_where_there_is_no_density(value, words):
    def function(x):
        return x[:, 0].log() - math.inf if value is None else torch.full((len(x),), value)

    with pytest.raises(ValueError, match=words):
        found(function)


def test_rows_of_data_are_tried_first():
    def far(x):
        return torch.where((x - 40).abs().amax(1) < 1e-3, 0.0, -math.inf)

    rows = torch.full((3, 2), 40.0).double()
    assert len(found(far, data=rows).rows) == 3


def test_the_highest_value_lies_near_the_top():
    function = flat(lambda x: 7.0 - 0.5 * ((x - 1) / 1e-6).square().sum(1))
    ground = find_ground(function, base=None, data=None, generator=seeded_generator(0))
    assert float(ground.values[0]) < -1e9
    assert highest_value(function, ground) == pytest.approx(7.0, abs=1e-3)
    walled = flat(lambda x: torch.where(x[:, 0] > 0, -x.abs().sum(1), -math.inf))
    ground = find_ground(walled, base=None, data=None, generator=seeded_generator(0))
    assert highest_value(walled, ground) <= 0
