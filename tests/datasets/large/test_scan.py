"""The first pass: the columns of a streamed table are those of the same table in memory, however rare a value is."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import drl_density as drl
from drl_density.datasets.large import scan as scan_module
from drl_density.datasets.large.scan import scan_table
from drl_density.errors import DataError, DataWarning
from tests.datasets.large.frames import FrameSource

NUM_ROWS = 3000


@pytest.fixture
def small_sample(monkeypatch):
    """A sample of 200 rows, which misses whatever is rare."""
    monkeypatch.setattr(scan_module, "MOST_SAMPLED", 200)
    monkeypatch.setattr(scan_module, "LEAST_SAMPLED", 200)


@pytest.fixture(scope="module")
def frame():
    """Columns of every kind, each with something that one row alone shows."""
    rng = np.random.default_rng(0)
    values = {
        "positive": rng.gamma(2, size=NUM_ROWS),
        "cents": np.round(rng.gamma(2, size=NUM_ROWS), 2),
        "count": rng.integers(0, 400, NUM_ROWS) * 2,
        "stars": rng.choice([1, 2, 5], NUM_ROWS),
        "yes": rng.random(NUM_ROWS) < 0.5,
        "label": rng.choice(["b", "c"], NUM_ROWS).astype(object),
        "level": pd.Categorical(rng.choice(["low", "high"], NUM_ROWS), categories=["low", "mid", "high"], ordered=True),
        "pile": np.maximum(rng.normal(size=NUM_ROWS), -1.0),
    }
    made = pd.DataFrame(values)
    made.loc[2711, "positive"] = -0.25
    made.loc[2200, "count"] = 77
    made.loc[1907, "stars"] = 9
    made.loc[2999, "label"] = "a"
    made.loc[1500, "level"] = "mid"
    return made


def scanned(frame, *, size=250, declared=None, missing="refuse", seed=0):
    source = FrameSource(frame, size=size)
    return scan_table(source, source.names, declared=declared or {}, missing=missing, seed=seed)


@pytest.mark.filterwarnings("ignore:column 'pile'. values repeat:drl_density.errors.DataWarning")
@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize("size", [250, 999])
def test_columns_are_those_of_the_table_in_memory(frame, size):
    with pytest.warns(DataWarning, match="has labels"):
        expected = drl.load_dataset(frame, seed=0).columns
    found = scanned(frame, size=size).columns
    assert found[:-1] == expected[:-1]
    # The grid through an atom is of one hundredth of the spread, which a sample of 200 rows estimates.
    assert found[-1].width == pytest.approx(expected[-1].width, rel=0.3)
    assert dataclasses.replace(found[-1], width=1.0) == dataclasses.replace(expected[-1], width=1.0)
    by_name = {column.name: column for column in found}
    assert not by_name["positive"].is_positive
    assert by_name["count"].width == 1.0
    assert by_name["stars"].values == (1.0, 2.0, 5.0, 9.0)
    assert by_name["label"].categories == ("a", "b", "c")
    assert by_name["level"].categories == ("low", "mid", "high")
    assert by_name["pile"].piles == (-1.0,)


@pytest.mark.usefixtures("small_sample")
def test_a_grid_of_many_repeated_values_is_one_whatever_the_sample():
    """3,000 rows on 300 values: a sample of 200 rows has nearly as many distinct values as rows, the table a tenth."""
    frame = pd.DataFrame(
        {"x": np.random.default_rng(0).integers(0, 300, NUM_ROWS) / 8, "y": np.linspace(0, 1, NUM_ROWS)}
    )
    found = scanned(frame).columns
    assert found == drl.load_dataset(frame, seed=0).columns
    assert found[0].width == 0.125


def test_declared_properties_are_kept_and_checked(frame):
    numbers = frame[["positive", "stars"]]
    declared = {"stars": {"kind": "categorical"}, "positive": {"lower": -1.0}}
    found = scanned(numbers, declared=declared).columns
    assert found[1].categories == ("1", "2", "5", "9")
    assert found[0].lower == -1.0
    with pytest.raises(DataError, match=r"column 'positive' has values from -0.25 .* outside its declared bounds"):
        scanned(numbers, declared={"positive": {"lower": 0.0}})


@pytest.mark.parametrize(
    ("column", "cells", "message"),
    [
        ("x", {2712: np.inf}, r"the frame: column 'x', row 2713: inf is infinite"),
        ("text", {2990: "three"}, r"the frame: column 'text', row 2991: 'three' is text, not a number"),
    ],
)
@pytest.mark.usefixtures("small_sample")
def test_a_bad_cell_is_named_by_its_row(column, cells, message):
    values = pd.Series(np.linspace(0, 1, NUM_ROWS))
    cell_values = values if column == "x" else values.map("{:.4f}".format).astype(object)
    for row, cell in cells.items():
        cell_values[row] = cell
    with pytest.raises(DataError, match=message):
        scanned(pd.DataFrame({column: cell_values, "other": values}))


def test_missing_values_are_counted_and_the_first_is_named(frame):
    made = frame[["positive", "cents"]].copy()
    made.loc[[70, 1200], "cents"] = np.nan
    made.loc[[1200], "positive"] = np.nan
    found = scanned(made)
    assert (found.num_rows, found.num_complete, found.num_missing) == (NUM_ROWS, NUM_ROWS - 2, 3)
    assert found.first_missing == ("cents", 70)
    complete = scanned(made, missing="drop")
    assert complete.columns == drl.load_dataset(made.dropna(), seed=0).columns
    assert dataclasses.replace(found, columns=()).num_complete == complete.num_complete


def test_a_column_without_a_value_and_too_many_labels_are_refused(frame):
    with pytest.raises(DataError, match="column 'none' has no value in any row that is used"):
        scanned(frame[["cents"]].assign(none=np.nan))
    labels = frame[["cents"]].assign(who=[f"p{index}" for index in range(NUM_ROWS)])
    with pytest.raises(DataError, match="column 'who', row 1: 'p0' is text, not a number; its column has .* too many"):
        scanned(labels)
