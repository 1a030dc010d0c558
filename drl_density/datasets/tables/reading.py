"""Options of reading a table, the one list of texts that mark a missing value, and the interface of a table reader."""

from __future__ import annotations

import codecs
import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from drl_density.errors import DataError
from drl_density.records.literals import check_literals

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MISSING_TOKENS", "ReadOptions", "TableReader", "is_missing_text", "is_pipe", "missing_extra"]

MISSING_TOKENS = (
    "", "na", "n/a", "nan", "-nan", "+nan", "1.#qnan", "-1.#qnan", "1.#ind", "-1.#ind", "null", "none", "nil", "?", "-",
    "--", ".", "#n/a", "#na", "#n/a n/a", "<na>", "<null>", "nat", "\\n",
)  # fmt: skip
"""Texts that mark a missing value in numeric and label columns alike, in lower case; upper case counts the same."""

Kind = Literal["number", "boolean", "text"]
"""What the cells of a column of a text file are."""


@dataclass(frozen=True)
class ReadOptions:
    """Options of reading a table; the defaults recognise what they can and note each guess.

    Attributes:
        header: whether the first row names the columns: "auto" recognises it, "first-row" and "none" fix it.
        missing_values: further texts that mark a missing value, such as ``("-999", "unknown")``.
        decimal: sign between whole and fraction: "auto", "." or ",".
        thousands: sign between groups of three digits; "auto" recognises commas, points, spaces and apostrophes, and ""
            allows none.
        delimiter: sign between cells, ``"whitespace"`` for runs of spaces and tabs; "auto" recognises it.
        encoding: encoding of a text file such as "latin-1"; "auto" follows a byte order mark, else UTF-8.
        comment: sign that begins a line of comment; "auto" takes # and %, and "" takes none.
        index: a saved index, such as the unnamed first column of ``to_csv``: "auto" leaves it out with a note, "keep" keeps
            it as a column, and "drop" leaves out the first column whatever it holds.

    Raises:
        ValueError: an option outside its choices; the message lists them.
        DataError: an unknown encoding, or a delimiter or comment sign that is not one sign.

    >>> ReadOptions(decimal=",", missing_values=("-999",)).decimal
    ','
    """

    header: Literal["auto", "first-row", "none"] = "auto"
    missing_values: tuple[str, ...] = ()
    decimal: Literal["auto", ".", ","] = "auto"
    thousands: str = "auto"
    delimiter: str = "auto"
    encoding: str = "auto"
    comment: str = "auto"
    index: Literal["auto", "keep", "drop"] = "auto"

    def __post_init__(self) -> None:
        check_literals(self)
        object.__setattr__(self, "missing_values", tuple(str(token) for token in self.missing_values))
        for name, words in (
            ("delimiter", ("auto", "whitespace")),
            ("comment", ("auto", "")),
            ("thousands", ("auto", "")),
        ):
            if getattr(self, name) not in words and len(getattr(self, name)) != 1:
                raise DataError(f"{name} must be one sign, or one of {words}, got {getattr(self, name)!r}")
        if self.encoding != "auto":
            try:
                codecs.lookup(self.encoding)
            except LookupError as error:
                raise DataError(
                    f"encoding {self.encoding!r} is unknown; give one that Python has, such as utf-8, latin-1 or utf-16"
                ) from error
        if self.decimal != "auto" and self.decimal == self.thousands:
            raise DataError(f"decimal and thousands cannot both be {self.decimal!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ReadOptions:
        """The options that :meth:`to_dict` wrote.

        Args:
            values: options by name; one that is absent has its default.

        >>> ReadOptions.from_dict(ReadOptions(header="none").to_dict()).header
        'none'
        """
        return cls(**{**values, "missing_values": tuple(values.get("missing_values", ()))})

    def to_dict(self) -> dict[str, Any]:
        """The options as values that JSON can hold."""
        return {**dataclasses.asdict(self), "missing_values": list(self.missing_values)}

    @property
    def decimal_sign(self) -> str:
        """The decimal sign, which a thousands separator settles too: "auto", "." or ",".

        >>> ReadOptions(thousands=".").decimal_sign
        ','
        """
        return {",": ".", ".": ","}.get(self.thousands, "auto") if self.decimal == "auto" else self.decimal

    @functools.cached_property
    def tokens(self) -> frozenset[str]:
        """Every text that marks a missing value, in lower case: the common ones and ``missing_values``."""
        return frozenset((*MISSING_TOKENS, *(token.strip().lower() for token in self.missing_values)))


def is_missing_text(text: str, reading: ReadOptions | None = None) -> bool:
    """Whether a cell's ``text`` marks a missing value, whatever its case and the spaces around it.

    >>> is_missing_text(" N/A "), is_missing_text("0"), is_missing_text("-9", ReadOptions(missing_values=("-9",)))
    (True, False, True)
    """
    return text.strip().lower() in (ReadOptions() if reading is None else reading).tokens


class TableReader(ABC):
    """A table that is read in chunks of rows with bounded memory.

    Attributes:
        where: name of the source for messages.
        names: names of the columns, in order; a saved index is not among them.
        num_rows: number of rows, or None where they must be read to be counted.
        schema: Arrow schema of the source with all its metadata, or None for text.
        first_row: number of the first row of data in messages; a text file counts its lines from 1.

    >>> import io
    >>> from drl_density.datasets import open_table
    >>> table = open_table(io.BytesIO(b"a,b\\n1,x\\n?,y\\n3,y\\n"))
    >>> [len(frame) for frame in table.chunks(2)], table.num_rows
    ([2, 1], 3)
    """

    where: str
    names: tuple[str, ...]
    num_rows: int | None = None
    schema: Any = None
    first_row: int = 1

    @abstractmethod
    def chunks(self, num_rows: int = 65_536, *, names: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Yields the table in frames of ``num_rows`` rows, the last one shorter; a table without rows gives one empty frame.

        A column has one kind in all frames: numbers, booleans, texts, or the dtype that the file declares. A saved index
        is the index of the frames.

        Args:
            num_rows: rows of a frame.
            names: columns to read, in this order; all when not given.

        Raises:
            DataError: a cell or row that cannot be read; the message names file, column and row.
        """

    def read(self, *, names: Sequence[str] | None = None) -> pd.DataFrame:
        """The whole table.

        Args:
            names: columns to read, in this order; all when not given.

        Raises:
            DataError: a cell or row that cannot be read; the message names file, column and row.
        """
        import pandas as pd

        frames = list(self.chunks(self.num_rows or 1 << 20, names=names))
        return frames[0] if len(frames) == 1 else pd.concat(frames)

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Kind of every column of a text file, by name; empty where the file declares dtypes itself."""
        return {}


def is_pipe(path: Path) -> bool:
    """Whether a path is a named pipe, a device, or one of the system's names for an open file, such as /dev/stdin.

    The last may stand for a plain file, which has no ending there.

    >>> is_pipe(Path("/dev/stdout")), is_pipe(Path("/dev/null")), is_pipe(Path("rows.csv"))
    (True, True, False)
    """
    is_name = str(path) in ("/dev/stdin", "/dev/stdout", "/dev/stderr") or str(path.parent) in (
        "/dev/fd",
        "/proc/self/fd",
    )
    return is_name or path.is_fifo() or path.is_char_device() or path.is_socket()


def missing_extra(where: str, what: str) -> DataError:
    """The error for a source that needs a package of the extra ``tables``.

    Args:
        where: name of the source.
        what: the task and the package, such as "reading Parquet needs pyarrow".
    """
    return DataError(f"{where}: {what}: pip install 'drl-density[tables]'")
