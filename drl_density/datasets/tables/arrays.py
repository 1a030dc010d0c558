"""Reads files of arrays: NumPy's .npy and .npz, and netCDF."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from drl_density.datasets.tables.raw_table import RawTable, array_table, as_table
from drl_density.errors import DataError

__all__ = ["ARRAY_SUFFIXES", "UNREADABLE", "read_array_file", "unreadable"]

ARRAY_SUFFIXES = (".npy", ".npz", ".nc")
"""Endings of files of arrays, in lower case."""
UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)
"""What readers of arrays raise for a damaged file."""


def read_array_file(path: Path, key: str | None = None) -> RawTable:
    """Reads the table of an array, or of variables along one dimension.

    Args:
        path: file in .npy, .npz or .nc.
        key: name of an array in an .npz archive; needed only if it holds several tables.

    Raises:
        DataError: a file that cannot be read, or that holds no table.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".nc": _read_netcdf}
    try:
        return readers[path.suffix.lower()](path, key)
    except DataError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> DataError:
    """The error for a file whose reader failed.

    Args:
        path: the file.
        error: what the reader raised, one of :data:`UNREADABLE`.
    """
    if "Python objects" in str(error):  # what numpy says of a mapped file
        return DataError(
            f"{path}: holds pickled objects, which are never read, as rows or images of mixed sizes are saved: save one "
            "array of numbers"
        )
    reason = "no such array, or pickled objects, which are never read" if "pickle" in str(error) else str(error)
    return DataError(f"{path}: cannot be read as {path.suffix} ({reason}); is the file complete?")


def _read_npy(path: Path, _: str | None) -> RawTable:
    return array_table(np.load(path, allow_pickle=False), where=str(path))


def _read_npz(path: Path, key: str | None) -> RawTable:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        names = list(archive.files)
        tables = [name for name in names if archive[name].ndim >= 2]
        if key is None and len(tables) == 1:
            key = tables[0]
        if not names:
            raise DataError(f"{path}: holds no array: save one, as by np.savez({path.name!r}, rows=rows)")
        if key is None or key not in names:
            asked = "none was named" if key is None else f"{key!r} is not one of them"
            raise DataError(f"{path}: has the arrays {', '.join(names)}, and {asked}: write {path.name}:NAME")
        return array_table(archive[key], where=f"{path}:{key}")


def _read_netcdf(path: Path, _: str | None) -> RawTable:
    import xarray as xr

    with xr.open_dataset(path, engine="h5netcdf") as data:
        arrays = {str(name): array.values for name, array in data.data_vars.items()}
        along = {str(name): array.dims for name, array in data.data_vars.items()}
    if len(arrays) == 1 and next(iter(arrays.values())).ndim >= 2:
        return array_table(next(iter(arrays.values())), where=str(path))
    if not arrays or any(array.ndim != 1 for array in arrays.values()):
        raise DataError(f"{path}: expected one array of rows, or variables along one dimension")
    if len(set(along.values())) > 1:
        raise DataError(
            f"{path}: expected variables along one dimension, so that their values form rows, got "
            + ", ".join(f"{name} along {dims[0]}" for name, dims in along.items())
        )
    return as_table(list(arrays.values()), list(arrays), first_row=0, where=str(path))
