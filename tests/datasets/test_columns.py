"""Kind, grid and bounds of columns are recognised; declarations win."""

import numpy as np
import pytest

from drl_density import load_dataset
from drl_density.datasets import (
    notice_columns,
)
from drl_density.datasets.columns import find_grid
from drl_density.errors import DataError
from tests.datasets.samples import TABLE

RNG = np.random.default_rng(0)


COLUMNS = {
    "continuous": (RNG.normal(size=300), 0.0),
    "rounded": (RNG.normal(size=300).round(1), 0.1),
    "integer": (RNG.poisson(5.0, size=300).astype(float), 1.0),
    "binary": (RNG.integers(0, 2, size=300).astype(float), 1.0),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_are_noticed(kind):
    values, width = COLUMNS[kind]
    (column,) = notice_columns(values[:, None], ["x"])
    assert column.kind == kind
    assert column.width == pytest.approx(width, rel=1e-9)


@pytest.mark.parametrize(("grid", "offset"), [(0.05, 0.0), (5.0, 0.0), (1e-4, 0.9), (100.0, 0.0)])
def test_rounding_grids(grid, offset):
    values = offset + grid * RNG.integers(0, 40, size=500)
    assert find_grid(values).width == pytest.approx(grid, rel=1e-6)


@pytest.mark.parametrize(
    ("values", "kind", "width", "offset"),
    [
        (1.0 + 2 * RNG.integers(0, 30, size=300), "integer", 2.0, 1.0),
        (RNG.permutation(2000)[:150].astype(float), "integer", 1.0, 0.0),  # whole numbers, hardly any twice
        (5.0 * RNG.permutation(2000)[:150], "integer", 5.0, 0.0),
        (0.25 + 0.5 * RNG.integers(0, 30, size=300), "rounded", 0.5, 0.25),
        (np.where(RNG.random(300) < 0.5, 1.0, 3.0), "binary", 2.0, 1.0),
    ],
)
def test_grids_that_do_not_go_through_zero_and_grids_seldom_hit_twice(values, kind, width, offset):
    (column,) = notice_columns(values[:, None], ["x"])
    assert (column.kind, column.width, column.offset) == (kind, width, offset)
    assert np.allclose(column.on_support(values + 0.3 * width), values, rtol=0, atol=1e-9)


def test_a_few_odd_values_do_not_hide_the_grid():
    values = RNG.normal(size=500).round(1)
    values[:3] = [0.123456, 1.7777, -0.98765]
    assert find_grid(values).width == pytest.approx(0.1)


def test_piles_at_an_end_are_said():
    values = TABLE.copy()
    values[:20, 0] = values[:, 0].max() + 1.0
    column = load_dataset(values).columns[0]
    assert column.piles == (values[:, 0].max(),)
    assert "declare a bound" in column.describe()
    assert notice_columns(TABLE[:40, :1], ["x"])[0].piles == ()


def test_missing_values_play_no_part():
    values = np.repeat([1.0, 2.0, np.nan, 3.0], 20)[:, None]
    (column,) = notice_columns(values, ["x"])
    assert (column.kind, column.width, column.is_positive) == ("integer", 1.0, True)


BAD = {
    "constant": (lambda p: load_dataset(np.ones((50, 2))), "constant columns have no density"),
    "override": (lambda p: load_dataset(TABLE, columns={"x9": {}}), "there is no column 'x9'"),
    "property": (lambda p: load_dataset(TABLE, columns={"x1": {"colour": 1}}), "unknown properties"),
    "bounds": (lambda p: load_dataset(TABLE, columns={"x1": {"lower": 2.0, "upper": 1.0}}), "below upper"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::drl_density.errors.DataWarning")
def test_bad_input(tmp_path, name):
    call, message = BAD[name]
    with pytest.raises(DataError, match=message):
        call(tmp_path)
