"""Options of a fit give way where a later file cannot be written by them."""

import io
import warnings

import pytest

from drl_density.datasets import Column, ReadOptions, read_rows
from drl_density.datasets.tables.text.later import later_reading
from drl_density.errors import DataError, DataWarning

COLUMNS = (Column("größe"), Column("b"), Column("q", "categorical", 1.0, categories=("männlich", "weiblich")))
PLAIN = "größe,b,q\n1.234,2.5,männlich\n2.5,1.125,weiblich\n"
GERMAN = "größe;b;q\n1,234;2,5;männlich\n2,5;1,125;weiblich\n"
WANTED = [[1.234, 2.5, 0.0], [2.5, 1.125, 1.0]]


def rows(data, columns=COLUMNS, **options):
    return read_rows(io.BytesIO(data), columns, reading=ReadOptions(**options)).tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "cp1252"},
        {"encoding": "cp1252", "delimiter": ";", "decimal": ","},
        {"encoding": "latin-1", "decimal": ","},
        {"decimal": ",", "thousands": "."},
        {"thousands": "."},
        {"delimiter": ";"},
        {"header": "none"},
    ],
)
def test_a_file_in_our_own_way_is_read_whatever_the_fit_was_read_with(options):
    with pytest.warns(DataWarning, match="another way than the table of the fit"):
        assert rows(PLAIN.encode(), **options) == WANTED


def test_a_file_like_that_of_the_fit_is_read_by_its_options():
    options = {"encoding": "cp1252", "delimiter": ";", "decimal": ","}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rows(GERMAN.encode("cp1252"), **options) == WANTED
        assert rows(GERMAN.encode("cp1252"), encoding="cp1252", decimal=",") == WANTED
        assert rows(PLAIN.encode()) == WANTED
        for text in ('"1,5",2', '"1.234,5",2', "7,2", "1.234,2"):  # commas in quotes, and nothing that contradicts them
            assert later_reading(f"a,b\n{text}\n".encode(), ReadOptions(decimal=","), "ab", "") == ReadOptions(decimal=",")


def test_points_that_part_no_thousands_are_decimal():
    columns = (Column("a"), Column("b"))
    with pytest.warns(DataWarning, match="decimal"):
        assert rows(b"a,b\n1.234,5.678\n0.5,0.25\n", columns, decimal=",") == [[1.234, 5.678], [0.5, 0.25]]
    with pytest.warns(DataWarning, match="thousands separators"):
        assert rows(b"a,b\n1.234,5.678\n", columns, decimal=",") == [[1234.0, 5678.0]]


def test_labels_in_another_encoding_than_names():
    columns = (Column("a"), Column("q", "categorical", 1.0, categories=("männlich",)))
    with pytest.warns(DataWarning, match="encoding"):
        assert rows("a,q\n1,männlich\n".encode(), columns, encoding="cp1252") == [[1.0, 0.0]]


def test_a_file_that_fits_in_no_way_is_an_error():
    with pytest.raises(DataError, match="columns that are not here"):
        rows(b"u;v\n1;2\n", delimiter=",", decimal=".")
