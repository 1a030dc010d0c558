"""Reads Parquet files and folders in row batches, with a saved index set apart."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drl_density.datasets.tables.reading import ReadOptions, TableReader, missing_extra
from drl_density.errors import DataError, DataWarning

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PARQUET_SUFFIXES", "ParquetTable"]

PARQUET_SUFFIXES = (".parquet", ".parq", ".pq")
"""Endings of Parquet files, in lower case."""


class ParquetTable(TableReader):
    """A Parquet file, or a folder of Parquet files in their natural order, folders such as ``year=2024`` included.

    Args:
        path: the file or folder.
        reading: what to do with a saved index; the other options concern text files.
        where: name for messages; the path when not given.

    Raises:
        DataError: no pyarrow, no Parquet files in the folder, or a file that cannot be read.
    """

    def __init__(self, path: Path, *, reading: ReadOptions, where: str = "") -> None:
        self.where = where or str(path)
        try:
            import pyarrow.dataset as ds
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise missing_extra(self.where, "reading Parquet needs pyarrow") from error
        with _named(self.where):
            parts = [str(part) for part in _parts(path)]
            root = str(path) if path.is_dir() else None
            self._refuse_two_values(
                parts[0], parquet.read_schema(parts[0]).names, root
            )  # whose types could not be joined
            partitioning = ds.partitioning(flavor="hive") if root else None
            data = ds.dataset(parts, format="parquet", partitioning=partitioning, partition_base_dir=root)
            self._fragments: list[Any] = list(data.get_fragments())
            for fragment in self._fragments:
                self._refuse_two_values(fragment.path, fragment.physical_schema.names, root)
            self.schema = self._one_schema(data.schema)
            self.num_rows = sum(fragment.count_rows() for fragment in self._fragments)
        names = list(self.schema.names)
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise DataError(f"{self.where}: columns named twice: {', '.join(repeated)}; give each its own name")
        self._index = () if reading.index == "keep" else _index_columns(self.schema)
        if reading.index == "drop" and not self._index:
            self._index = (names[0],)
        elif self._index and reading.index == "auto":
            shown = ", ".join(map(repr, self._index))
            warnings.warn(
                f"{self.where}: the saved index {shown} is left out; keep it as a column with index='keep' (--index keep)",
                DataWarning,
                stacklevel=4,
            )
        self.names = tuple(name for name in names if name not in self._index)
        if not self.names:
            raise DataError(f"{self.where}: has no columns other than the saved index {', '.join(self._index)}")

    def _refuse_two_values(self, part: str, names: Sequence[str], root: str | None) -> None:
        """Refuses a column that a file has and its folder too: the value of the folder would replace those in the file.

        Raises:
            DataError: the column.
        """
        folders = () if root is None else Path(os.path.relpath(part, root)).parent.parts
        both = [folder for folder in folders if folder.partition("=")[0] in names and "=" in folder]
        if both:
            raise DataError(
                f"{self.where}: {part} has a column {both[0].partition('=')[0]!r}, and so has its folder {both[0]}; rename "
                "one of them, or remove the column from the files if the two are the same"
            )

    def _one_schema(self, first: Any) -> Any:
        """The schema of all files: the first file's, with types wide enough for every file.

        Raises:
            DataError: a file with other columns, or with types that no common type holds.
        """
        import pyarrow as pa

        schema = first
        for fragment in self._fragments[1:]:
            own = fragment.physical_schema
            lacking = [name for name in self._fragments[0].physical_schema.names if name not in own.names]
            further = [name for name in own.names if name not in first.names]
            if lacking or further:
                words = [f"lacks {', '.join(map(repr, lacking))}"] * bool(lacking)
                words += [f"has {', '.join(map(repr, further))} in addition"] * bool(further)
                raise DataError(
                    f"{self.where}: {fragment.path} {' and '.join(words)}: the files of a folder need the same columns as "
                    f"the first, {', '.join(first.names)}; write missing values where a file has none"
                )
            try:
                schema = pa.unify_schemas([schema, own.remove_metadata()], promote_options="permissive")
            except pa.ArrowException as error:
                raise DataError(
                    f"{self.where}: {fragment.path} holds a column in another type than the files before it ({error}); "
                    "write it in one type"
                ) from error
        return schema

    def chunks(self, num_rows: int = 65_536, *, names: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Yields the table in frames of ``num_rows`` rows, the last one shorter; a table without rows gives one empty frame.

        Args:
            num_rows: rows of a frame.
            names: columns to read, in this order; all when not given.

        Raises:
            DataError: a file that cannot be read to its end.
        """
        import pyarrow as pa

        wanted = list(self.names if names is None else names)
        columns = [*wanted, *self._index]
        start, held, count = 0, [], 0
        with _named(self.where):
            for batch in self._batches(columns, num_rows):
                held.append(batch)
                count += len(batch)
                while count >= num_rows:
                    table = pa.Table.from_batches(held)
                    yield self._frame(table.slice(0, num_rows), wanted, start)
                    start, count = start + num_rows, count - num_rows
                    held = table.slice(num_rows).to_batches() if count else []
            if count or not start:
                schema = pa.schema([self.schema.field(name) for name in columns])
                table = pa.Table.from_batches(held) if held else schema.empty_table()
                yield self._frame(table, wanted, start)

    def _batches(self, columns: list[str], num_rows: int) -> Iterator[Any]:
        import pyarrow.dataset as ds

        for fragment in self._fragments:
            yield from fragment.to_batches(
                columns=columns,
                schema=self.schema,
                batch_size=num_rows,
                batch_readahead=1,
                fragment_readahead=1,
                use_threads=False,
                # Buffering ahead would hold the whole file.
                fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=False),
            )

    def _frame(self, table: Any, wanted: list[str], start: int) -> pd.DataFrame:
        import pandas as pd

        mapped = {column.type: _nullable(str(column.type)) for column in table.columns if column.null_count}
        bare = table.replace_schema_metadata(None)
        frame = bare.to_pandas(types_mapper=mapped.get, date_as_object=False)
        if self._index:
            frame = frame.set_index(list(self._index))
            if isinstance(frame.index, pd.RangeIndex):  # pandas makes one of evenly spaced numbers, chunk by chunk
                frame.index = pd.Index(frame.index.to_numpy(), name=frame.index.name)
            frame.index.names = [None if _is_unnamed(str(name)) else name for name in frame.index.names]
        else:
            frame.index = pd.RangeIndex(start, start + len(frame))
        return frame[wanted]


def _index_columns(schema: Any) -> tuple[str, ...]:
    """Columns of the file that pandas wrote as the index of its frame."""
    try:
        written = (schema.pandas_metadata or {}).get("index_columns", [])
    except (ValueError, AttributeError):  # not as pandas writes it: another program's, which has no index
        written = []
    named = [name for name in written if isinstance(name, str)]  # an index of plain row numbers is a dictionary
    unnamed = [name for name in schema.names if _is_unnamed(name)]
    return tuple(name for name in schema.names if name in named or name in unnamed)


def _nullable(kind: str) -> Any:
    """The pandas dtype that holds an Arrow type of whole numbers or booleans with missing values; else None."""
    import pandas as pd

    names = {"bool": "boolean"} | {
        f"{sign}int{bits}": f"{'U' if sign else ''}Int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
    }
    return pd.api.types.pandas_dtype(names[kind]) if kind in names else None


def _is_unnamed(name: str) -> bool:
    return re.fullmatch(r"__index_level_\d+__|__null_dask_index__", name) is not None


def _parts(path: Path) -> list[Path]:
    """The Parquet files of a folder in natural order (part 2 before part 10), or the file itself."""
    if not path.is_dir():
        return [path]
    hidden = (".", "_")
    found = [
        part
        for part in path.rglob("*")
        if part.is_file()
        and part.suffix.lower() in PARQUET_SUFFIXES
        and not any(piece.startswith(hidden) for piece in part.relative_to(path).parts)
    ]
    if not found:
        raise DataError(f"{path}: a folder without Parquet files ({', '.join(PARQUET_SUFFIXES)})")
    texts = [part for part in path.rglob("*") if {".csv", ".tsv"} & {end.lower() for end in part.suffixes[-2:]}]
    if texts:
        shown = ", ".join(str(part.relative_to(path)) for part in sorted(texts)[:3]) + ", ..." * (len(texts) > 3)
        warnings.warn(
            f"{path}: a folder of Parquet files, in which {shown} is left out: text is read from one file at a time",
            DataWarning,
            stacklevel=5,
        )
    return sorted(found, key=lambda part: [
        (0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in re.split(r"(\d+)", str(part))
    ])  # fmt: skip


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Turns errors of Arrow and of the file system into a :class:`DataError` that names the source."""
    import pyarrow as pa

    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{where}: cannot be read as .parquet ({error}); is the file complete?") from error
