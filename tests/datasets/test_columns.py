"""Kind, grid and bounds of columns are recognised; declarations win."""

import numpy as np
import pandas as pd
import pytest

from drl_density import load_dataset
from drl_density.datasets import (
    notice_columns,
)
from drl_density.datasets.grids.search import find_grid
from drl_density.errors import DataError, DataWarning
from tests.datasets.samples import TABLE

RNG = np.random.default_rng(0)


COLUMNS = {
    "continuous": (RNG.normal(size=300), 0.0),
    "rounded": (RNG.normal(size=300).round(1), 0.1),
    "integer": (RNG.poisson(5.0, size=300).astype(float), 1.0),
    "binary": (RNG.integers(0, 2, size=300).astype(float), 1.0),
}


def test_two_values_that_do_not_repeat_are_no_support():
    """Two cells of a column whose others are missing say nothing about other values."""
    values = np.full((200, 1), np.nan)
    values[[3, 90], 0] = -0.42, 1.37
    (column,) = notice_columns(values, ["x"])
    assert (column.is_closed, column.kind == "binary") == (False, False)


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
    with pytest.warns(DataWarning, match="values repeat"):
        column = load_dataset(values).columns[0]
    assert column.piles == (values[:, 0].max(),)
    assert "declare a bound" in column.describe()
    assert notice_columns(TABLE[:40, :1], ["x"])[0].piles == ()


def test_missing_values_play_no_part():
    values = np.repeat([1.0, 2.0, np.nan, 3.0], 20)[:, None]
    (column,) = notice_columns(values, ["x"])
    assert (column.kind, column.width, column.is_positive) == ("integer", 1.0, True)


def seen(data, /, **declared):
    data = np.asarray(data, dtype=float)[:, None]
    return notice_columns(data, ["x"], overrides={"x": declared} if declared else None)[0]


RATINGS = np.repeat([1.0, 2.0, 5.0], 40)


@pytest.mark.parametrize(
    ("values", "kind", "width", "support"),
    [
        (RATINGS, "integer", 1.0, (1.0, 2.0, 5.0)),
        (np.repeat([0.1, 0.2, 0.3], 10), "rounded", 0.1, (0.1, 0.2, 0.3)),
        (np.repeat([0.1, 0.2, 0.3], 9), "rounded", 0.1, ()),  # fewer than ten rows for a value
        (np.repeat(np.arange(20.0), 10), "integer", 1.0, tuple(np.arange(20.0))),
        (np.repeat(np.arange(21.0), 10), "integer", 1.0, ()),
        ([0.0, 0.0, 0.0, 1.0], "binary", 1.0, (0.0, 1.0)),
        (np.repeat([-1.5, 0.137, 7.0], 20), "rounded", 1.637, (-1.5, 0.137, 7.0)),
        (np.repeat([1e300, 1e-300], 9), "binary", 1e300, (1e-300, 1e300)),
    ],
)
def test_closed_supports_are_recognised(values, kind, width, support):
    column = seen(values)
    assert (column.kind, column.values) == (kind, support)
    assert column.width == pytest.approx(width, rel=1e-12)


def test_a_bound_a_grid_or_no_values_open_a_support():
    for declared in ({"lower": 0.0}, {"upper": 9.0}, {"width": 0.5}, {"values": ()}):
        assert seen(RATINGS, **declared).values == ()
    opened = seen(RATINGS % 2, values=())
    assert (opened.kind, opened.width, opened.values) == ("integer", 1.0, ())
    assert (
        seen(RATINGS, kind="continuous").describe()
        == "x: continuous; positive; rows pile up at 1, 5: declare a bound if it is one"
    )
    kept = seen(RATINGS % 2, kind="binary", lower=0.0)
    assert kept.values == (0.0, 1.0)


def test_declared_values_close_a_support():
    assert seen(RATINGS, values=(1, 2, 3, 4, 5)).values == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert seen(np.ones(30), values=(0, 1)).kind == "binary"
    numbers = np.arange(100.0)
    assert seen(numbers, kind="categorical").values == tuple(numbers)
    with pytest.raises(DataError, match="has 5, which is none of its declared values"):
        seen(RATINGS, values=(1, 2, 3))
    with pytest.raises(DataError, match="has values from 1 to 5, outside its declared bounds"):
        seen(RATINGS, lower=2.0)


GRIDDED = {
    "normal": RNG.normal(size=400),
    "skew": RNG.exponential(size=400),
    "tenths": RNG.normal(size=400).round(1),
    "ratings": np.repeat([0.1, 0.2, 0.5], 100),
    "yes and no": np.repeat([0.3, 0.7], 100),
    "odd": RNG.choice(RNG.normal(size=60), 400),
}


@pytest.mark.parametrize("unit", [-12, 12, -300, 290])
@pytest.mark.parametrize("name", GRIDDED)
@pytest.mark.filterwarnings("ignore:column 'x'. values repeat")
def test_columns_are_the_same_in_every_unit(name, unit):
    values = GRIDDED[name]
    plain, scaled = seen(values), seen([float(f"{value!r}e{unit}") for value in values.tolist()])
    if unit < 0 or not plain.width:  # decimals in a small enough unit are whole numbers
        assert scaled.kind == plain.kind
    factor = 10.0**unit
    assert scaled.width / factor == pytest.approx(plain.width, rel=1e-9)
    assert np.array(scaled.values) / factor == pytest.approx(np.array(plain.values), rel=1e-12)
    assert scaled.offset / factor == pytest.approx(plain.offset, abs=1e-5 * plain.width)


def test_columns_are_the_same_far_from_zero():
    values = RNG.normal(size=400).round(1)
    plain, moved = seen(values), seen((values + 1e6).round(1))
    assert (moved.kind, moved.width) == (plain.kind, plain.width)
    assert seen(RNG.normal(size=400) + 1e6).kind == "continuous"
    single = (RNG.normal(size=400).round(1) + 1000).astype(np.float32).astype(float)
    assert seen(single).width == pytest.approx(0.1)


@pytest.mark.parametrize(
    "values",
    [
        1e18 + 100 * RNG.normal(size=200),
        2.0**53 - np.arange(1, 40),
        np.repeat([1.0, 1.0 + 2.0**-50], 20),
        1e16 + np.repeat([0.0, 2.0, 4.0], 20),
    ],
)
def test_columns_that_float64_cannot_resolve_are_refused(values):
    with pytest.raises(DataError, match="float64 numbers lie .* apart.*subtract a constant"):
        seen(values)


def test_whole_numbers_up_to_2_to_the_53_are_kept():
    column = seen(RNG.integers(0, 2**53, size=300).astype(float))
    assert (column.kind, column.width) == ("integer", 1.0)


def test_rows_on_a_declared_bound_round_the_column_and_are_said():
    values = np.where(RNG.random(500) < 0.3, 0.0, RNG.exponential(size=500))
    with pytest.warns(DataWarning, match=r"rows \(0\.\d+ of all\) lie on a bound"):
        column = seen(values, lower=0.0)
    assert (column.kind, column.offset, column.lower) == ("rounded", 0.0, 0.0)
    assert column.width == pytest.approx(0.01 * np.subtract(*np.quantile(values[values > 0], [0.75, 0.25])), rel=0.6)
    with pytest.warns(DataWarning, match="1 rows"):
        few = seen(np.append(RNG.exponential(size=500), 0.0), lower=0.0)
    assert few.width < 0.3 * column.width
    with pytest.warns(DataWarning):
        both = seen(np.concatenate([RNG.random(100), [0.0, 0.7]]), lower=0.0, upper=0.7 + 0.3)
    assert (1.0 / both.width) == pytest.approx(round(1.0 / both.width))
    assert seen(RNG.exponential(size=500), lower=0.0).kind == "continuous"


@pytest.mark.filterwarnings("ignore:column 'x'. .*(rounded to|lie on a bound):drl_density.errors.DataWarning")
@pytest.mark.parametrize("share", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("kind", ["amounts", "cents", "counts"])
def test_zero_is_the_lower_bound_of_a_column_with_many_zeros_and_none_below(kind, share):
    amounts = 100 * RNG.exponential(size=500)
    amounts = {"amounts": amounts, "cents": amounts.round(2), "counts": amounts.round()}[kind]
    values = np.where(np.arange(500) < share * 500, 0.0, amounts + 1)
    with pytest.warns(DataWarning, match=rf"{round(share * 500)} of 500 values are exactly 0 and none is below"):
        column = seen(values)
    assert (column.lower, column.on_support(np.array([-5.0]))[0]) == (0.0, 0.0)
    assert column.width > 0  # a share of the rows on one point has no density
    values[-1] = -3.0
    below = {"kind": "integer"} if kind == "counts" else {"width": 0.01}
    assert seen(values, **below).lower == -np.inf
    values[-1] = 3.0
    assert seen(values, lower=-np.inf, **below).lower == -np.inf


def test_few_zeros_and_negative_amounts_make_no_bound():
    values = RNG.exponential(size=500)
    values[:4] = 0.0
    assert seen(values).lower == -np.inf
    values[:100] = 0.0
    assert seen(-values, width=0.01).lower == -np.inf  # zeros at the other end
    assert seen(RNG.permutation(np.repeat(np.arange(30.0), 5))).lower == -np.inf  # no more zeros than other values


@pytest.mark.parametrize("atom", [-1.5, 2.5])
def test_a_frequent_value_among_others_rounds_the_column_to_its_spread_and_is_said(atom):
    for number in (300, 3000):
        values = atom + np.where(np.arange(number) % 10 < 7, 0.0, RNG.exponential(size=number))
        with pytest.warns(DataWarning, match=rf"values repeat \({atom:g} in {7 * number // 10} of {number} rows\)"):
            column = seen(values)
        assert column.kind == "rounded"
        assert column.width == pytest.approx(0.01, rel=0.5)  # whatever the number of rows
        assert column.on_support(np.array([atom]))[0] == pytest.approx(atom, abs=1e-12)


BAD = {
    "labels": (
        lambda p: load_dataset(
            pd.DataFrame({"c": list("ab") * 50, "x": RNG.normal(size=100)}), columns={"c": {"lower": 0.0}}
        ),
        "'c' holds labels, so lower cannot be declared",
    ),
    "constant": (lambda p: load_dataset(np.ones((50, 2))), "constant columns have no density"),
    "override": (lambda p: load_dataset(TABLE, columns={"x9": {}}), "there is no column 'x9'"),
    "property": (lambda p: load_dataset(TABLE, columns={"x1": {"colour": 1}}), "unknown properties"),
    "bounds": (lambda p: load_dataset(TABLE, columns={"x1": {"lower": 2.0, "upper": 1.0}}), "below upper"),
    "text for a bound": (
        lambda p: load_dataset(TABLE, columns={"x1": {"lower": "0"}}),
        "lower must be a number, got '0'",
    ),
    "NaN for a bound": (lambda p: load_dataset(TABLE, columns={"x1": {"upper": np.nan}}), "upper must be a number"),
    "negative width": (lambda p: load_dataset(TABLE, columns={"x1": {"width": -0.1}}), "not negative, got -0.1"),
    "infinite width": (lambda p: load_dataset(TABLE, columns={"x1": {"width": np.inf}}), "width must be finite"),
    "text values": (
        lambda p: load_dataset(TABLE, columns={"x1": {"values": ("a", "b")}}),
        "values must be a list of num",
    ),
    "three as binary": (
        lambda p: load_dataset(np.arange(90.0).reshape(-1, 1) % 3, columns={"x0": {"kind": "binary"}}),
        "declared binary, but has 3 values",
    ),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::drl_density.errors.DataWarning")
def test_bad_input(tmp_path, name):
    call, message = BAD[name]
    with pytest.raises(DataError, match=message):
        call(tmp_path)
