"""Writes tables: formats and targets, rows as text, rows as Parquet, and the writer of whole files."""

from drl_density.datasets.tables.writing.formats import (
    ENDINGS,
    STANDARD,
    TableFormat,
    check_target,
    is_standard,
    is_stream,
    table_format,
)
from drl_density.datasets.tables.writing.text_rows import has_saved_index
from drl_density.datasets.tables.writing.writer import TableWriter, free_names, join_tables, write_table

__all__ = [
    "ENDINGS",
    "STANDARD",
    "TableFormat",
    "TableWriter",
    "check_target",
    "free_names",
    "has_saved_index",
    "is_standard",
    "is_stream",
    "join_tables",
    "table_format",
    "write_table",
]
