"""Reads a whole table from any source: a bundled set, a file, standard input, an array, a tensor or a frame."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from drl_density.datasets.column import Column
from drl_density.datasets.tables.arrays import ARRAY_SUFFIXES, read_array_file
from drl_density.datasets.tables.cells import plain_array
from drl_density.datasets.tables.chunks import PACKED, is_table, open_table
from drl_density.datasets.tables.frames import as_frame, is_frame
from drl_density.datasets.tables.meaning import composed
from drl_density.datasets.tables.parquet import PARQUET_SUFFIXES
from drl_density.datasets.tables.raw_table import RawTable, array_table, as_table
from drl_density.datasets.tables.reading import ReadOptions
from drl_density.datasets.tables.text.table import TEXT_SUFFIXES
from drl_density.datasets.toys import TOYS
from drl_density.errors import DataError

__all__ = ["BUNDLED", "FoundTable", "read_table", "without"]

BUNDLED = ("digits", "wine", "breast_cancer", "diabetes")
"""Real data sets that come with scikit-learn."""


class FoundTable(NamedTuple):
    """A table that was read.

    Attributes:
        name: short name.
        source: name or path from which it can be read again, or "" without one.
        where: name for messages.
        table: its cells.
    """

    name: str
    source: str
    where: str
    table: RawTable


def read_table(
    source: Any,
    *,
    reading: ReadOptions | None = None,
    drop: Collection[str] = (),
    labels: Sequence[str] = (),
    columns: Sequence[Column] | None = None,
) -> FoundTable:
    """Reads a whole table.

    Args:
        source: name of a bundled set, path, ``"-"`` for standard input, open file, array, tensor or frame.
        reading: options of reading a file.
        drop: names of columns to leave out.
        labels: names of columns whose cells are texts, whatever they look like.
        columns: columns of a fit. A file is then read by their rules, and for them alone.

    Raises:
        DataError: a source that cannot be read, or columns to drop that are not there.
    """
    found = _read(source, reading or ReadOptions(), drop, labels, columns)
    return found._replace(table=without(found.table, [name for name in drop if name in found.table.names], found.where))


def without(table: RawTable, drop: Sequence[str], where: str) -> RawTable:
    """The table without some columns.

    Raises:
        DataError: columns that are not there, or no column left.
    """
    _refuse_unknown(table.names, drop, where)
    kept = [name for name in table.names if name not in drop]
    if not kept:
        raise DataError("every column was dropped; keep at least one")
    return table if len(kept) == len(table.names) else table.select(kept)


def _refuse_unknown(names: Sequence[str], drop: Collection[str], where: str) -> None:
    unknown = [name for name in drop if name not in names]
    if unknown:
        raise DataError(f"{where or 'the table'}: cannot drop {', '.join(unknown)}; columns are {', '.join(names)}")


def _read(
    source: Any, reading: ReadOptions, drop: Collection[str], labels: Sequence[str], columns: Sequence[Column] | None
) -> FoundTable:
    if isinstance(source, str) and source in BUNDLED:
        found = FoundTable(source, source, source, _bundled(source))
    elif isinstance(source, str | os.PathLike) and not is_table(source):
        found = _array_file(str(source))
    elif isinstance(source, Tensor):
        found = FoundTable("array", "", "the tensor", array_table(plain_array(source), where="the tensor"))
    elif is_frame(source):
        frame = as_frame(source)
        cells = [frame.column(place) for place in range(len(frame.names))]
        found = FoundTable("table", "", "the table", as_table(cells, frame.names))
    elif is_table(source):
        return _chunked(source, reading, drop, labels, columns)
    else:
        found = FoundTable("array", "", "the array", array_table(plain_array(source)))
    _refuse_unknown(found.table.names, drop, found.where)
    return found


def _chunked(
    source: Any, reading: ReadOptions, drop: Collection[str], labels: Sequence[str], columns: Sequence[Column] | None
) -> FoundTable:
    """A text table or Parquet."""
    is_path = isinstance(source, str | os.PathLike) and str(source) != "-"
    reader = open_table(source, reading=reading, columns=columns, labels=labels)
    _refuse_unknown(reader.names, drop, reader.where)
    names = [name for name in reader.names if name not in drop]
    if not names:
        raise DataError("every column was dropped; keep at least one")
    known = {composed(column.name) for column in columns or ()}
    fitted = [name for name in names if composed(name) in known]
    frame = reader.read(names=fitted or names)
    if not len(frame) and columns is None:
        shown = ", ".join(reader.names[:5])
        raise DataError(f"{reader.where}: has a header ({shown}{', ...' if len(reader.names) > 5 else ''}) and no rows")
    cells = [frame[name] for name in frame.columns]
    table = as_table(
        cells,
        list(frame.columns),
        first_row=reader.first_row,
        tokens=reading.tokens,
        notes_numbers=False,
        where=reader.where,
    )
    name = _stem(Path(source)) if is_path else reader.where
    return FoundTable(name, str(source) if is_path else "", reader.where, table)


def _stem(path: Path) -> str:
    """The name of a file without its ending and that of its compression."""
    return Path(path.stem).stem if path.suffix.lower() in PACKED else path.stem


def _array_file(text: str) -> FoundTable:
    path, key = Path(text), None
    if not path.exists() and ".npz:" in text.lower():
        stem, key = text.rsplit(":", 1)
        path = Path(stem)
    if path.exists():
        if path.suffix.lower() not in ARRAY_SUFFIXES:
            known = (*TEXT_SUFFIXES, *PARQUET_SUFFIXES, *ARRAY_SUFFIXES)
            raise DataError(
                f"{path}: expected a file ending in {', '.join(known)}, got {path.suffix or 'none'}; text may be compressed "
                f"({', '.join(PACKED)}), and text in any file is read from standard input, as in: fit - < {path.name}"
            )
        return FoundTable(path.stem if key is None else key, text, text, read_array_file(path, key))
    known = [*BUNDLED, *TOYS]
    if path.suffix or os.sep in text:
        raise DataError(f"there is no file {text!r}")
    close = difflib.get_close_matches(text, known)
    hint = f"did you mean {', '.join(close)}?" if close else f"known sets are {', '.join(known)}; or give a file"
    raise DataError(f"there is no data set {text!r}: {hint}")


def _bundled(name: str) -> RawTable:
    from sklearn import datasets

    loaders: dict[str, Callable[[], Any]] = {
        "digits": datasets.load_digits,
        "wine": datasets.load_wine,
        "breast_cancer": datasets.load_breast_cancer,
        "diabetes": lambda: datasets.load_diabetes(scaled=False),
    }
    bunch = loaders[name]()
    return array_table(plain_array(bunch.data), [str(n) for n in bunch.feature_names])
