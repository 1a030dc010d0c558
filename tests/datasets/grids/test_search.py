"""Which grid a column lies on: rounded, whole, with atoms, or none."""

import numpy as np
import pytest

from drl_density.datasets.grids.grid import Counts, Grid
from drl_density.datasets.grids.search import find_grid

RNG = np.random.default_rng(0)


def test_continuous_columns_and_single_values_have_none():
    assert find_grid(RNG.normal(size=200)) == Grid(0.0, 0.0)
    assert find_grid(np.full(9, 3.0)) == Grid(0.0, 0.0)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_a_change_of_unit_changes_the_grid_by_the_same_factor(unit):
    values = RNG.integers(1, 60, 400) / 10
    assert find_grid(values * unit).width == pytest.approx(0.1 * unit, rel=1e-9)


def test_whole_numbers_are_a_grid_however_rarely_they_repeat():
    assert find_grid(RNG.permutation(10_000)[:100] * 2.0 + 1.0) == Grid(2.0, 1.0)


def test_an_atom_gives_a_continuous_column_a_grid_through_it():
    values = np.concatenate([np.full(60, 0.25), RNG.normal(size=140)])
    found = find_grid(values)
    assert 0 < found.width < 0.05
    assert abs(np.remainder(0.25 - found.offset + 0.5 * found.width, found.width) - 0.5 * found.width) < 1e-9


def test_counts_of_the_whole_column_decide_whether_values_repeat():
    values = np.round(RNG.normal(size=50), 3)
    assert find_grid(values).width == 0.0
    assert find_grid(values, Counts(100_000, 5_000, 1, 1)).width == pytest.approx(0.001)
