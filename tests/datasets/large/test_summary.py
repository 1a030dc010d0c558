"""Statistics of a column from chunks: exact where a rare value matters, whatever the chunks."""

import numpy as np
import pytest

from drl_density.datasets.grids.search import find_grid
from drl_density.datasets.large.summary import MOST_DISTINCT, OFF_GRID, ColumnSummary, decimal_exponents


def width_of(values: np.ndarray) -> float:
    """Width of the grid of a column with these values."""
    return find_grid(values).width


def summarised(values: np.ndarray, size: int) -> tuple[ColumnSummary, list[float]]:
    """The summary of a column read ``size`` values at a time, and the witnesses among them."""
    summary, witnesses = ColumnSummary(), []
    for start in range(0, len(values), size):
        part = values[start : start + size]
        witnesses += part[summary.add(part)].tolist()
    return summary, witnesses


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_counts_and_ends_do_not_depend_on_the_chunks(size):
    values = np.random.default_rng(0).integers(-3, 4, 500) * 1.0
    values[[3, 400]] = np.nan
    summary, _ = summarised(values, size)
    assert (summary.num_values, summary.num_missing) == (498, 2)
    assert (summary.least, summary.largest) == (-3.0, 3.0)
    assert summary.num_least == (values == -3).sum()
    assert summary.num_largest == (values == 3).sum()
    assert summary.distinct == {-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0}
    assert summary.num_distinct == 7


def test_infinite_values_count_as_nothing():
    summary, witnesses = summarised(np.array([np.inf, 1.0, -np.inf]), 3)
    assert (summary.num_values, summary.num_missing, summary.least, summary.largest) == (1, 0, 1.0, 1.0)
    assert set(witnesses) == {1.0}


@pytest.mark.parametrize("size", [64, 5000])
@pytest.mark.parametrize("rare", [0.5, 3.0, 0.125, 1e-9, np.pi])
def test_one_rare_value_is_a_witness(rare, size):
    """One value that is no multiple of 10, among 5,000 multiples: ends, distinct values and grid all depend on it."""
    values = np.random.default_rng(0).integers(-400, 400, 5000) * 10.0
    values[3217] = rare
    _, witnesses = summarised(values, size)
    assert rare in witnesses
    assert len(witnesses) < MOST_DISTINCT + 60


@pytest.mark.parametrize("width", [0.1, 0.25, 1.0, 5.0, 300.0])
def test_the_witnesses_show_the_grid_of_all_values(width):
    """A grid whose finest steps are rare: a sample misses them, with the witnesses it gives the width of all values."""
    rng = np.random.default_rng(1)
    values = np.round(rng.integers(-50, 50, 4000) * 4 * width, 6)
    values[[100, 3000]] = width
    _, witnesses = summarised(values, 256)
    sample = values[200:2200]
    assert width_of(np.concatenate([sample, witnesses])) == width_of(values) <= 4 * width
    if width not in (0.25, 5.0):  # two quarters among whole numbers, or fives among tens, are too few to define a grid
        assert width_of(sample) == pytest.approx(4 * width) != width_of(values)


def test_numbers_at_the_ends_of_float64_are_summarised():
    values = np.array([3e-310, 5e-324, 1e-310])
    summary, witnesses = summarised(values, 2)
    assert summary.num_distinct == 3
    assert set(witnesses) == set(values)
    summary, witnesses = summarised(np.array([1.7e308, -1.7e308, 1.0]), 2)
    assert summary.largest == 1.7e308
    assert summary.num_values == len(witnesses) == 3


def test_many_distinct_values_are_estimated():
    values = np.random.default_rng(0).permutation(np.repeat(np.arange(30_000.0), 2))
    summary, _ = summarised(values, 1000)
    assert summary.distinct is None
    assert abs(summary.num_distinct / 30_000 - 1) < 0.1  # six standard errors of 1 / sqrt(4096)


def test_exponents_of_large_small_and_float32_values():
    assert decimal_exponents(np.array([1e6, -0.1, 12.34, 1 / 3, 123456.7]), 6).tolist() == [6, -1, -2, OFF_GRID, -1]
    assert decimal_exponents(np.array([1.25e-9, 3e-9, 1e-9 / 3]), -9).tolist() == [-11, -9, OFF_GRID]
    assert decimal_exponents(np.array([0.1, 0.25], dtype=np.float32).astype(float), -1).tolist() == [-1, -2]
    assert decimal_exponents(np.array([0.0, 5e20]), 20).tolist() == [20, 20]
