"""Rows of a known table in and out."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from drl_density.datasets.column import Column
from drl_density.datasets.columns import notice_columns
from drl_density.datasets.tables.coding import decode_rows, encode_array, encode_column, encode_frame, encode_table
from drl_density.datasets.tables.raw_table import as_table
from drl_density.errors import DataError
from tests.datasets.tables.kinds import HOLDING_NUMBERS, HOLDING_TRUTH, INFINITE

NUMBER, LABEL = Column("a"), Column("a", "categorical", 1.0, categories=("1", "3"))
TRUTH = Column("a", "binary", 1.0, values=(0.0, 1.0), storage="bool")


@pytest.mark.parametrize("name", HOLDING_NUMBERS)
def test_the_columns_of_the_fit_decide_what_a_cell_means(name):
    column = HOLDING_NUMBERS[name]([1, None, 3])
    np.testing.assert_array_equal(encode_column(column, NUMBER), [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(encode_column(column, LABEL), [0.0, np.nan, 1.0])


@pytest.mark.parametrize("column", [NUMBER, LABEL, TRUTH])
@pytest.mark.parametrize("cells", [[], ["1"]])
def test_no_cells_and_a_single_one(column, cells):
    for kind in (object, "str"):
        assert len(encode_column(pd.Series(cells, dtype=kind), column)) == len(cells)
    assert len(encode_column(pd.Series(cells, dtype=object).astype(float), column)) == len(cells)


@pytest.mark.parametrize("name", HOLDING_TRUTH)
def test_true_and_false_for_every_kind_of_column(name):
    column = HOLDING_TRUTH[name]([1, 0])
    assert encode_column(column, TRUTH).tolist() == [1.0, 0.0]
    assert encode_column(column, NUMBER).tolist() == [1.0, 0.0]
    assert encode_column(column[0:0], TRUTH).tolist() == []
    words = Column("a", "categorical", 1.0, categories=("False", "True"))
    assert encode_column(column, words).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("name", INFINITE)
def test_infinite_values_are_refused(name):
    with pytest.raises(DataError, match="column 'a', row 2: .* infinite"):
        encode_column(INFINITE[name], NUMBER)


WRONG = {
    "unknown label": (["1", "2"], LABEL, "row 2: '2' is no label of this column; the labels are '1', '3'"),
    "code": ([0, 1], LABEL, "row 1: '0' is no label"),
    "text": ([1.0, "much"], NUMBER, "row 2: 'much' is text, not a number; the fit has numbers"),
    "neither": ([1, 2], TRUTH, "row 2: 2 is neither true nor false"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_cell_against_the_fit_is_named(name):
    cells, column, words = WRONG[name]
    with pytest.raises(DataError, match=f"new.csv: column 'a', {words}"):
        encode_frame(pd.DataFrame({"a": pd.Series(cells, dtype=object)}), (column,), where="new.csv")


def test_a_row_means_the_same_whatever_else_is_in_its_table():
    """Labels that look like numbers, in a table without the odd one."""
    column = Column("q", "categorical", 1.0, categories=("12", "3", "7", "odd"))
    cells = ["12", "3", "odd", "7"]
    whole = encode_column(cells, column)
    for kept in ([0], [0, 1], [3, 0], [1, 2]):
        part = [cells[place] for place in kept]
        numbers = [float(cell) for cell in part] if "odd" not in part else part
        for given in (part, numbers):
            assert encode_column(given, column).tolist() == whole[kept].tolist()


def test_missing_and_absent_columns():
    frame = pd.DataFrame({"a": [1.0, None]})
    columns = (NUMBER, Column("b"))
    with pytest.raises(DataError, match="columns that are not here: b; here are a"):
        encode_frame(frame, columns)
    rows = encode_frame(frame, columns, absent=["b"], missing="keep")
    assert rows.isnan().tolist() == [[False, True], [True, True]]
    with pytest.raises(DataError, match="1 cells in 1 rows are empty or NaN, the first in column 'a', row 2"):
        encode_frame(frame, (NUMBER,))
    with pytest.raises(DataError, match="empty or NaN"):
        encode_table(as_table([[1.0, None]], ["a"]), (NUMBER,))


def test_arrays_hold_codes_and_texts_hold_labels():
    columns = (NUMBER, Column("q", "categorical", 1.0, categories=("no", "yes")))
    assert encode_array(torch.tensor([[0.5, 1.0]]).bfloat16(), columns).tolist() == [[0.5, 1.0]]
    assert encode_array([[0.5, "yes"]], columns).tolist() == [[0.5, 1.0]]
    assert encode_array([[0.5, 1.2]], columns, codes="cells").tolist() == [[0.5, 1.2]]
    for code in (2.0, -1.0, 0.5):
        with pytest.raises(DataError, match="column 'q', row 0: .* is no code of a label; 0 is 'no', 1 is 'yes'"):
            encode_array([[0.5, code]], columns)
    with pytest.raises(DataError, match="is no code of a label"):
        encode_array([[0.5, 2.0]], columns, codes="cells")
    with pytest.raises(DataError, match="complex numbers"):
        encode_array(torch.tensor([[1j, 1j]]), columns)


def test_rows_are_written_back_as_they_were():
    n = 40
    frame = pd.DataFrame({
        "x": np.linspace(0, 1, n).astype(np.float32),
        "n": np.arange(n, dtype=np.int16),
        "b": np.arange(n) % 2 == 0,
        "q": ["low", "high"] * (n // 2),
        "o": pd.Categorical(["s", "m", "l", "m"] * (n // 4), categories=["s", "m", "l"], ordered=True),
        "k": pd.Categorical([3, 12] * (n // 2)),
    })  # fmt: skip
    table = as_table([frame[name] for name in frame], list(frame))
    columns = notice_columns(table.values, table.names, categories=table.categories, storages=table.storage)
    rows = encode_frame(frame, columns)
    pd.testing.assert_frame_equal(decode_rows(rows, columns), frame)
    again = decode_rows(rows, columns, index=pd.RangeIndex(5, 5 + n))
    assert again.index[0] == 5
    gaps = rows.clone()
    gaps[0] = math.nan
    assert decode_rows(gaps, columns).isna().iloc[0].all()
    torch.testing.assert_close(encode_frame(decode_rows(gaps, columns), columns, missing="keep"), gaps, equal_nan=True)


def test_yes_in_a_column_of_true_and_false_names_them():
    column = Column("t", "binary", 1.0, values=(0.0, 1.0), storage="bool")
    with pytest.raises(DataError, match="'yes' is text.*the fit has true and false in this column"):
        encode_column(["true", "yes"], column)


def test_names_that_look_alike_are_one_name():
    composed, apart = "caf\u00e9", "cafe\u0301"
    for known, given in ((composed, apart), (apart, composed)):
        assert encode_frame(pd.DataFrame({given: [2.0]}), (Column(known),)).tolist() == [[2.0]]
    with pytest.raises(DataError, match="named twice"):
        encode_frame(pd.DataFrame({composed: [2.0], apart: [1.0]}), (Column(composed),))
