"""Opens a table of any format that can be read in chunks of rows."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drl_density.datasets.tables.parquet import PARQUET_SUFFIXES, ParquetTable
from drl_density.datasets.tables.reading import ReadOptions, TableReader
from drl_density.datasets.tables.text import TextTable

if TYPE_CHECKING:
    from drl_density.datasets.dataset import Column

__all__ = ["open_table"]


def open_table(
    source: Any,
    *,
    reading: ReadOptions | None = None,
    columns: Sequence[Column] | None = None,
    labels: Collection[str] = (),
) -> TableReader:
    """Opens a table for reading in chunks of rows with bounded memory.

    Args:
        source: path of a text or Parquet file or of a folder of Parquet files, ``"-"`` for standard input, or a file
            that is open for reading.
        reading: options of reading; the defaults recognise what they can.
        columns: columns of a fit, which decide what the cells of their columns are. A table of unknown columns is scanned
            once to decide this.
        labels: names of further columns whose cells are texts, whatever they look like.

    Raises:
        DataError: a source that cannot be opened, or a text file whose header or separators are unclear.
    """
    reading = ReadOptions() if reading is None else reading
    path = Path(os.fspath(source))
    if path.is_dir() or path.suffix.lower() in PARQUET_SUFFIXES:
        return ParquetTable(path, reading=reading)
    return TextTable(path, reading=reading)
