"""Rows as text: every kind of cell, quotes, a saved index, packed files."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from drl_density.datasets import open_table
from drl_density.datasets.tables.writing.text_rows import written_cells
from drl_density.datasets.tables.writing.writer import write_table


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        (pd.Series([0.1, np.nan], dtype="float32"), ["0.1", None]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.Series([1.5, None], dtype="Float64"), [1.5, None]),
        (pd.Series([1.5, None], dtype="Float32"), ["1.5", None]),
        (pd.Series([1.5, None], dtype=pd.ArrowDtype(pa.float64())), [1.5, None]),
        (pd.Series([2**60 + 1, None], dtype=pd.ArrowDtype(pa.int64())), [2**60 + 1, None]),
        (pd.Series([True, None], dtype="boolean"), [True, None]),
        (pd.Series([True, False]), [True, False]),
        (pd.Series(["007", None]), ["007", None]),
        (pd.Series(["007", "NA"], dtype=object), ["007", "NA"]),
        (pd.Series(pd.Categorical(["low", None], categories=["low", "high"])), ["low", None]),
        (pd.Series(pd.to_datetime(["2024-01-01", None])), ["2024-01-01 00:00:00", None]),
        (pd.Series(pd.to_datetime(["2024-01-01 10:00"]).tz_localize("Europe/Berlin")), ["2024-01-01 10:00:00+01:00"]),
        (pd.Series(pd.to_timedelta([1, None], unit="D")), ["1 days 00:00:00", None]),
        (pd.Series([], dtype=float), []),
        (pd.Series([b"low", "ä".encode(), b"\xff", None]), ["low", "ä", b"\xff", None]),
    ],
)
def test_cells_of_every_kind_are_written_as_they_are(column, cells):
    found = written_cells(column)
    assert found == cells
    assert [type(cell) for cell in found] == [type(cell) for cell in cells]


def test_text_is_quoted_where_it_must_be(tmp_path):
    frame = pd.DataFrame({"a,b": ["x,y", 'say "no"', "two\nlines", ""], "c": ["ä", "1", "", None]})
    write_table(tmp_path / "a.csv", [frame])
    back = pd.read_csv(tmp_path / "a.csv", dtype=str, keep_default_na=False)
    assert back.to_numpy().tolist() == [["x,y", "ä"], ['say "no"', "1"], ["two\nlines", ""], ["", ""]]
    assert b"\r" not in (tmp_path / "a.csv").read_bytes()


LABELS = [("l;", "la"), ("red wine", "white wine"), ("#1", "#2"), ("%", "x"), ("a|b", "c|d"), (" x", "y ")]


@pytest.mark.parametrize("labels", [*LABELS, ("a\tb", "c\td"), ("a\nb", "c"), ("", "x")])
@pytest.mark.parametrize("names", [("q",), ("q", "a b")])
def test_texts_are_read_back_whatever_signs_they_hold(labels, names, tmp_path):
    """A reader that guesses the separator finds ours, and no row is taken for a comment."""
    frame = pd.DataFrame({name: [labels[0], labels[1], labels[0]] for name in names})
    write_table(tmp_path / "a.csv", [frame])
    stripped = [[label.strip() or None for label in (labels[0], labels[1], labels[0])]] * len(names)
    found = open_table(tmp_path / "a.csv").read()
    assert list(found.columns) == list(names)
    assert [[None if pd.isna(cell) else cell for cell in found[name]] for name in names] == stripped


def test_texts_without_doubt_are_not_quoted(tmp_path):
    write_table(tmp_path / "a.csv", [pd.DataFrame({"fixed acidity": ["red wine", None], "b": [0.1, 2.0]})])
    assert (tmp_path / "a.csv").read_text() == "fixed acidity,b\nred wine,0.1\n,2.0\n"
    write_table(tmp_path / "b.csv", [pd.DataFrame({"q": ["a;b", None], "b": [0.1, None]})])
    assert (tmp_path / "b.csv").read_text() == 'q,b\n"a;b",0.1\n,\n'


def test_columns_named_alike_are_all_written(tmp_path):
    write_table(tmp_path / "a.csv", [pd.DataFrame([[1, 2]], columns=["a", "a"])])
    assert (tmp_path / "a.csv").read_text() == "a,a\n1,2\n"


def test_equal_rows_give_equal_bytes_in_gzip(tmp_path):
    for name in ("a.csv.gz", "b.csv.gz"):
        write_table(tmp_path / name, [pd.DataFrame({"a": [1, 2]})])
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
