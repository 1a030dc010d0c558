"""Options of reading for a later table, whose file need not be written like that of the fit.

A fit keeps the options with which its own table was read. Draws and imputations of the same fit are written in UTF-8, with
commas and decimal points. Where the kept options cannot be those of a file, they are recognised from it.
"""

from __future__ import annotations

import codecs
import dataclasses
import warnings
from collections.abc import Collection

from drl_density.datasets.tables.meaning import composed
from drl_density.datasets.tables.reading import ReadOptions
from drl_density.datasets.tables.text.dialect import Dialect, cells_of, find_encoding, recognise
from drl_density.datasets.tables.text.numerals import to_number
from drl_density.errors import DataError, DataWarning

__all__ = ["later_reading"]

NUM_LINES = 50
"""First lines that are looked at."""
_OPEN = {"delimiter": "auto", "decimal": "auto", "thousands": "auto", "header": "auto"}


def later_reading(first: bytes, reading: ReadOptions, known: Collection[str], where: str) -> ReadOptions:
    """The options with which the file of a later table is read: those that are kept, unless the file contradicts them.

    It contradicts them where it is text in UTF-8 beyond ASCII and the kept encoding is another; where its separators alone
    give the columns of the fit; where it has a header and none is kept; and where decimal commas are kept, but commas part
    its cells, and there are points in them that part no thousands.

    Args:
        first: the first bytes of the file, decompressed.
        reading: options of the fit, or those that are given.
        known: names of the columns of the fit.
        where: name of the file, for the note.

    >>> later_reading(b"a;b\\n1,5;2\\n", ReadOptions(delimiter=";", decimal=","), ("a", "b"), "").delimiter
    ';'
    """
    kept = reading
    if not _is_unicode(reading.encoding) and not first.isascii() and _spells_utf8(first):
        reading = dataclasses.replace(reading, encoding="auto")
    if any(getattr(reading, name) != value for name, value in _OPEN.items()):
        lines = _lines(first, reading, where)
        opened = dataclasses.replace(reading, **_OPEN)
        own, other = _found(lines, reading, known), _found(lines, opened, known)
        if other is not None and (own is None or own.num_skipped < other.num_skipped or _has_points(lines, reading, own)):
            reading = opened
    if reading != kept:
        names = [f.name for f in dataclasses.fields(kept) if getattr(kept, f.name) != getattr(reading, f.name)]
        warnings.warn(
            f"{where}: is written in another way than the table of the fit; recognised from the file: {', '.join(names)}",
            DataWarning,
            stacklevel=5,
        )
    return reading


def _is_unicode(encoding: str) -> bool:
    return encoding == "auto" or codecs.lookup(encoding).name.startswith("utf")


def _spells_utf8(first: bytes) -> bool:
    """Whether bytes are UTF-8; other encodings give such sequences by a very rare chance."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(first)
    except UnicodeDecodeError:
        return False
    return True


def _lines(first: bytes, reading: ReadOptions, where: str) -> list[str]:
    encoding, mark = find_encoding(first, reading, where)
    head = first[mark : 1 << 16].decode(encoding, errors="replace")
    lines = head.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[: min(NUM_LINES, len(lines) - 1)] if len(lines) > 1 else lines


def _found(lines: list[str], reading: ReadOptions, known: Collection[str]) -> Dialect | None:
    """How a file is written, where that gives the columns of the fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        try:
            dialect = recognise(lines, reading, where="", known=known)
        except DataError:
            return None
    return dialect if {composed(name) for name in known} <= set(dialect.names) else None


def _has_points(lines: list[str], reading: ReadOptions, dialect: Dialect) -> bool:
    """Whether decimal commas are kept for a file of decimal points: its commas part cells, and no number has any."""
    if reading.decimal_sign != "," or dialect.delimiter != ",":
        return False
    cells = [cell for _, row in cells_of(lines[dialect.num_skipped :], ",") for cell in row]
    numbers = [cell for cell in cells if to_number(cell) is not None or to_number(cell, ",") is not None]
    pointed = [cell for cell in numbers if "." in cell]
    return not any("," in cell for cell in numbers) and any(to_number(cell, ",") is None for cell in pointed)
