"""Reading tables: every source becomes named columns of numbers, or an error that names file, column and row."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from drl_density.errors import DataError

MOST_CATEGORIES = 20
SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".npy", ".npz", ".nc")


@dataclass(frozen=True)
class RawTable:
    """Columns as read: numbers (NaN where a cell was empty), labels of text columns, shape of one point."""

    values: np.ndarray
    names: tuple[str, ...]
    event_shape: tuple[int, ...]
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    first_row: int = 1


def read_file(path: Path, key: str | None = None) -> RawTable:
    """Read a table by its suffix.

    Raises:
        DataError: unknown suffix, unreadable or truncated file, free text.
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
    except (OSError, ValueError, EOFError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as {path.suffix} ({error}); is the file whole?") from error


def from_array(values: Any, names: Sequence[str] | None = None, *, where: str = "the array") -> RawTable:
    """A 2-D array of numbers, or an array of images (n, ...), as a table."""
    array = np.asarray(values)
    if array.ndim < 2 or array.shape[0] < 1:
        raise DataError(f"{where}: expected rows by columns, or images (n, ...), got shape {array.shape}")
    if array.dtype.kind not in "fiub":
        raise DataError(f"{where}: expected numbers, got dtype {array.dtype}")
    event_shape = array.shape[1:]
    flat = array.reshape(len(array), -1).astype(np.float64)
    names = tuple(names) if names is not None else tuple(f"x{index}" for index in range(flat.shape[1]))
    return RawTable(flat, names, tuple(int(n) for n in event_shape))


def from_frame(frame: Any, *, where: str = "the table") -> RawTable:
    """A pandas DataFrame (or anything with ``columns`` and item access by name) as a table."""
    names = [str(name) for name in frame.columns]
    columns = [np.asarray(frame[name]) for name in frame.columns]
    return _assemble(columns, names, where, first_row=1)


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
    return _assemble([np.asarray(column, dtype=object) for column in cells], names, str(path), 1 + int(has_header))


def _assemble(columns: list[np.ndarray], names: Sequence[str], where: str, first_row: int) -> RawTable:
    values, categories = [], {}
    for name, column in zip(names, columns, strict=True):
        numbers = _numbers(column)
        if numbers is None:
            numbers, labels = _codes(column, name, where, first_row)
            categories[name] = labels
        values.append(numbers)
    return RawTable(np.stack(values, 1), tuple(names), (len(names),), categories, first_row)


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


def _codes(column: np.ndarray, name: str, where: str, first_row: int) -> tuple[np.ndarray, tuple[str, ...]]:
    labels = sorted({str(cell) for cell in column if not _is_missing(cell)})
    if len(labels) > MOST_CATEGORIES or len(labels) > max(2, 0.5 * len(column)):
        row = next(i for i, cell in enumerate(column) if not _is_missing(cell) and not _is_number(cell))
        raise DataError(
            f"{where}: column {name!r}, row {first_row + row}: {str(column[row])!r} is text with {len(labels)} distinct "
            f"values (at most {MOST_CATEGORIES} make a categorical column); drop it with drop=[{name!r}] (--drop {name})"
        )
    code = {label: float(index) for index, label in enumerate(labels)}
    numbers = np.array([np.nan if _is_missing(cell) else code[str(cell)] for cell in column])
    return numbers, tuple(labels)


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and cell != cell) or str(cell).strip().lower() in ("", "na", "nan")


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
    return _assemble(columns, table.column_names, str(path), first_row=1)


def _read_npy(path: Path) -> RawTable:
    return from_array(np.load(path, allow_pickle=False), where=str(path))


def _read_npz(path: Path, key: str | None) -> RawTable:
    with np.load(path, allow_pickle=False) as archive:
        names = list(archive.files)
        tables = [name for name in names if archive[name].ndim >= 2]
        if key is None and len(tables) == 1:
            key = tables[0]
        if key is None or key not in names:
            asked = "none was named" if key is None else f"{key!r} is not one of them"
            raise DataError(f"{path}: holds arrays {', '.join(names)} and {asked}: write {path.name}:NAME")
        return from_array(archive[key], where=f"{path}:{key}")


def _read_netcdf(path: Path) -> RawTable:
    import xarray as xr

    with xr.open_dataset(path, engine="h5netcdf") as data:
        arrays = {str(name): array.values for name, array in data.data_vars.items()}
    if len(arrays) == 1 and next(iter(arrays.values())).ndim >= 2:
        return from_array(next(iter(arrays.values())), where=str(path))
    if not arrays or any(array.ndim != 1 for array in arrays.values()):
        raise DataError(f"{path}: expected one array of rows, or variables along one dimension")
    return _assemble(list(arrays.values()), list(arrays), str(path), first_row=0)
