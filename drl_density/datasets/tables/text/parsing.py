"""Parses blocks of text by pandas' C parser, and converts the columns that it leaves as texts."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Collection, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from drl_density.datasets.column import LARGEST_EXACT
from drl_density.datasets.tables.reading import ReadOptions
from drl_density.datasets.tables.text.dialect import Dialect, cells_of
from drl_density.datasets.tables.text.numerals import NAMED, to_boolean, to_number
from drl_density.datasets.tables.text.sources import Block, count_of
from drl_density.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OddCells", "as_booleans", "as_numbers", "as_texts", "distinct_texts", "line_of", "parse_block"]


class OddCells(Exception):
    """Cells of a column of numbers that are none.

    Attributes:
        rows: row of the first cell with each of a few texts.
        count: number of such cells.
    """

    def __init__(self, rows: dict[str, int], count: int) -> None:
        super().__init__(rows, count)
        self.rows, self.count = rows, count


def parse_block(
    block: Block,
    dialect: Dialect,
    reading: ReadOptions,
    *,
    where: str,
    texts: Collection[int] = (),
    as_is: Collection[int] = (),
    only: Sequence[int] | None = None,
) -> pd.DataFrame:
    """The rows of ``block`` with one column per number of a column; texts that mark missing values are NaN.

    Args:
        block: whole rows.
        dialect: how they are written.
        reading: which texts mark missing values.
        where: name of the file for messages.
        texts: numbers of the columns that are kept as texts.
        as_is: numbers of those whose cells stay as they are, whatever marks a missing value elsewhere.
        only: numbers of the columns to parse, of a block that was parsed before; all when not given.

    Raises:
        DataError: rows with too few or too many cells, or a quote that is not closed.
    """
    import pandas as pd

    wanted = None if only is None or dialect.delimiter == "whitespace" else sorted(only)
    try:
        frame = pd.read_csv(
            BytesIO(block.text),
            sep=r"\s+" if dialect.delimiter == "whitespace" else dialect.delimiter,
            header=None,
            usecols=wanted,
            dtype=dict.fromkeys(texts, str),
            na_values=_missing_texts(reading, dialect.num_cells, as_is),
            keep_default_na=False,
            skipinitialspace=True,
            low_memory=False,
            decimal=dialect.decimal,
            **_exact_parser(),
        )
    except pd.errors.EmptyDataError:
        return pd.DataFrame({number: np.empty(0) for number in range(dialect.num_cells)})
    except (pd.errors.ParserError, ValueError, IndexError) as error:
        opened = re.search(r"EOF inside string starting at row (\d+)", str(error))
        if opened:
            line = block.line + int(opened[1])
            raise DataError(f"{where}: a quote that opens in row {line} or above is not closed") from error
        raise _ragged(block, dialect, where) or DataError(f"{where}: cannot be read ({error})") from error
    if only is None:
        _refuse_open_quotes(block, dialect, where)
    if only is None and not _is_whole(frame, block, dialect):
        ragged = _ragged(block, dialect, where)
        if ragged is not None:
            raise ragged
    return frame


def _missing_texts(reading: ReadOptions, num_cells: int, as_is: Collection[int]) -> Any:
    """Texts that mark a missing value; by column where some columns have none."""
    spellings = _spellings(reading.tokens)
    return {place: spellings for place in range(num_cells) if place not in as_is} if as_is else spellings


@functools.cache
def _exact_parser() -> dict[str, Any]:
    """The option by which older releases of pandas parse every number to its nearest float64, as newer ones always do."""
    import pandas as pd

    return {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}


@functools.cache
def _spellings(tokens: frozenset[str]) -> list[str]:
    return sorted(
        {spelled for token in tokens for spelled in (token, token.upper(), token.capitalize(), _titled(token))}
    )


def _titled(token: str) -> str:
    """Spellings such as NaN and NaT."""
    return re.sub("^([+-]?)na([nt])", lambda found: f"{found[1]}Na{found[2].upper()}", token)


def _refuse_open_quotes(block: Block, dialect: Dialect, where: str) -> None:
    """Refuses text behind the quote that closes a cell, as where a quote within it is marked by a backslash.

    Raises:
        DataError: the row.
    """
    if b'"' not in block.text:
        return
    sign = b" " if dialect.delimiter == "whitespace" else dialect.delimiter.encode()
    plain = block.text.replace(b'""', b"")
    if re.search(rb'[^ \t\n%s]"[^ \t\n%s]' % (re.escape(sign), re.escape(sign)), plain) is None:
        return
    lines = (f"{line}\n" for line in block.text.decode().split("\n"))
    rows = csv.reader(lines, delimiter=sign.decode(), skipinitialspace=True, strict=True)
    try:
        for _ in rows:
            pass
    except csv.Error as error:
        if "expected after" in str(error):
            raise DataError(
                f"{where}: row {block.line + rows.line_num - 1}: a quoted cell continues after its closing quote; write "
                'each quote within a quoted cell twice, as in "say ""yes"""'
            ) from error


def _is_whole(frame: pd.DataFrame, block: Block, dialect: Dialect) -> bool:
    """Whether no row can be short: pandas fills short rows with missing values, and refuses long ones."""
    if frame.shape[1] != dialect.num_cells:
        return False
    if dialect.delimiter != "whitespace" and b'"' not in block.text:
        return count_of(block.text, dialect.delimiter.encode()) == len(frame) * (dialect.num_cells - 1)
    return not bool(np.asarray(frame[dialect.num_cells - 1].isna()).any())


def _ragged(block: Block, dialect: Dialect, where: str) -> DataError | None:
    """The error for the first row with another number of cells; None if all are alike."""
    lines = block.text.decode().split("\n")
    try:
        rows = cells_of(lines, dialect.delimiter)
    except csv.Error as error:
        return DataError(f"{where}: from line {block.line} on: {error}; is a quote not closed?")
    for line, cells in rows:
        if len(cells) != dialect.num_cells:
            return DataError(
                f"{where}: row {block.line + line - 1} has {len(cells)} cells, expected {dialect.num_cells}; is the file "
                f"complete, and is {dialect.delimiter!r} the sign between its cells (--delimiter)?"
            )
    return None


def line_of(block: Block, row: int, dialect: Dialect) -> int:
    """The line in the file of row ``row`` of ``block``, counted from 0."""
    rows = cells_of(block.text.decode().split("\n"), dialect.delimiter)
    return block.line + rows[row][0] - 1 if row < len(rows) else block.line + row


def distinct_texts(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """(code of every cell or -1 where it is missing, the distinct texts without the spaces around them)."""
    import pandas as pd

    codes, found = pd.factorize(column)
    return codes, [str(text).strip() for text in found]


def as_texts(column: pd.Series, reading: ReadOptions) -> pd.Series:
    """Texts without the spaces around them, NaN where they mark a missing value."""
    import pandas as pd

    codes, texts = distinct_texts(column)
    kept = pd.array([None if text.lower() in reading.tokens else text for text in texts] + [None], dtype=_text_dtype())
    return pd.Series(kept.take(codes), index=column.index)  # the code -1 takes the last one


@functools.cache
def _text_dtype() -> Any:
    import pandas as pd

    return pd.Series(["a"]).dtype


def as_booleans(column: pd.Series, reading: ReadOptions) -> pd.Series:
    """Booleans of true and false in any case, with missing values where there are any.

    Raises:
        OddCells: other cells.
    """
    import pandas as pd

    if column.dtype == bool:
        return column
    codes, texts = distinct_texts(column)
    values = [None if text.lower() in reading.tokens else to_boolean(text) for text in texts]
    _refuse_odd(
        [value is None and text.lower() not in reading.tokens for value, text in zip(values, texts, strict=True)],
        texts,
        codes,
    )
    filled = pd.array([*values, None], dtype="boolean").take(codes)
    made = pd.Series(filled, index=column.index)
    return made if made.isna().any() else made.astype(bool)


def as_numbers(column: pd.Series, decimal: str, reading: ReadOptions) -> pd.Series:
    """Numbers of texts: float64, or whole numbers where float64 would round some of them.

    Raises:
        OddCells: cells that are no numbers.
    """
    import pandas as pd

    codes, texts = distinct_texts(column)
    missing = [text.lower() in reading.tokens for text in texts]
    values = [
        None if gone else to_number(text, decimal, reading.thousands) for text, gone in zip(texts, missing, strict=True)
    ]
    _refuse_odd([value is None and not gone for value, gone in zip(values, missing, strict=True)], texts, codes)
    given = {to_number(token) for token in reading.missing_values}
    values = [None if value in given else value for value in values]
    whole = [value for value in values if isinstance(value, int)]
    if whole and len(whole) == sum(value is not None for value in values) and max(map(abs, whole)) >= LARGEST_EXACT:
        fits = max(map(abs, whole)) < 2**63
        exact = pd.array([*values, None], dtype="Int64" if fits else object)
        return pd.Series(exact.take(codes), index=column.index)
    numbers = np.array([*(np.nan if value is None else float(value) for value in values), np.nan])
    return pd.Series(numbers[codes], index=column.index)


def _refuse_odd(is_odd: list[bool], texts: list[str], codes: np.ndarray) -> None:
    odd = [code for code, bad in enumerate(is_odd) if bad]
    if odd:
        rows = {texts[code]: int((codes == code).argmax()) for code in odd[:NAMED]}
        raise OddCells(rows, int(np.isin(codes, odd).sum()))
