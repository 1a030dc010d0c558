"""Writes tables chunk by chunk as CSV, TSV or Parquet; a file is whole or not there.

Values are written so that reading them gives the same values: floating-point numbers with all their digits, whole numbers,
booleans and labels as they are. A Parquet file keeps the types, the index and the metadata of the table that it came from.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal, Self, TextIO

from drl_density.errors import DataError, RunFolderError
from drl_density.run_folder import write_whole

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

STANDARD = "-"
"""Name of standard input and standard output among files."""
ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
"""Endings of files that can be written, in any case."""
ROWS_OF_A_GROUP = 65_536
"""Least number of rows of a Parquet row group in a joined file, but for the last: small groups cost space and time."""


@dataclass(frozen=True)
class TableFormat:
    """Format of a file of rows.

    Attributes:
        kind: "csv", "tsv" or "parquet".
        is_compressed: whether text is compressed by gzip.
        ending: ending of the file as it was written, such as ".CSV.gz"; empty for standard output.
    """

    kind: Literal["csv", "tsv", "parquet"]
    is_compressed: bool = False
    ending: str = ""


def table_format(target: str | Path | None) -> TableFormat:
    """The format that the ending of ``target`` means; CSV for standard output.

    Args:
        target: path of a file; None or "-" for standard output.

    Raises:
        DataError: an ending that is not one of :data:`ENDINGS`, or Parquet without pyarrow.

    >>> table_format("Scores.CSV.gz")
    TableFormat(kind='csv', is_compressed=True, ending='.CSV.gz')
    >>> table_format("-").kind
    'csv'
    """
    if target is None or str(target) == STANDARD:
        return TableFormat("csv")
    name = Path(target).name
    found = [ending for ending in ENDINGS if name.lower().endswith(ending)]
    if not found:
        raise DataError(
            f"{target}: expected a file ending in {', '.join(ENDINGS)}, or {STANDARD} for standard output; "
            f"got {Path(target).suffix or 'no ending'}"
        )
    ending = max(found, key=len)
    kind = "parquet" if ending == ".parquet" else "tsv" if ending.startswith(".tsv") else "csv"
    if kind == "parquet":
        _parquet(target)
    return TableFormat(kind, ending.endswith(".gz"), name[len(name) - len(ending) :])


def check_target(target: str | Path | None, *, sources: Iterable[str | Path] = ()) -> TableFormat:
    """The format of ``target``, once it is clear that it can be written and is none of the ``sources``.

    Args:
        target: path of a file; None or "-" for standard output.
        sources: files that are read while ``target`` is written.

    Raises:
        DataError: an unknown ending, a missing folder, a folder in place of the file, or a target that is a source.
    """
    found = table_format(target)
    if target is None or str(target) == STANDARD:
        return found
    path = Path(target)
    if path.is_dir():
        raise DataError(f"cannot write {target}: it is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise DataError(f"cannot write {target}: there is no folder {path.parent}; make it first, or write elsewhere")
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"cannot write {target}: no permission to write in {path.parent}")
    for source in sources:
        if str(source) != STANDARD and _is_within(path, Path(source)):
            raise DataError(f"{target} is what is read here ({source}); write to another file")
    return found


def _is_within(path: Path, source: Path) -> bool:
    """Whether ``path`` is the file ``source``, or lies in the folder ``source``."""
    if not source.exists():
        return False
    if source.is_dir():
        return path.resolve().is_relative_to(source.resolve())
    return path.exists() and path.samefile(source)


def free_names(taken: Sequence[str], ours: Sequence[str]) -> dict[str, str]:
    """New names of columns that a table gains: their own, or NAME_2, NAME_3, ... where the table has a NAME already.

    Args:
        taken: names of the table's columns, which stay as they are.
        ours: names of the columns to add.

    >>> free_names(["age", "log_density"], ["log_density", "row"])
    {'log_density': 'log_density_2', 'row': 'row'}
    """
    used = {*taken}
    found = {}
    for name in ours:
        number, new = 1, name
        while new in used:
            number += 1
            new = f"{name}_{number}"
        used.add(new)
        found[name] = new
    return found


class TableWriter:
    """Writes a table chunk by chunk; as a context, it completes the file at its end and leaves nothing after an error.

    An existing file keeps its content until the new one is whole. Rows for standard output are written at once.

    Args:
        target: path of the file, whose ending gives the format; None or "-" for standard output, as CSV.
        schema: Arrow schema of the table that the rows come from. In Parquet, columns of its names keep their types, the
            index is kept, and so is the metadata; other columns are added behind. Text formats have no use for it.
        has_header: whether text begins with a line of names.

    Raises:
        DataError: an unknown ending, or Parquet without pyarrow.

    >>> import pandas as pd, tempfile
    >>> target = Path(tempfile.mkdtemp()) / "rows.csv"
    >>> with TableWriter(target) as writer:
    ...     writer.append(pd.DataFrame({"age": [31, 45], "dose": [0.1, None]}))
    >>> print(target.read_text())
    age,dose
    31,0.1
    45,
    <BLANKLINE>
    """

    def __init__(self, target: str | Path | None, *, schema: pa.Schema | None = None, has_header: bool = True) -> None:
        self.target = None if target is None or str(target) == STANDARD else Path(target)
        self.format = table_format(target)
        self.schema, self.has_header = schema, has_header
        self.num_rows = 0
        self._staged: Path | None = None
        self._sink: _TextSink | _ParquetSink | None = None

    def __enter__(self) -> Self:
        if self.target is None:
            self._sink = _TextSink(sys.stdout, ",", has_header=self.has_header)
            return self
        with self._explained():
            place = Path(os.path.realpath(self.target))
            handle, name = tempfile.mkstemp(prefix=f".{place.name}.", suffix=self.format.ending, dir=place.parent)
            os.close(handle)
            self._staged = Path(name)
            if self.format.kind == "parquet":
                self._sink = _ParquetSink(self._staged, self.schema)
            else:
                delimiter = "\t" if self.format.kind == "tsv" else ","
                self._sink = _TextSink(_open_text(self._staged, self.format), delimiter, has_header=self.has_header)
        return self

    def append(self, frame: pd.DataFrame) -> None:
        """Write the rows of ``frame`` behind those before; all chunks have the columns of the first.

        Raises:
            RunFolderError: the disk is full.
            BrokenPipeError: nobody reads standard output any more.
        """
        assert self._sink is not None, "a TableWriter writes inside its context only"
        with self._explained():
            self._sink.append(frame)
        self.num_rows += len(frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sink, staged, self._sink, self._staged = self._sink, self._staged, None, None
        assert sink is not None
        if self.target is None or staged is None:
            if kind is None:
                sys.stdout.flush()
            return
        try:
            if kind is not None:
                with contextlib.suppress(OSError):
                    sink.close()
                return
            with self._explained():
                sink.close()
            write_whole(self.target, lambda part: os.replace(staged, part))
        finally:
            staged.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Name the file in an error of the operating system."""
        try:
            yield
        except OSError as error:
            if self.target is None:
                raise
            kept = "; its earlier content is untouched" if self.target.exists() else ""
            raise RunFolderError(f"cannot write {self.target}: {error}{kept}") from error


def write_table(target: str | Path | None, chunks: Iterable[pd.DataFrame], *, schema: pa.Schema | None = None) -> int:
    """Write the rows of all ``chunks`` to one file, whole or not at all, and return their number.

    Args:
        target: path of the file; None or "-" for standard output.
        chunks: at least one data frame, which may be empty of rows.
        schema: see :class:`TableWriter`.

    Raises:
        DataError: an unknown ending, or Parquet without pyarrow.
        RunFolderError: the folder is missing, or the disk is full.
    """
    with TableWriter(target, schema=schema) as writer:
        for chunk in chunks:
            writer.append(chunk)
    return writer.num_rows


def join_tables(parts: Sequence[Path], target: Path) -> None:
    """Join files of the same columns into one, whole or not at all, with the memory of one part.

    Text is joined as bytes, and only the first part has a header. Parquet columns whose type differs between parts, such as
    whole numbers in one and fractions in another, get the type that holds all of them.

    Args:
        parts: files in the format of ``target``, at least one.
        target: file to write.

    Raises:
        RunFolderError: the folder is missing, or the disk is full.
    """
    is_parquet = table_format(target).kind == "parquet"
    write_whole(target, lambda part: (_join_parquet if is_parquet else _join_bytes)(parts, part))


def _join_bytes(parts: Sequence[Path], target: Path) -> None:
    with target.open("wb") as sink:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, sink, 1 << 20)


def _join_parquet(parts: Sequence[Path], target: Path) -> None:
    import pyarrow as pa

    parquet = _parquet(target)
    schemas = [parquet.read_schema(part) for part in parts]
    schema = pa.unify_schemas(schemas, promote_options="permissive").with_metadata(schemas[0].metadata)
    with parquet.ParquetWriter(target, schema) as writer:
        waiting: list[pa.Table] = []
        for part in parts:
            waiting.append(parquet.read_table(part).cast(schema))
            if sum(len(table) for table in waiting) >= ROWS_OF_A_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))


def written_cells(column: pd.Series) -> list[Any]:
    """Values of a column as the module ``csv`` writes them exactly: None for missing values, dates as text.

    >>> import pandas as pd
    >>> written_cells(pd.Series([0.1, None])), written_cells(pd.Series([True, False]))
    ([0.1, None], [True, False])
    """
    import pandas as pd

    if pd.api.types.is_float_dtype(column.dtype):
        numbers = column.to_numpy()
        # A 32-bit number has its own shortest digits, which a conversion to 64 bits would lose.
        cells = numbers.tolist() if numbers.dtype.itemsize == 8 else [str(number) for number in numbers]
    elif pd.api.types.is_datetime64_any_dtype(column.dtype) or pd.api.types.is_timedelta64_dtype(column.dtype):
        cells = [str(value) for value in column]
    else:
        cells = column.tolist()
    is_missing = column.isna().to_numpy()
    if is_missing.any():
        cells = [None if missing else cell for cell, missing in zip(cells, is_missing.tolist(), strict=True)]
    return cells


class _TextSink:
    """Rows as delimited text."""

    def __init__(self, stream: TextIO, delimiter: str, *, has_header: bool) -> None:
        self.stream, self.needs_header = stream, has_header
        self.writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")

    def append(self, frame: pd.DataFrame) -> None:
        if self.needs_header:
            self.writer.writerow([str(name) for name in frame.columns])
            self.needs_header = False
        columns = [written_cells(frame.iloc[:, index]) for index in range(frame.shape[1])]
        self.writer.writerows(zip(*columns, strict=True))
        self.stream.flush()

    def close(self) -> None:
        self.stream.close()


class _GzipText:
    """A text stream into a gzip member without name and time, so that equal rows give equal bytes."""

    def __init__(self, path: Path) -> None:
        self.raw: IO[bytes] = path.open("wb")
        self.packed = gzip.GzipFile(filename="", mode="wb", fileobj=self.raw, mtime=0, compresslevel=6)

    def write(self, text: str) -> int:
        return self.packed.write(text.encode("utf-8"))

    def flush(self) -> None:
        """Nothing: flushing a packed stream would cost some of the packing."""

    def close(self) -> None:
        try:
            self.packed.close()
        finally:
            self.raw.close()


def _open_text(path: Path, form: TableFormat) -> Any:
    return _GzipText(path) if form.is_compressed else path.open("w", newline="", encoding="utf-8")


class _ParquetSink:
    """Rows as row groups of a Parquet file."""

    def __init__(self, path: Path, source: pa.Schema | None) -> None:
        self.path, self.source = path, source
        self.writer: Any = None
        self.empty: pa.Table | None = None

    def append(self, frame: pd.DataFrame) -> None:
        table = arrow_table(frame, self.source)
        if not len(table):  # such a chunk says nothing about types, and counts only where it is the whole table
            self.empty = table if self.empty is None else self.empty
            return
        self._write(table)

    def _write(self, table: pa.Table) -> None:
        if self.writer is None:
            self.writer = _parquet(self.path).ParquetWriter(self.path, table.schema)
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
        if self.writer is None and self.empty is not None:
            self._write(self.empty)
        if self.writer is not None:
            self.writer.close()


def arrow_table(frame: pd.DataFrame, source: pa.Schema | None = None) -> pa.Table:
    """The Arrow table of a data frame, whose columns of a source keep their types there.

    Args:
        frame: rows of the source, with further columns.
        source: schema of the source, with its metadata; None for a frame of its own, whose index is left out.
    """
    import pyarrow as pa

    kept = [] if source is None else [name for name in source.names if name in frame.columns]
    added = pa.Table.from_pandas(frame.drop(columns=kept).reset_index(drop=True), preserve_index=False)
    if source is None:
        return added.replace_schema_metadata(None)
    index = [name for name in _index_columns(source) if name in source.names]
    own = pa.schema([source.field(name) for name in source.names if name in {*kept, *index}])
    table = pa.Table.from_pandas(frame[kept], schema=own) if len(own) else added.select([])
    for field, column in zip(added.schema, added.columns, strict=True):
        table = table.append_column(field, column)
    return table.replace_schema_metadata(_joined_metadata(source, added.schema))


def _index_columns(schema: pa.Schema) -> list[Any]:
    return (schema.pandas_metadata or {}).get("index_columns", [])


def _joined_metadata(source: pa.Schema, added: pa.Schema) -> Mapping[bytes, bytes] | None:
    """Metadata of the source, in which what pandas notes about columns is there for the added ones too."""
    if not source.metadata or source.pandas_metadata is None:
        return source.metadata
    notes = dict(source.pandas_metadata)
    notes["columns"] = [*notes["columns"], *(added.pandas_metadata or {}).get("columns", [])]
    return {**source.metadata, b"pandas": json.dumps(notes).encode()}


def _parquet(target: str | Path) -> Any:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(f"{target}: writing Parquet needs pyarrow: pip install 'drl-density[tables]'") from error
    return parquet
