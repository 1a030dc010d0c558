"""Blocks of text parsed, and columns of texts converted."""

import io

import numpy as np
import pandas as pd
import pytest

from drl_density.datasets import ReadOptions, open_table
from drl_density.datasets.tables.text.dialect import recognise
from drl_density.datasets.tables.text.parsing import (
    OddCells,
    as_booleans,
    as_numbers,
    as_texts,
    distinct_texts,
    line_of,
    parse_block,
)
from drl_density.datasets.tables.text.sources import Block
from drl_density.errors import DataError

READING = ReadOptions(missing_values=("-9",))


def block_of(text, **options):
    return Block(text, 1), recognise(text.decode().split("\n"), ReadOptions(header="none", **options), where="")


def test_a_block_is_parsed_with_missing_values_in_any_case():
    block, dialect = block_of(b"1,nan,u\nNULL,-9,None\n0.1,2, w \n")
    frame = parse_block(block, dialect, READING, where="")
    assert frame.isna().to_numpy().tolist() == [[False, True, False], [True, True, True], [False, False, False]]
    assert frame[0].dtype == frame[1].dtype == np.float64
    only = parse_block(block, dialect, READING, where="", texts=[0], only=[0])
    assert only[0].tolist()[::2] == ["1", "0.1"]


def test_parsed_numbers_are_the_nearest_ones():
    values = np.random.default_rng(0).normal(size=2000) * 10.0 ** np.random.default_rng(1).integers(-20, 20, 2000)
    block, dialect = block_of("\n".join(map(repr, values.tolist())).encode())
    assert parse_block(block, dialect, READING, where="")[0].tolist() == values.tolist()


def test_rows_of_another_length_are_named():
    for text in (b"1,2\n3,4\n5\n", b'1,2\n3,4\n"5"\n', b"1 2\n3 4\n5\n", b"1,2\n3,4\n5,6,7\n"):
        block, dialect = block_of(text)
        with pytest.raises(DataError, match="t.csv: row 3 has [13] cells, expected 2"):
            parse_block(block, dialect, READING, where="t.csv")


def test_lines_of_rows_count_blank_ones():
    block, dialect = block_of(b'1,2\n\n"a\nb",4\n5,6\n')
    assert [line_of(block, row, dialect) for row in range(3)] == [1, 4, 5]


def test_texts_lose_spaces_and_marks():
    column = pd.Series([" a", "b ", "NA ", None, "-9"])
    assert distinct_texts(column)[1] == ["a", "b", "NA", "-9"]
    assert as_texts(column, READING).isna().tolist() == [False, False, True, True, True]
    assert as_texts(column, READING).tolist()[:2] == ["a", "b"]


def test_numbers_of_texts():
    assert as_numbers(pd.Series(["1,5", " 2 ", "?", "-9", "-9,0"]), ",", READING).tolist()[:2] == [1.5, 2.0]
    assert as_numbers(pd.Series(["1", "-9.0"]), ".", READING).isna().tolist() == [False, True]
    with pytest.raises(OddCells) as odd:
        as_numbers(pd.Series(["1", "x", "2", "x"]), ".", READING)
    assert (odd.value.rows, odd.value.count) == ({"x": 1}, 2)


def test_booleans_of_texts():
    assert as_booleans(pd.Series([True, False]), READING).tolist() == [True, False]
    assert as_booleans(pd.Series(["TRUE", "false", "?"]), READING).isna().tolist() == [False, False, True]
    with pytest.raises(OddCells):
        as_booleans(pd.Series(["true", "yes"]), READING)


def test_a_quoted_cell_that_goes_on_behind_its_quote_is_refused():
    with pytest.raises(DataError, match="row 3: a quoted cell continues after"):
        open_table(io.BytesIO(b'a,l\n1,"x"\n2,"say \\"yes\\""\n')).read()
    text = b'a,l\n1,"say ""yes"""\n2,5"6\n3,""\n4,"x,y"\n'
    assert open_table(io.BytesIO(text)).read()["l"].tolist()[:2] == ['say "yes"', '5"6']
