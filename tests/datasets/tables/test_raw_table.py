"""Tables as they were read."""

import numpy as np
import pandas as pd
import pytest

from drl_density.datasets.tables.raw_table import array_table, as_table, column_names
from drl_density.errors import DataError


def test_a_declared_label_is_read_from_the_cells_themselves():
    table = as_table([2**60 + np.arange(3), [1.0, 2.0, 3.0]], ["id", "x"])
    with pytest.raises(
        DataError, match="column 'id', row 1: 1152921504606846976 is a whole number beyond .* 'categorical'"
    ):
        table.refuse_problems("")
    labelled = table.with_labels({"id": None})
    labelled.refuse_problems("")
    assert labelled.categories["id"] == tuple(str(2**60 + place) for place in range(3))
    assert labelled.values[:, 0].tolist() == [0.0, 1.0, 2.0]
    assert labelled.storage["id"] == "int64"


def test_dates_are_not_counted_as_too_many_labels():
    table = as_table([np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[D]")], ["day"])
    with pytest.raises(DataError, match="row 1: '2024-01-01' is a date or a time; dates and times are labels only if"):
        table.refuse_problems("")


def test_a_column_that_is_left_out_may_hold_anything():
    table = as_table([[1 + 1j, 2], [1.0, np.inf], [1.0, 2.0]], ["c", "i", "x"])
    for name, words in (("c", "type complex"), ("i", "infinite")):
        with pytest.raises(DataError, match=f"column '{name}'.*{words}"):
            table.select([name, "x"]).refuse_problems("")
    table.select(["x"]).refuse_problems("")
    both = r"column 'c', row 1: .*The same holds for 'i' \(row 2: .*infinite.*drop=\['c', 'i'\] \(--drop c i\)$"
    with pytest.raises(DataError, match=both):
        table.refuse_problems("")


def test_arrays_of_points_texts_and_records():
    points = array_table(np.ma.masked_array(np.ones((4, 2, 2)), mask=np.eye(4, dtype=bool).reshape(4, 2, 2)))
    assert points.event_shape == (2, 2)
    assert np.isnan(points.values).sum() == 4
    texts = array_table(np.array([["1", "a"], ["2", "b"], ["", "a"]]))
    assert texts.categories == {"x1": ("a", "b")}
    records = np.ma.masked_array(np.array([(1, 2.0), (3, 4.0)], dtype=[("n", int), ("x", float)]))
    records["x"][1] = np.ma.masked
    table = array_table(records)
    assert table.names == ("n", "x")
    np.testing.assert_array_equal(table.values, [[1.0, 2.0], [3.0, np.nan]])
    assert array_table(np.zeros((2, 1), dtype=bool)).storage == {"x0": "bool"}


def test_names_of_columns():
    assert column_names(pd.MultiIndex.from_tuples([("a", "mean"), ("b", "")])) == ("a_mean", "b")
    for names, words in (([1, "1"], "named twice: 1 \\(1, '1'\\)"), (["b", "b"], "named twice: b"), ([], "no columns")):
        with pytest.raises(DataError, match=words):
            column_names(names)
    with pytest.raises(DataError, match="different numbers of rows: 1, 2"):
        as_table([[1], [1, 2]], ["a", "b"])


def test_arrays_without_columns_or_rows_are_named():
    with pytest.raises(DataError, match=r"the array has no columns: its shape is \(5, 0\)"):
        array_table(np.zeros((5, 0)))
    with pytest.raises(DataError, match=r"the array: has no rows: its shape is \(0, 3\); give at least one"):
        array_table(np.zeros((0, 3)))
    with pytest.raises(DataError, match=r"expected rows by columns, or images \(n, ...\), got shape \(3,\)"):
        array_table(np.zeros(3))


def test_a_guess_is_noted():
    assert as_table([["1", "2"]], ["a"]).notes == {"a": "its texts are all read as numbers"}
    assert as_table([["1", "2"]], ["a"], notes_numbers=False).notes == {}
