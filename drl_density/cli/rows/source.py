"""The table that a command reads in row groups, and the rows that it writes next to it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor

from drl_density.cli.output import note
from drl_density.cli.rows.row_groups import PlacedError, TableGroup
from drl_density.datasets import Column, ReadOptions, read_rows
from drl_density.datasets.column import LARGEST_EXACT
from drl_density.datasets.tables.chunks import is_table, open_table
from drl_density.datasets.tables.coding import decode_rows, encode_frame, refuse_lacking
from drl_density.datasets.tables.writing import free_names, is_stream
from drl_density.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Columns", "TableSource"]

Columns = Literal["all", "ours"]
"""Columns of an output: those of the table with ours behind them, or ours alone."""


class TableSource:
    """A table with the columns of a fit, read in row groups.

    Text and Parquet are read group by group. A bundled data set, an array or netCDF is read at once.

    Args:
        source: path of a table, "-" for standard input, or the name of a bundled data set.
        columns: columns of the fit.
        reading: options of reading.
        missing: whether missing values are refused or kept.
        absent: columns of the fit that the table may lack.

    Raises:
        DataError: no such table, or one without the columns of the fit.
    """

    def __init__(
        self,
        source: str,
        columns: Sequence[Column],
        *,
        reading: ReadOptions,
        missing: Literal["refuse", "keep"] = "refuse",
        absent: Sequence[str] = (),
    ) -> None:
        self.source, self.columns, self.absent, self.reading = source, tuple(columns), tuple(absent), reading
        self.missing: Literal["refuse", "keep"] = missing
        self._rows: Tensor | None = None
        self._reader: Any = None
        self._counted: set[str] = set()
        if is_table(source):
            self._reader = open_table(source, reading=reading, columns=self.columns)
            self.names: tuple[str, ...] = tuple(self._reader.names)
            self.num_rows: int | None = self._reader.num_rows
            self.schema, self.where = self._reader.schema, self._reader.where
            self.first_row = self._reader.first_row
            refuse_lacking(self.names, [column.name for column in self.columns], self.absent, self.where)
        else:
            self._rows = read_rows(source, columns, missing=missing, absent=self.absent)
            self.names = tuple(column.name for column in columns)
            self.num_rows, self.schema, self.where, self.first_row = len(self._rows), None, source, 0

    @property
    def is_stream(self) -> bool:
        """Whether the table comes from standard input or another pipe, and cannot be read again."""
        return is_stream(self.source)

    def identity(self) -> dict[str, Any]:
        """What changes where the table does, as values that JSON can hold."""
        path = Path(self.source)
        if self.is_stream or not path.exists():
            return {"table": self.source}
        files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
        sizes = [os.stat(file) for file in files]
        return {
            "table": str(path.resolve()),
            "size of the table": sum(size.st_size for size in sizes),
            "time of the table": max((size.st_mtime_ns for size in sizes), default=0),
        }

    def groups(self, size: int) -> Iterator[TableGroup]:
        """Row groups of ``size`` rows; one without rows for a table that has none."""
        first = 0
        with contextlib.closing(self._frames(size)) as frames:
            for index, frame in enumerate(frames):
                yield TableGroup(index, first, len(frame), frame)
                first += len(frame)

    def _frames(self, size: int) -> Generator[pd.DataFrame, None, None]:
        if self._rows is None:
            for frame in self._reader.chunks(size):
                yield frame if self.schema is not None else self._with_whole_numbers(frame)
            return
        for part in self._rows.split(size):
            yield decode_rows(part, self.columns)

    def _with_whole_numbers(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A frame of text with whole numbers and truth values next to missing cells too: 5 is not written as 5.0."""
        changed = {}
        for column in self.columns:
            if column.name not in frame or not column.storage.startswith(("int", "uint", "bool")):
                continue
            cells = frame[column.name]
            if column.storage == "bool":
                # Cells that are all missing look like numbers; the drawn ones are true and false as in other groups.
                if cells.dtype == "float64" and bool(np.asarray(cells.notna()).any()):
                    self._counted.add(column.name)
                elif cells.dtype == "float64" and column.name not in self._counted:
                    changed[column.name] = cells.astype("boolean")
                continue
            if cells.dtype == "float64" and bool(
                ((cells == cells.round()) & (cells.abs() < LARGEST_EXACT) | cells.isna()).all()
            ):
                changed[column.name] = cells.astype("Int64")
        return frame.assign(**changed)

    def encode(self, group: TableGroup) -> Tensor:
        """The rows of a group ``(n, d)`` in the coding of the fit, float64.

        Raises:
            PlacedError: a cell that the fit's columns do not allow; the message names its row in the table.
        """
        if self._rows is not None:
            return self._rows[group.first_row : group.first_row + group.num_rows]
        try:
            return encode_frame(
                group.frame,
                self.columns,
                missing=self.missing,
                absent=self.absent,
                where=self.where,
                first_row=self.first_row + group.first_row,
                tokens=self.reading.tokens,
            )
        except DataError as error:
            raise PlacedError(str(error)) from error

    def beside(self, frame: pd.DataFrame, ours: pd.DataFrame, columns: Columns = "all") -> pd.DataFrame:
        """The table's own columns with ``ours`` behind them; ours get other names where the table has theirs.

        Args:
            frame: rows of the table.
            ours: as many rows to add; their index is that of the table.
            columns: "ours" leaves the table's columns out.
        """
        ours = ours.set_axis(frame.index, axis=0)
        if columns == "ours":
            return ours
        renamed = ours.rename(columns=free_names(self.names, list(ours.columns)))
        return frame.assign(**{str(name): renamed[name] for name in renamed.columns})

    def say_renamed(self, ours: Sequence[str], columns: Columns = "all") -> None:
        """Note on standard error which of our columns have another name, since the table has theirs already."""
        changed = {old: new for old, new in free_names(self.names, ours).items() if old != new}
        if changed and columns == "all":
            shown = ", ".join(f"{old} is written as {new}" for old, new in changed.items())
            note(f"note: the table has columns of the same names: {shown}")
