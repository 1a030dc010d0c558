"""Rows as delimited text: cells with all their digits, a saved index in front, plain or packed files."""

from __future__ import annotations

import csv
import gzip
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO

from drl_density.datasets.tables.writing.formats import TableFormat

if TYPE_CHECKING:
    import pandas as pd


def has_saved_index(frame: pd.DataFrame) -> bool:
    """Whether the index of a frame holds more than the numbers of its rows, and is written.

    Args:
        frame: a pandas DataFrame of any index.

    >>> import pandas as pd
    >>> has_saved_index(pd.DataFrame({"a": [1]})), has_saved_index(pd.DataFrame({"a": [1]}, index=["x"]))
    (False, True)
    """
    import pandas as pd

    return not isinstance(frame.index, pd.RangeIndex)


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
        cells = [_text_of(cell) if isinstance(cell, bytes) else cell for cell in column.tolist()]
    is_missing = column.isna().to_numpy()
    if is_missing.any():
        cells = [None if missing else cell for cell, missing in zip(cells, is_missing.tolist(), strict=True)]
    return cells


DOUBTFUL = re.compile(r"[,;|\t\"\r\n]|^[\s#%]|\s$")
"""Texts that a reader who has to guess may part, trim, or take for a comment."""


def _quoted(cell: Any, doubtful: re.Pattern[str]) -> str:
    """A cell as the module ``csv`` writes it, in quotes wherever a reader might take it for something else."""
    text = "" if cell is None else repr(cell) if isinstance(cell, float) else str(cell)
    is_doubtful = isinstance(cell, str) and doubtful.search(text)
    return '"' + text.replace('"', '""') + '"' if is_doubtful else text


def _text_of(cell: bytes) -> str | bytes:
    """Bytes as the text that they spell, as they are read; as they are where they spell none."""
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return cell


class TextSink:
    """Rows as delimited text.

    A saved index makes the first columns, under its names, or an empty one. A text with any usual separator in it is quoted,
    so that readers who guess the separator find the one that was used.

    Args:
        stream: open text.
        delimiter: sign between cells.
        has_header: whether the text begins with a line of names.
    """

    def __init__(self, stream: TextIO, delimiter: str, *, has_header: bool) -> None:
        self.stream, self.delimiter, self.needs_header = stream, delimiter, has_header
        self.writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")

    def append(self, frame: pd.DataFrame) -> None:
        """Write the rows of ``frame``."""
        levels = [frame.index.get_level_values(level) for level in range(frame.index.nlevels)]
        levels = levels if has_saved_index(frame) else []
        if self.needs_header:
            first = ["" if level.name is None else str(level.name) for level in levels]
            self._write([[name] for name in (*first, *(str(name) for name in frame.columns))])
            self.needs_header = False
        columns = [written_cells(level.to_series()) for level in levels]
        columns += [written_cells(frame.iloc[:, index]) for index in range(frame.shape[1])]
        self._write(columns)
        self.stream.flush()

    def _write(self, columns: Sequence[Sequence[Any]]) -> None:
        """Write rows by their columns; the fast writer of ``csv`` serves where no text needs quotes of ours."""
        doubtful = DOUBTFUL if len(columns) > 1 else re.compile(rf"{DOUBTFUL.pattern}|\s|^$")
        has_doubtful = any(doubtful.search(cell) for cells in columns for cell in cells if isinstance(cell, str))
        if not has_doubtful:
            self.writer.writerows(zip(*columns, strict=True))
            return
        for row in zip(*columns, strict=True):
            line = self.delimiter.join(_quoted(cell, doubtful) for cell in row)
            self.stream.write((line or '""') + "\n")

    def close(self) -> None:
        """Close the text."""
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


def open_text(path: Path, form: TableFormat) -> Any:
    """A new file at ``path`` for text, compressed where ``form`` says so."""
    return _GzipText(path) if form.is_compressed else path.open("w", newline="", encoding="utf-8")


def join_text(parts: Sequence[Path], target: Path) -> None:
    """Write the bytes of all ``parts`` one after the other."""
    with target.open("wb") as sink:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, sink, 1 << 20)
