"""Rows as row groups of Parquet, with the types, the index and the metadata of the table that they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drl_density.datasets.tables.writing.formats import require_parquet
from drl_density.datasets.tables.writing.text_rows import has_saved_index
from drl_density.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ROWS_OF_A_GROUP = 65_536
"""Least number of rows of a Parquet row group in a joined file, except the last: small groups cost space and time."""


class ParquetSink:
    """Rows as row groups of a Parquet file.

    Args:
        path: file to write.
        source: schema of the table that the rows come from.
    """

    def __init__(self, path: Path, source: pa.Schema | None) -> None:
        self.path, self.source = path, source
        self.writer: Any = None
        self.empty: pa.Table | None = None

    def append(self, frame: pd.DataFrame) -> None:
        """Write the rows of ``frame``.

        Raises:
            DataError: columns of other types than those of the rows before.
        """
        table = arrow_table(frame, self.source)
        if not len(table):  # such a chunk says nothing about types, and counts only where it is the whole table
            self.empty = table if self.empty is None else self.empty
            return
        self._write(table)

    def _write(self, table: pa.Table) -> None:
        if self.writer is None:
            self.writer = require_parquet(self.path).ParquetWriter(self.path, table.schema)
        try:
            fitting = table.cast(self.writer.schema)
        except (ValueError, NotImplementedError) as error:
            pairs = zip(self.writer.schema, table.schema, strict=False)
            changed = next(
                (f"{old.name}: {old.type} before and {new.type} now" for old, new in pairs if old.type != new.type),
                error,
            )
            raise DataError(f"chunks of a table differ in their columns ({changed}); make their types equal") from error
        self.writer.write_table(fitting)

    def close(self) -> None:
        """Complete the file."""
        if self.writer is None and self.empty is not None:
            self._write(self.empty)
        if self.writer is not None:
            self.writer.close()


def arrow_table(frame: pd.DataFrame, source: pa.Schema | None = None) -> pa.Table:
    """The Arrow table of a data frame, whose columns of a source keep their types there.

    Args:
        frame: rows of the source, with further columns.
        source: schema of the source, with its metadata; None for a source that has none. A saved index of the frame is then
            written as pandas does it.
    """
    import pyarrow as pa

    kept = [] if source is None else [name for name in source.names if name in frame.columns]
    if source is None and has_saved_index(frame):
        return pa.Table.from_pandas(frame, preserve_index=True)
    added = pa.Table.from_pandas(frame.drop(columns=kept).reset_index(drop=True), preserve_index=False)
    if source is None:
        return added.replace_schema_metadata(None)
    index = [name for name in _index_columns(source) if name in source.names]
    own = pa.schema([source.field(name) for name in source.names if name in {*kept, *index}])
    frame, own = _holding(frame, own)
    table = pa.Table.from_pandas(frame[kept], schema=own) if len(own) else added.select([])
    for field, column in zip(added.schema, added.columns, strict=True):
        table = table.append_column(field, column)
    return table.replace_schema_metadata(_joined_metadata(source, added.schema))


def _holding(frame: pd.DataFrame, schema: pa.Schema) -> tuple[pd.DataFrame, pa.Schema]:
    """The frame and the schema with wider types for columns whose values the schema does not hold: numbers, else texts.

    Drawn values need not fit the type of the observed ones: a fraction in a column of decimals, 300 in 8 bits, or a label of
    the fit in a column of numbers.
    """
    import pyarrow as pa

    for place, field in enumerate(schema):
        if field.name not in frame or not len(frame):
            continue
        cells = frame[field.name]
        try:
            pa.Array.from_pandas(cells, type=field.type)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            try:
                wider = cells.astype("Float64").astype("float64")
            except (ValueError, TypeError):
                wider = cells.astype("string")
            frame = frame.assign(**{str(field.name): wider})
            kind = pa.float64() if wider.dtype == "float64" else pa.string()
            schema = schema.set(place, field.with_type(kind))
    return frame, schema


def _index_columns(schema: pa.Schema) -> list[Any]:
    return (schema.pandas_metadata or {}).get("index_columns", [])


def _joined_metadata(source: pa.Schema, added: pa.Schema) -> Mapping[bytes, bytes] | None:
    """Metadata of the source, in which what pandas notes about columns is there for the added ones too."""
    if not source.metadata or source.pandas_metadata is None:
        return source.metadata
    notes = dict(source.pandas_metadata)
    notes["columns"] = [*notes["columns"], *(added.pandas_metadata or {}).get("columns", [])]
    return {**source.metadata, b"pandas": json.dumps(notes).encode()}


def join_parquet(parts: Sequence[Path], target: Path) -> None:
    """Write the rows of all ``parts`` one after the other, in row groups that are not small."""
    import pyarrow as pa

    parquet = require_parquet(target)
    schemas = [parquet.read_schema(part) for part in parts]
    schema = _common_schema(schemas)
    with parquet.ParquetWriter(target, schema) as writer:
        waiting: list[pa.Table] = []
        for part in parts:
            waiting.append(parquet.read_table(part).cast(schema))
            if sum(len(table) for table in waiting) >= ROWS_OF_A_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))


def _common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The schema whose types hold the values of all parts: text, where one part has numbers and another texts."""
    import pyarrow as pa

    try:
        joined = pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowTypeError:
        fields = []
        for name in schemas[0].names:
            own = [pa.schema([schema.field(name)]) for schema in schemas]
            try:
                fields.append(pa.unify_schemas(own, promote_options="permissive").field(0))
            except pa.ArrowTypeError:
                fields.append(pa.field(name, pa.string()))
        joined = pa.schema(fields)
    return joined.with_metadata(schemas[0].metadata)
