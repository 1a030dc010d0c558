"""What a table larger than memory offers: its names, and its rows in chunks, as often as needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from drl_density.datasets.tables.cells import read_cells
from drl_density.datasets.tables.meaning import TOKENS
from drl_density.errors import DataError

CELLS_AT_ONCE = 2**21
"""Cells of one chunk: 16 MiB of numbers, while the frame around them may take several times as much."""


class ChunkSource(Protocol):
    """A table that is read in chunks; a :class:`~drl_density.datasets.tables.reading.TableReader` is one.

    Attributes:
        where: name of the table for messages.
        names: names of its columns.
        num_rows: number of its rows, or None where only a pass can count them.
        first_row: number that messages give to its first row.
    """

    @property
    def where(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def num_rows(self) -> int | None: ...

    @property
    def first_row(self) -> int: ...

    def chunks(self, num_rows: int, *, names: Sequence[str] | None = None) -> Iterator[Any]:
        """All rows of the columns ``names`` in order, at most ``num_rows`` at a time."""
        ...


def rows_at_once(num_columns: int) -> int:
    """Rows of one chunk of that many columns."""
    return max(1, CELLS_AT_ONCE // num_columns)


def count_rows(source: ChunkSource) -> int:
    """Number of rows, from a pass where the source does not state it."""
    count = 0
    if source.num_rows is None:
        for frame in source.chunks(rows_at_once(len(source.names))):
            if source.num_rows is not None:  # a text table counts in the scan before its first chunk
                break
            count += len(frame)
    return count if source.num_rows is None else source.num_rows


def group_hashes(cells: Any, *, where: str, first_row: int) -> np.ndarray:
    """Random 64-bit integers ``(n,)`` of the cells of a column that groups rows, equal for equal cells.

    Args:
        cells: cells of the column.
        where: name of the source, for messages.
        first_row: number that messages give to the first cell.

    Raises:
        DataError: a row without a group.
    """
    from pandas.util import hash_array

    read = read_cells(cells)
    is_missing = read.is_missing
    if is_missing.any():
        raise _without("group", cells, int(is_missing.argmax()), where, first_row)
    # Numbers are hashed by value, so that a chunk of whole numbers and one of decimals agree.
    keys = read.as_numbers().values if read.kind in ("numbers", "booleans") else read.values.astype(str).astype(object)
    return np.asarray(hash_array(keys, categorize=True), dtype=np.uint64)  # pyright: ignore[reportCallIssue]


def time_numbers(cells: Any, *, where: str, first_row: int) -> np.ndarray:
    """Numbers ``(n,)`` in the order of the cells of a column of times: nanoseconds for dates, numbers as they are.

    Args:
        cells: cells of the column: numbers, dates, or ISO texts such as 2024-01-31T12:00.
        where: name of the source, for messages.
        first_row: number that messages give to the first cell.

    Raises:
        DataError: a row without a time, or text that is no date.
    """
    import pandas as pd

    read = read_cells(cells)
    is_missing = read.is_missing
    if is_missing.any():
        raise _without("time", cells, int(is_missing.argmax()), where, first_row)
    if read.kind in ("numbers", "booleans"):
        return read.as_numbers().values
    try:
        if read.kind == "text" and {str(cell).strip().lower() for cell in read.values} & {"now", "today"}:
            raise ValueError("'now' and 'today' are no dates")  # pandas takes them for the time of the reading
        dates = pd.to_datetime(pd.Series(read.values), format=None if read.kind == "dates" else "ISO8601", utc=True)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{where}: column {str(cells.name)!r} must order the rows by time, but has text that is no ISO date such as "
            f"2024-01-31 or 2024-01-31T12:00 ({error})"
        ) from error
    return np.asarray(dates.dt.as_unit("ns").astype(np.int64), dtype=np.float64)


def weight_numbers(cells: Any, *, where: str, first_row: int, tokens: frozenset[str] = TOKENS) -> np.ndarray:
    """Positive numbers ``(n,)`` of the cells of a column of row weights.

    Args:
        cells: cells of the column.
        where: name of the source, for messages.
        first_row: number that messages give to the first cell.
        tokens: texts that mean a missing value, in lower case.

    Raises:
        DataError: a cell that is no positive number.
    """
    values = read_cells(cells, tokens=tokens).as_numbers().values
    is_bad = ~(np.isfinite(values) & (values > 0))
    if is_bad.any():
        row = first_row + int(is_bad.argmax())
        raise DataError(
            f"{where}: column {str(cells.name)!r}, row {row}: must be a positive number, as the weight of its row"
        )
    return values


def _without(role: str, cells: Any, row: int, where: str, first_row: int) -> DataError:
    return DataError(f"{where}: column {str(cells.name)!r}, row {first_row + row} is empty, so the row has no {role}")
