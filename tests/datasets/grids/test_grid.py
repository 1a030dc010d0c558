"""Grids through values, and counts of a whole column."""

import numpy as np
import pytest

from drl_density.datasets.grids.grid import Counts, Grid, decimal_grid, gap_grid, is_whole


@pytest.mark.parametrize(
    ("values", "grid"),
    [
        ([0.5, 1.0, 1.5, 4.0], Grid(0.5, 0.0)),
        ([1.0, 4.0, 10.0], Grid(3.0, 1.0)),
        ([1e-7, 3e-7, 4e-7], Grid(1e-7, 0.0)),
        ([3e9, 5e9, 6e9], Grid(1e9, 0.0)),
        ([-2.25, 0.25, 0.75], Grid(0.5, 0.25)),
    ],
)
def test_the_coarsest_decimal_grid(values, grid):
    x = np.array(values)
    found = decimal_grid(np.repeat(x, 20), x)
    assert found.width == pytest.approx(grid.width, rel=1e-12)
    # an offset and the same a width further on are one grid
    assert np.mod(found.offset - grid.offset + 0.5 * grid.width, grid.width) == pytest.approx(0.5 * grid.width)


def test_values_of_a_smaller_type_lie_on_their_decimal_grid():
    x = np.array([0.1, 0.2, 0.7], dtype=np.float32).astype(np.float64)
    assert decimal_grid(np.repeat(x, 20), x).width == pytest.approx(0.1)


def test_irrational_values_lie_on_no_grid():
    x = np.sqrt(np.arange(2.0, 60.0))
    assert decimal_grid(x, x) is None


def test_whole_numbers_beyond_what_float64_holds_are_not_whole():
    assert is_whole(np.array([1.0, -5.0]))
    assert not is_whole(np.array([1.5]))
    assert not is_whole(np.array([2.0**53]))


def test_a_grid_of_gaps_goes_through_most_values():
    third = 1 / 3
    x = np.concatenate([third * np.arange(1, 50) + 0.1, [0.05]])
    found = gap_grid(x, third)
    assert found.width == third
    assert np.abs(np.mod(x[:-1] - found.offset + 0.5 * third, third) - 0.5 * third).max() < 1e-5


def test_counts():
    assert Counts.of(np.array([0.0, 0.0, 2.0, 5.0, 5.0, 5.0])) == Counts(6, 3, 2, 3)
