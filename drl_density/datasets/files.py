"""Reads tables from files and arrays into named columns of numbers; errors name the file, column and row."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from drl_density.errors import DataError

MOST_CATEGORIES = 20
"""Greatest number of distinct texts that count as labels: our own choice."""
UNREADABLE = (OSError, ValueError, EOFError, KeyError, csv.Error, zipfile.BadZipFile)
SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".npy", ".npz", ".nc")


@dataclass(frozen=True)
class RawTable:
    """A table as it was read.

    Attributes:
        values: numbers ``(rows, columns)``; NaN for empty cells and for columns of free text or dates.
        names: names of the columns, in order.
        event_shape: shape of one point.
        categories: labels behind the codes of each column of labels, by name.
        texts: original cells of each column of text or dates, by name.
        first_row: number that messages give to the first row.
    """

    values: np.ndarray
    names: tuple[str, ...]
    event_shape: tuple[int, ...]
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    texts: dict[str, np.ndarray] = field(default_factory=dict)
    first_row: int = 1

    def select(self, names: Sequence[str]) -> RawTable:
        """Only the columns ``names``, in this order."""
        columns = [self.names.index(name) for name in names]
        kept = {
            part: {name: value for name, value in getattr(self, part).items() if name in names}
            for part in ("categories", "texts")
        }
        return replace(self, values=self.values[:, columns], names=tuple(names), event_shape=(len(columns),), **kept)

    def refuse_free_text(self, where: str, *, advice: str | None = None) -> None:
        """Refuses columns of free text or dates.

        Args:
            where: name of the source, for the message.
            advice: what the message recommends; the options of a new fit when not given.

        Raises:
            DataError: the first such column, with the row of its first text.
        """
        for name in self.names:
            if name not in self.texts or name in self.categories:
                continue
            cells = self.texts[name]
            row = next(i for i, cell in enumerate(cells) if not _is_missing(cell) and not _is_number(cell))
            count = len({str(cell) for cell in cells if not _is_missing(cell)})
            remedy = advice or (
                f"its column has {count} values, too many for labels (at most {MOST_CATEGORIES}, and half as many "
                f"as rows); correct the cell, leave the column out with drop=[{name!r}] (--drop {name}), or split by it "
                f"(--group {name}, --time {name})"
            )
            raise DataError(
                f"{where or 'the table'}: column {name!r}, row {self.first_row + row}: {str(cells[row])!r} is text or "
                f"a date; {remedy}"
            )


def read_file(path: Path, key: str | None = None) -> RawTable:
    """Reads a table in the format of its suffix.

    Args:
        path: file to read.
        key: name of an array in an .npz archive; needed only if it holds several.

    Raises:
        DataError: an unknown suffix, or a file that cannot be read.
    """
    readers = {
        ".csv": _read_text,
        ".tsv": _read_text,
        ".txt": _read_text,
        ".parquet": _read_parquet,
        ".npy": _read_npy,
        ".nc": _read_netcdf,
    }
    try:
        if path.suffix == ".npz":
            return _read_npz(path, key)
        if path.suffix not in readers:
            raise DataError(f"{path}: expected a file ending in {', '.join(SUFFIXES)}, got {path.suffix or 'none'}")
        return readers[path.suffix](path)
    except DataError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> DataError:
    """The error for a ``path`` whose reader raised ``error``, one of :data:`UNREADABLE`."""
    reason = "no such array, or pickled objects, which are never read" if "pickled" in str(error) else str(error)
    return DataError(f"{path}: cannot be read as {path.suffix} ({reason}); is the file complete?")


def from_array(values: Any, names: Sequence[str] | None = None, *, where: str = "the array") -> RawTable:
    """The table of an array of numbers, ``(rows, columns)`` or of points ``(rows, ...)``."""
    array = np.asarray(values)
    if array.ndim < 2 or array.shape[0] < 1:
        raise DataError(f"{where}: expected rows by columns, or images (n, ...), got shape {array.shape}")
    if array.dtype.kind not in "fiub":
        raise DataError(f"{where}: expected numbers, got dtype {array.dtype}")
    event_shape = array.shape[1:]
    flat = array.reshape(len(array), -1).astype(np.float64)
    names = tuple(names) if names is not None else tuple(f"x{index}" for index in range(flat.shape[1]))
    return RawTable(flat, names, tuple(int(n) for n in event_shape))


def from_frame(frame: Any) -> RawTable:
    """The table of a pandas DataFrame, or of anything with ``columns`` and item access by name."""
    names = [str(name) for name in frame.columns]
    columns = [np.asarray(frame[name]) for name in frame.columns]
    return _assemble(columns, names, first_row=1)


def _read_text(path: Path) -> RawTable:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        head = stream.read(65536)
        if not head.strip():
            raise DataError(f"{path}: the file is empty")
        first = head.splitlines()[0]
        delimiter = max("\t;,", key=first.count) if any(mark in first for mark in "\t;,") else ","
        stream.seek(0)
        header = next(csv.reader(stream, delimiter=delimiter))
    has_header = any(not _is_number(cell) for cell in header)
    names = [cell.strip() for cell in header] if has_header else [f"x{index}" for index in range(len(header))]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: columns named twice: {', '.join(repeated)}; give each its own name")
    if has_header and len(head.split("\n", 1)[-1].strip()) == 0 and len(head) < 65536:
        raise DataError(f"{path}: has a header ({', '.join(names[:5])}) and no rows")
    try:
        values = np.loadtxt(path, delimiter=delimiter, skiprows=int(has_header), ndmin=2, encoding="utf-8-sig")
    except ValueError:
        return _read_mixed(path, delimiter, names, has_header)
    if values.shape[1] != len(names):
        raise DataError(f"{path}: the header names {len(names)} columns, the rows have {values.shape[1]}")
    return RawTable(values, tuple(names), (len(names),), first_row=1 + int(has_header))


def _read_mixed(path: Path, delimiter: str, names: list[str], has_header: bool) -> RawTable:  # noqa: FBT001
    cells: list[list[str]] = [[] for _ in names]
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream, delimiter=delimiter)
        for number, row in enumerate(reader, start=1):
            if number == 1 and has_header or not row:
                continue
            if len(row) != len(names):
                raise DataError(f"{path}: row {number} has {len(row)} cells, expected {len(names)}")
            for column, cell in zip(cells, row, strict=True):
                column.append(cell.strip())
    return _assemble([np.asarray(column, dtype=object) for column in cells], names, first_row=1 + int(has_header))


def _assemble(columns: list[np.ndarray], names: Sequence[str], first_row: int) -> RawTable:
    values, categories, texts = [], {}, {}
    for name, column in zip(names, columns, strict=True):
        numbers = _numbers(column)
        if numbers is None:
            texts[name] = column
            labels = _labels(column)
            code = {label: float(index) for index, label in enumerate(labels or ())}
            numbers = np.array([np.nan if _is_missing(cell) else code.get(str(cell), np.nan) for cell in column])
            if labels is not None:
                categories[name] = labels
        values.append(numbers)
    return RawTable(np.stack(values, 1), tuple(names), (len(names),), categories, texts, first_row)


def _numbers(column: np.ndarray) -> np.ndarray | None:
    if column.dtype.kind in "fiub":
        return column.astype(np.float64)
    numbers = np.empty(len(column))
    for index, cell in enumerate(column):
        if _is_missing(cell):
            numbers[index] = np.nan
        elif _is_number(cell):
            numbers[index] = float(cell)
        else:
            return None
    return numbers


def _labels(column: np.ndarray) -> tuple[str, ...] | None:
    """Labels of a text column in alphabetical order; None for dates and for too many distinct texts."""
    labels = sorted({str(cell) for cell in column if not _is_missing(cell)})
    is_free = column.dtype.kind == "M" or len(labels) > MOST_CATEGORIES or len(labels) > max(2, 0.5 * len(column))
    return None if is_free else tuple(labels)


def _is_missing(cell: Any) -> bool:
    return (
        cell is None
        or (isinstance(cell, float) and cell != cell)
        or str(cell).strip().lower() in ("", "na", "nan", "nat")
    )


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def _read_parquet(path: Path) -> RawTable:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'drl-density[tables]'") from error
    table = parquet.read_table(path)
    columns = [np.asarray(table[name].to_numpy(zero_copy_only=False)) for name in table.column_names]
    return _assemble(columns, table.column_names, first_row=1)


def _read_npy(path: Path) -> RawTable:
    return from_array(np.load(path, allow_pickle=False), where=str(path))


def _read_npz(path: Path, key: str | None) -> RawTable:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        names = list(archive.files)
        tables = [name for name in names if archive[name].ndim >= 2]
        if key is None and len(tables) == 1:
            key = tables[0]
        if key is None or key not in names:
            asked = "none was named" if key is None else f"{key!r} is not one of them"
            raise DataError(f"{path}: has the arrays {', '.join(names)}, and {asked}: write {path.name}:NAME")
        return from_array(archive[key], where=f"{path}:{key}")


def _read_netcdf(path: Path) -> RawTable:
    import xarray as xr

    with xr.open_dataset(path, engine="h5netcdf") as data:
        arrays = {str(name): array.values for name, array in data.data_vars.items()}
    if len(arrays) == 1 and next(iter(arrays.values())).ndim >= 2:
        return from_array(next(iter(arrays.values())), where=str(path))
    if not arrays or any(array.ndim != 1 for array in arrays.values()):
        raise DataError(f"{path}: expected one array of rows, or variables along one dimension")
    return _assemble(list(arrays.values()), list(arrays), first_row=0)
