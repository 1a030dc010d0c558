"""Writes tables chunk by chunk as CSV, TSV or Parquet; a file is whole or not there.

Values are written so that reading them gives the same values: floating-point numbers with all their digits, whole numbers,
booleans and labels as they are. A saved index is kept in every format. A Parquet file keeps the types and the metadata of
the table that it came from.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from drl_density.datasets.tables.writing.formats import is_standard, is_stream, table_format
from drl_density.datasets.tables.writing.parquet_rows import ParquetSink, join_parquet
from drl_density.datasets.tables.writing.text_rows import TextSink, join_text, open_text
from drl_density.errors import RunFolderError
from drl_density.run_folder import write_whole

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


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

    An existing file keeps its content until the new one is whole. Rows for standard output, named pipes and devices are
    written at once. An index that is more than the numbers of the rows is written too: in text as the first columns.

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
        self.target = None if target is None or is_standard(target) else Path(target)
        self._is_stream = is_stream(target)
        self.format = table_format(target)
        self.schema, self.has_header = schema, has_header
        self.num_rows = 0
        self._staged: Path | None = None
        self._sink: TextSink | ParquetSink | None = None

    def __enter__(self) -> Self:
        if self.target is None:
            self._sink = TextSink(sys.stdout, ",", has_header=self.has_header)
            return self
        delimiter = "\t" if self.format.kind == "tsv" else ","
        if self._is_stream:
            with self._explained():
                self._sink = TextSink(open_text(self.target, self.format), delimiter, has_header=self.has_header)
            return self
        with self._explained():
            place = Path(os.path.realpath(self.target))
            handle, name = tempfile.mkstemp(prefix=f".{place.name}.", suffix=self.format.ending, dir=place.parent)
            os.close(handle)
            self._staged = Path(name)
            if self.format.kind == "parquet":
                self._sink = ParquetSink(self._staged, self.schema)
            else:
                self._sink = TextSink(open_text(self._staged, self.format), delimiter, has_header=self.has_header)
        return self

    def append(self, frame: pd.DataFrame) -> None:
        """Write the rows of ``frame`` behind those before; all chunks have the columns of the first.

        Raises:
            RunFolderError: the disk is full.
            BrokenPipeError: nobody reads standard output or the pipe any more.
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
        if self.target is None:
            if kind is None:
                sys.stdout.flush()
            return
        if staged is None:
            with contextlib.suppress(OSError) if kind is not None else self._explained():
                sink.close()
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
            if self.target is None or isinstance(error, BrokenPipeError):
                raise
            kept = "; its earlier content is untouched" if self.target.is_file() else ""
            raise RunFolderError(f"cannot write {self.target}: {error}{kept}") from error


def write_table(target: str | Path | None, chunks: Iterable[pd.DataFrame], *, schema: pa.Schema | None = None) -> int:
    """Write the rows of all ``chunks`` to one file, whole or not at all, and return their number.

    Args:
        target: path of the file; None or "-" for standard output.
        chunks: at least one data frame, which may be empty of rows.
        schema: Arrow schema of the table's own columns in Parquet; see :class:`TableWriter`.

    Raises:
        DataError: an unknown ending, or Parquet without pyarrow.
        RunFolderError: the folder is missing, or the disk is full.

    >>> import tempfile
    >>> import pandas as pd
    >>> write_table(Path(tempfile.mkdtemp()) / "rows.csv", [pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [3]})])
    3
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
        target: path of the joined file, whose ending gives the format.

    Raises:
        RunFolderError: the folder is missing, or the disk is full.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> parts = [folder / "1.csv", folder / "2.csv"]
    >>> for part, text in zip(parts, ("a,0,", "1,"), strict=True):
    ...     _ = part.write_text("\\n".join(text.split(",")))
    >>> join_tables(parts, folder / "all.csv")
    >>> (folder / "all.csv").read_text().split()
    ['a', '0', '1']
    """
    is_parquet = table_format(target).kind == "parquet"
    write_whole(target, lambda part: (join_parquet if is_parquet else join_text)(parts, part))
