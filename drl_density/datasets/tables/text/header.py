"""Recognises whether the first row of a text table names its columns."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Sequence

from drl_density.datasets.tables.meaning import composed
from drl_density.datasets.tables.reading import ReadOptions, is_missing_text
from drl_density.datasets.tables.text.numerals import is_numeral, to_boolean, to_number
from drl_density.errors import DataError, DataWarning

__all__ = ["has_header"]

YEARS = range(1800, 2101)
"""Numbers that may be years in a header: our own choice."""


def has_header(rows: Sequence[Sequence[str]], reading: ReadOptions, *, where: str, known: Collection[str] = ()) -> bool:
    """Whether the first of ``rows`` names the columns; a guess that may be wrong becomes a note.

    A first row of texts over columns with numbers is a header. A first row of numbers is one if it runs in equal steps, or
    consists of years or whole numbers, and the rows below do not. A first row with numbers wherever the rows below have
    numbers is data, even with texts in other columns.

    Args:
        rows: the first rows of the file, cell by cell without the spaces around them.
        reading: whether the header is given, and which texts mark a missing value.
        where: name of the file for messages.
        known: names of columns that the table should have.

    Raises:
        DataError: numbers that may be names or data.

    >>> has_header([["a", "b"], ["1", "2"]], ReadOptions(), where="")
    True
    >>> has_header([["1", "2"], ["3", "5"]], ReadOptions(), where="")
    False
    """
    if reading.header != "auto":
        return reading.header == "first-row"
    first, body = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    if known and set(known) <= set(map(composed, first)):
        return True
    if not body:
        return not any(map(is_numeral, first))
    columns = [[row[place] for row in body if not is_missing_text(row[place], reading)] for place in range(len(first))]
    is_numeric = [bool(column) and _share(column) >= 0.5 for column in columns]
    if not any(is_numeric):
        return not any(cell in column for cell, column in zip(first, columns, strict=True) if cell)
    has_text_over_numbers = any(
        numeric and not is_numeral(cell) and not is_missing_text(cell, reading)
        for cell, numeric in zip(first, is_numeric, strict=True)
    )
    if has_text_over_numbers or _names_an_index(first):
        return True
    places = [place for place, numeric in enumerate(is_numeric) if numeric]
    texts_repeat = any(
        first[place] in columns[place] or is_missing_text(first[place], reading)
        for place, numeric in enumerate(is_numeric)
        if not numeric
    )
    shown = ", ".join(first[:6]) + (", ..." if len(first) > 6 else "")
    if not texts_repeat and len(set(first)) == len(first):
        verdict = _numbers_name([first[place] for place in places], [[row[place] for place in places] for row in body])
        if verdict is None:
            raise DataError(
                f"{where}: the first row ({shown}) may be the names of the columns or data; choose with header='first-row' "
                "or header='none' (--header first-row, --header none)"
            )
        if verdict:
            warnings.warn(
                f"{where}: the first row ({shown}) is read as the names of the columns, since the rows below are unlike it; "
                "header='none' (--header none) reads it as data",
                DataWarning,
                stacklevel=6,
            )
            return True
    if not all(is_numeric):
        warnings.warn(
            f"{where}: the first row ({shown}) is read as data, since it is like the rows below; the columns are called x0, "
            "x1, ...; header='first-row' (--header first-row) reads it as names",
            DataWarning,
            stacklevel=6,
        )
    return False


def _names_an_index(first: Sequence[str]) -> bool:
    """Whether a first row without a first cell is pandas' header over a saved index."""
    rest = list(first[1:])
    is_counted = rest == [str(place) for place in range(len(rest))]
    return first[0] == "" and bool(rest) and (is_counted or all(cell and not is_numeral(cell) for cell in rest))


def _number(cell: str) -> float | None:
    value = to_number(cell)
    return to_number(cell, ",") if value is None else value


def _share(column: Sequence[str]) -> float:
    return sum(is_numeral(cell) or to_boolean(cell) is not None for cell in column) / len(column)


def _numbers_name(first: Sequence[str], body: Sequence[Sequence[str]]) -> bool | None:
    """Whether numbers are names of columns; None where this is unclear."""
    values = [_number(cell) for cell in first]
    if not values or any(value is None for value in values) or len(set(values)) < len(values):
        return False
    numbers = [float(value) for value in values if value is not None]
    if _has_equal_steps(first):
        alike = sum(_has_equal_steps(row) for row in body)
        return alike < 0.1 * len(body)
    is_whole = all(re.fullmatch(r"\d+", cell) for cell in first)
    if not is_whole:
        return False
    below = [cell for row in body for cell in row if is_numeral(cell)]
    if below and sum(re.fullmatch(r"[+-]?\d+", cell) is None for cell in below) > 0.9 * len(below):
        return True
    ascending = numbers == sorted(numbers)
    if ascending and all(int(number) in YEARS for number in numbers):
        outside = sum(not YEARS[0] <= (_number(cell) or 0.0) <= YEARS[-1] for cell in below)
        return outside > 0.9 * len(below)
    return None if numbers == [0.0, 1.0] or (numbers == [0.0] and len(first) == 1) else False


def _has_equal_steps(row: Sequence[str]) -> bool:
    """Whether at least three numbers ascend in equal steps."""
    values = [_number(cell) for cell in row]
    if len(values) < 3 or any(value is None for value in values):
        return False
    numbers = [float(value) for value in values if value is not None]
    steps = [after - before for before, after in zip(numbers[:-1], numbers[1:], strict=True)]
    return steps[0] > 0 and max(abs(step - steps[0]) for step in steps) < 1e-6 * abs(steps[0]) + 1e-9 * abs(numbers[-1])
