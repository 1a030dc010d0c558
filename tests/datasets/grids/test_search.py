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


def test_cents_with_many_zeros_keep_their_own_grid():
    """Most other values occur once, so that without their decimals zero would be an atom."""
    cents = np.where(np.arange(500) < 300, 0.0, RNG.exponential(100.0, 500).round(2))
    assert find_grid(cents) == Grid(0.01, 0.0)


def test_values_that_repeat_on_no_decimal_grid_have_that_of_their_gaps_with_an_atom_too():
    values = np.concatenate([np.sqrt(np.arange(2.0, 62.0)).repeat(5), np.full(100, np.sqrt(30.0))])
    assert find_grid(values).width == np.median(np.diff(np.unique(values)))


def test_one_value_before_others_that_repeat_a_little_is_an_atom():
    """40, 15, 6 and 3 times: none occurs three times as often as the next one, and the others hardly repeat."""
    others = np.sqrt(np.arange(2.0, 41.0)).repeat([15, 6, 3, *[1] * 36])
    values = np.concatenate([np.full(40, 0.123456789), others])
    found = find_grid(values)
    assert found.offset == 0.123456789
    assert 0 < found.width < 0.05


def test_a_coarser_grid_that_would_merge_distinct_values_is_passed_over():
    values = np.concatenate([np.arange(10.0).repeat(100), np.arange(10.0) + 0.5])
    assert find_grid(values) == Grid(0.5, 0.0)
