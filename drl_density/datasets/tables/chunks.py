"""Opens a table of any format that can be read in chunks of rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drl_density.datasets.tables.parquet import PARQUET_SUFFIXES, ParquetTable
from drl_density.datasets.tables.reading import Kind, ReadOptions, TableReader, is_pipe
from drl_density.datasets.tables.text.table import TEXT_SUFFIXES, TextTable
from drl_density.errors import DataError

if TYPE_CHECKING:
    from drl_density.datasets.column import Column

__all__ = ["is_table", "open_table", "suffix_of"]

PACKED = (".gz", ".bz2", ".xz", ".zst")
"""Endings of compressed text tables, in lower case."""


def suffix_of(path: Path) -> str:
    """The ending of a file in lower case, without that of its compression.

    >>> suffix_of(Path("A.CSV.GZ"))
    '.csv'
    """
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packed = bool(suffixes) and suffixes[-1] in PACKED
    return "".join(suffixes[-2:-1] if packed else suffixes[-1:])


def is_table(source: Any) -> bool:
    """Whether :func:`open_table` reads a source: text, Parquet, a stream or an open file.

    >>> is_table("a.csv.gz"), is_table("-"), is_table("a.npy")
    (True, True, False)
    """
    if not isinstance(source, str | os.PathLike):
        return hasattr(source, "read")
    path = Path(source)
    if str(source) == "-" or is_pipe(path):
        return True
    return suffix_of(path) in (*TEXT_SUFFIXES, *PARQUET_SUFFIXES) or (path.is_dir() and holds_parquet(path))


def holds_parquet(folder: Path) -> bool:
    """Whether a folder has Parquet files, in folders within it too."""
    return any(path.suffix.lower() in PARQUET_SUFFIXES for path in folder.rglob("*"))


def open_table(
    source: Any,
    *,
    reading: ReadOptions | None = None,
    columns: Sequence[Column] | None = None,
    labels: Sequence[str] = (),
) -> TableReader:
    """Opens a table for reading in chunks of rows with bounded memory.

    Args:
        source: path of a text or Parquet file or of a folder of Parquet files, ``"-"`` for standard input, or a file
            that is open for reading.
        reading: options of reading; the defaults recognise what they can.
        columns: columns of a fit, which decide what the cells of their columns are: columns with labels hold texts, and
            others numbers. Other columns of a text file are texts as they are. Text is then read in one pass; without it, a
            scan decides the kinds of all columns first.
        labels: names of further columns whose cells are texts, whatever they look like.

    Raises:
        DataError: a source that cannot be opened, or a text file whose header or separators are unclear.

    >>> import io
    >>> table = open_table(io.BytesIO(b"a,b\\n1,x\\n?,y\\n"))
    >>> table.names, table.kinds, len(table.read())
    (('a', 'b'), {'a': 'number', 'b': 'text'}, 2)
    """
    reading = ReadOptions() if reading is None else reading
    is_path = isinstance(source, str | os.PathLike) and str(source) != "-"
    path = Path(source) if is_path else None
    if path is not None and not path.exists():
        raise DataError(f"there is no file {str(source)!r}")
    if path is not None and (path.is_dir() or suffix_of(path) in PARQUET_SUFFIXES):
        return ParquetTable(path, reading=reading)
    known: dict[str, Kind] | None = None
    if columns is not None:
        known = {column.name: "number" if column.categories is None else "text" for column in columns}
    is_tabs = path is not None and suffix_of(path) in (".tsv", ".tab")
    return TextTable(source if path is None else path, reading=reading, known=known, labels=labels, is_tabs=is_tabs)
