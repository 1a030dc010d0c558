"""Headers of texts, of numbers and none at all; each guess that may be wrong is noted or asked for."""

import numpy as np
import pytest

from drl_density.datasets import ReadOptions
from drl_density.datasets.tables.text.header import has_header
from drl_density.errors import DataError, DataWarning

RNG = np.random.default_rng(0)
REAL = [[f"{value:.4f}" for value in row] for row in RNG.normal(size=(30, 3))]
WHOLE = [[str(value) for value in row] for row in RNG.integers(0, 9, (30, 3))]
MIXED = [["5.1", "3.5", "setosa"], ["4.9", "3.0", "setosa"], ["6.1", "2.8", "virginica"]]
ADULT = [
    ["39", "State-gov", "<=50K"],
    ["50", "Private", "<=50K"],
    ["38", "Private", ">50K"],
    ["?", "State-gov", ">50K"],
]

SILENT = {
    "texts over numbers": ([["a", "b", "c"], *REAL], True),
    "numbers alone": (REAL, False),
    "whole numbers alone": (WHOLE, False),
    "texts over texts": ([["color", "size"], ["red", "big"], ["blue", "big"]], True),
    "labels that come again": ([["red", "big"], ["blue", "big"], ["red", "small"]], False),
    "one row of numbers": ([["1", "2"]], False),
    "one row of texts": ([["a", "b"]], True),
    "a name beside years": ([["id", "2019", "2020"], ["7", "1.5", "2.5"]], True),
    "a saved index": ([["", "0", "1"], ["0", "3", "4"], ["1", "5", "6"]], True),
    "missing values in the first row": ([["NA", "1.5", "2.5"], *REAL], False),
}


@pytest.mark.parametrize("name", SILENT)
def test_clear_cases_need_no_note(name):
    rows, expected = SILENT[name]
    assert has_header(rows, ReadOptions(), where="t.csv") is expected


NOTED = {
    "pandas' numbers": ([["0", "1", "2"], *REAL], True),
    "pandas' numbers over whole ones": ([["0", "1", "2"], *WHOLE], True),
    "two of them over reals": ([["0", "1"], *(row[:2] for row in REAL)], True),
    "years": ([["2015", "2019", "2020"], *REAL], True),
    "years over whole numbers": ([["2015", "2019", "2020"], *WHOLE], True),
    "wavelengths": ([["400.5", "401.0", "401.5"], *REAL], True),
    "a text and years": ([["country", "2019", "2020"], ["FR", "1.5", "2.5"], ["DE", "3.5", "2.1"]], True),
    "iris": (MIXED, False),
    "adult": (ADULT, False),
}


@pytest.mark.parametrize("name", NOTED)
def test_guesses_are_noted_with_their_option(name):
    rows, expected = NOTED[name]
    with pytest.warns(DataWarning, match="t.csv: the first row .*--header"):
        assert has_header(rows, ReadOptions(), where="t.csv") is expected


def test_numbers_that_may_be_either_are_asked_for():
    for rows in ([["0", "1"], ["1", "0"], ["1", "1"]], [["0"], ["3"], ["2"]]):
        with pytest.raises(DataError, match="may be the names of the columns or data.*--header none"):
            has_header(rows, ReadOptions(), where="t.csv")
        assert has_header(rows, ReadOptions(header="first-row"), where="t.csv")
        assert not has_header(rows, ReadOptions(header="none"), where="t.csv")


def test_names_of_a_fit_decide():
    assert has_header([["0", "1"], ["1", "0"]], ReadOptions(), where="", known=("0", "1"))
    assert has_header([["b", "a"], ["x", "y"], ["b", "a"]], ReadOptions(), where="", known=("a", "b"))
