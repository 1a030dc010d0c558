"""Reads tables from files and arrays into named columns of numbers; errors name the file, column and row."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drl_density.datasets.tables.coding import plain_array
from drl_density.datasets.tables.frames import as_frame
from drl_density.datasets.tables.raw_table import RawTable, array_table, as_table
from drl_density.errors import DataError

UNREADABLE = (OSError, ValueError, EOFError, KeyError, csv.Error, zipfile.BadZipFile)
SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".npy", ".npz", ".nc")


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
    return array_table(plain_array(values), names, where=where)


def from_frame(frame: Any) -> RawTable:
    """The table of a frame of any library, or of an array of records."""
    found = as_frame(frame)
    return as_table([found.column(place) for place in range(len(found.names))], found.names)


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
    return as_table(cells, names, first_row=1 + int(has_header), notes_numbers=False)


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
    return as_table([table.column(place) for place in range(table.num_columns)], table.column_names)


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
    return as_table(list(arrays.values()), list(arrays), first_row=0)
