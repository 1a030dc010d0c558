"""Decides which texts are numbers: decimal commas, thousands separators, booleans, and columns with a few odd cells."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from drl_density.datasets.column import LARGEST_EXACT
from drl_density.datasets.tables.meaning import TRUTH
from drl_density.datasets.tables.reading import Kind, ReadOptions

__all__ = ["Decision", "Evidence", "decide", "in_doubt", "is_numeral", "odd_cells", "to_boolean", "to_number"]

Decimal = Literal[".", ","]
SPACES = " \u00a0\u2009\u202f"
"""Spaces that group digits: plain, fixed, thin, and narrow fixed."""
GROUPING = {".": f",'\u2019{SPACES}", ",": f".'\u2019{SPACES}"}
"""Signs that may group three digits, by the decimal sign."""
CURRENCIES = "$\u20ac\u00a3\u00a5%"
"""Signs of currency and percent."""
LEAST_SHARE = 0.5
"""Share of numbers among a column's texts from which other texts are odd cells rather than labels: our own choice."""
NAMED = 5
"""Greatest number of odd cells that a message names."""
ANSWERS = ("yes", "no", "y", "n", "true", "false", "t", "f", "on", "off")
"""Texts in lower case that mean true or false to a reader, and are labels here."""
MOST_DIGITS = 4_000
"""Digits that Python still reads as a whole number; a longer number is infinite in any case."""
_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+")
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
_GROUPED = {
    decimal: re.compile(
        rf"[+-]?[1-9]\d{{0,2}}([{re.escape(signs)}])\d{{3}}(?:\1\d{{3}})*(?:{re.escape(decimal)}\d*)?(?:[eE][+-]?\d+)?"
    )
    for decimal, signs in GROUPING.items()
}


@functools.lru_cache(maxsize=1 << 16)
def to_number(text: str, decimal: str = ".", thousands: str = "auto") -> int | float | None:
    """The number that ``text`` writes, or None where it writes none.

    Args:
        text: a cell without the spaces around it.
        decimal: sign between whole and fraction.
        thousands: sign between groups of three digits; "auto" takes all that the decimal sign leaves, "" takes none.

    >>> to_number("1,000"), to_number("1.000,5", ","), to_number("1,5"), to_number("1,5", ",")
    (1000, 1000.5, None, 1.5)
    """
    plain = text.replace("\u2212", "-")
    if decimal == "," and "," in plain and "." not in plain:
        plain = plain.replace(",", ".")
    elif decimal == "," and "." in plain:
        plain = ""
    if _WHOLE.fullmatch(plain) and len(plain) < MOST_DIGITS:
        return int(plain)
    if _PLAIN.fullmatch(plain) or _INFINITE.fullmatch(plain):
        return float(plain)
    grouped = _GROUPED[decimal].fullmatch(text.replace("\u2212", "-"))
    if grouped is None or (thousands != "auto" and grouped[1] != thousands):
        return None
    plain = grouped[0].replace(grouped[1], "").replace(decimal, ".")
    return int(plain) if _WHOLE.fullmatch(plain) and len(plain) < MOST_DIGITS else float(plain)


def is_numeral(text: str) -> bool:
    """Whether ``text`` is a number with either decimal sign.

    >>> is_numeral("1,5"), is_numeral("a")
    (True, False)
    """
    return any(to_number(text, sign) is not None for sign in (".", ","))


def to_boolean(text: str) -> bool | None:
    """True and False for their names in any case, else None; yes and no are labels.

    >>> to_boolean("TRUE"), to_boolean("yes")
    (True, None)
    """
    return TRUTH.get(text.lower())


@dataclass
class Evidence:
    """What the cells of one text column could be, counted over any number of blocks.

    Attributes:
        num_cells: cells with a value.
        num_booleans: cells that are true or false.
        under: cells that are numbers with each decimal sign.
        only: cells that are numbers with this decimal sign alone.
        num_unclear: cells that are different numbers with either decimal sign, such as 1,234.
        num_signed: cells that would be numbers without a sign of currency or percent.
        num_grouped: cells that are numbers only with thousands separators, with each decimal sign.
        odd: a few cells that are no numbers, with the row of each.
        signed: a few cells that are numbers with one decimal sign alone, by that sign, with the row of each.
        is_lossy: whether a block was parsed to numbers, so that its texts are gone.
        has_fractions: whether such a block may have had a decimal sign.
        is_large: whether such a block has whole numbers that float64 may have rounded.
    """

    num_cells: int = 0
    num_booleans: int = 0
    under: dict[str, int] = field(default_factory=lambda: {".": 0, ",": 0})
    only: dict[str, int] = field(default_factory=lambda: {".": 0, ",": 0})
    num_unclear: int = 0
    num_grouped: dict[str, int] = field(default_factory=lambda: {".": 0, ",": 0})
    num_signed: int = 0
    odd: dict[str, int] = field(default_factory=dict)
    signed: dict[str, dict[str, int]] = field(default_factory=lambda: {".": {}, ",": {}})
    is_lossy: bool = False
    has_fractions: bool = False
    is_large: bool = False

    @property
    def best(self) -> int:
        """Cells that are numbers with the better decimal sign."""
        return max(self.under.values())

    def add_numbers(self, values: np.ndarray, decimal: str, thousands: str) -> None:
        """Counts the cells that a parser for ``decimal`` took for numbers or booleans."""
        self.is_lossy = True
        if values.dtype.kind == "b":
            self.num_cells += len(values)
            self.num_booleans += len(values)
            return
        seen = values[~np.isnan(values)] if values.dtype.kind == "f" else values
        other = "," if decimal == "." else "."
        whole = seen.dtype.kind != "f"
        self.has_fractions |= not whole and bool(len(seen))
        self.is_large |= not whole and bool((np.abs(seen) >= LARGEST_EXACT).any())
        shifted = np.where(np.abs(seen) < 1000, np.abs(seen), 0) * 1000.0
        fraction = np.zeros(len(seen), bool) if whole else (seen != np.round(seen))
        # Only a text of three decimals and at most three digits before them could be a number with thousands separators.
        unclear = fraction & (np.abs(shifted - np.round(shifted)) < 1e-6) & (np.abs(seen) >= 1) & (np.abs(seen) < 1000)
        unclear &= thousands in ("auto", decimal)
        self.num_cells += len(seen)
        self.under[decimal] += len(seen)
        self.under[other] += int(len(seen) - fraction.sum() + unclear.sum())
        self.only[decimal] += int((fraction & ~unclear).sum())
        self.num_unclear += int(unclear.sum())
        self.num_grouped[other] += int(unclear.sum())

    def add_texts(self, texts: Sequence[str], counts: np.ndarray, rows: np.ndarray, reading: ReadOptions) -> None:
        """Counts the cells of distinct ``texts``, which occur ``counts`` times each and first in ``rows``."""
        for text, count, row in zip(texts, counts.tolist(), rows.tolist(), strict=True):
            self.num_cells += count
            if to_boolean(text) is not None:
                self.num_booleans += count
                if len(self.odd) < NAMED:
                    self.odd.setdefault(text, row)
                continue
            values = {sign: to_number(text, sign, reading.thousands) for sign in (".", ",")}
            for sign, value in values.items():
                if value is None:
                    continue
                self.under[sign] += count
                other = values["," if sign == "." else "."]
                self.only[sign] += count if other is None else 0
                if other is None and len(self.signed[sign]) < NAMED:
                    self.signed[sign].setdefault(text, row)
                self.num_grouped[sign] += count if to_number(text, sign, "") is None else 0
            known = [value for value in values.values() if value is not None]
            self.num_unclear += count if len(known) == 2 and known[0] != known[1] else 0
            if known:
                continue
            bare = text.strip(f"{CURRENCIES}{SPACES}")
            self.num_signed += count if is_numeral(bare) else 0
            if len(self.odd) < NAMED:
                self.odd.setdefault(text, row)


class Decision(NamedTuple):
    """How a column is read.

    Attributes:
        kind: number, boolean or text.
        decimal: the decimal sign of numbers; None where no cell decides it.
        note: what the column is read as if that is a guess, or "".
        error: why the column cannot be read, or "".
        num_odd: cells that are no numbers in a column of numbers, which is an error too.
    """

    kind: Kind
    decimal: str | None = None
    note: str = ""
    error: str = ""
    num_odd: int = 0


def in_doubt(columns: Mapping[str, Evidence], decimal: str) -> list[str]:
    """Columns of parsed numbers whose texts must be seen, as other columns show that a comma may begin decimals.

    Args:
        columns: evidence by name.
        decimal: sign for which the numbers were parsed.
    """
    shows_commas = decimal == "," or any(found.only[","] or found.num_grouped["."] for found in columns.values())
    doubtful = [
        name for name, found in columns.items() if found.num_unclear and not found.only[decimal] and found.is_lossy
    ]
    return doubtful if shows_commas else []


def decide(
    columns: Mapping[str, Evidence],
    reading: ReadOptions,
    delimiter: str,
    known: Mapping[str, Kind],
    settled: Collection[str] = (),
) -> dict[str, Decision]:
    """How each column is read, from the evidence of all of them.

    Args:
        columns: evidence by name.
        reading: options that settle the decimal sign.
        delimiter: sign between cells, which settles unclear commas where it is a comma itself.
        known: kind of each column whose kind is known.
        settled: decimal signs of columns that were decided before.
    """
    signs = set(settled) | {
        sign for found in columns.values() for sign in (".", ",") if found.only[sign] and found.best == found.num_cells
    }
    if reading.decimal_sign != "auto":
        signs = {reading.decimal_sign}
    elif not signs and delimiter == ",":  # a comma within a cell is quoted there, which spreadsheets do for thousands
        signs = {"."}
    return {name: _decide(name, found, reading, signs, known.get(name)) for name, found in columns.items()}


def _decide(name: str, found: Evidence, reading: ReadOptions, signs: set[str], known: Kind | None) -> Decision:
    if known == "text":
        return Decision("text")
    if found.num_cells and found.num_booleans == found.num_cells:
        return Decision("boolean")
    allowed = (".", ",") if reading.decimal_sign == "auto" else (reading.decimal_sign,)
    fitting = [sign for sign in allowed if found.under[sign] == found.num_cells]
    if not fitting:
        return _decide_odd(found, allowed, known)
    if len(fitting) == 1:
        return _noted(found, fitting[0], reading)
    if not found.num_unclear:
        return _noted(found, ".", reading) if found.only["."] or found.num_grouped["."] else Decision("number")
    if len(signs) != 1 and not found.num_grouped["."]:  # points alone are decimal points unless the table shows commas
        return Decision("number", ".")
    if len(signs) != 1:
        return Decision(
            "number",
            error=f"column {name!r} has numbers such as 1,234 alone, and nothing in the table shows whether their comma "
            "groups thousands or begins decimals; give decimal='.' or ',' (--decimal)",
        )
    return _noted(found, next(iter(signs)), reading)


def _noted(found: Evidence, sign: str, reading: ReadOptions) -> Decision:
    grouped = found.num_grouped[sign]
    notes = []
    if sign == "," and reading.decimal_sign == "auto" and (found.only[","] or found.num_unclear) and not grouped:
        notes.append("decimal commas (decimal='.', --decimal . refuses them)")
    if grouped and reading.thousands == "auto":
        notes.append(f"thousands separators{' and decimal commas' if sign == ',' else ''} (--decimal and --thousands)")
    return Decision("number", sign, f"numbers with {' and '.join(notes)}" if notes else "")


def _decide_odd(found: Evidence, allowed: Sequence[str], known: Kind | None) -> Decision:
    best = max(allowed, key=lambda sign: found.under[sign])
    count = found.num_cells - found.under[best]
    if found.under[best] < LEAST_SHARE * found.num_cells and known is None:
        count_other = found.under[best] + found.num_booleans
        note = f"labels, though {count_other} of {found.num_cells} cells are numbers or booleans"
        is_signed = found.num_signed >= LEAST_SHARE * found.num_cells
        if is_signed:
            note = (
                f"labels, though cells such as {next(iter(found.odd))!r} are numbers with a sign of currency or percent"
            )
        return Decision("text", note=note if count_other or is_signed else "")
    return Decision("number", best, num_odd=count)


def odd_cells(name: str, count: int, num_cells: int, row: int, texts: Sequence[str], *, is_fitted: bool = False) -> str:
    """The end of a message about a column of numbers with a few other texts.

    Args:
        name: name of the column.
        count: number of such cells.
        num_cells: number of cells with a value.
        row: row of the first one.
        texts: some of the texts.
        is_fitted: whether a fit has decided that the column holds numbers, so that it cannot be read as labels.

    >>> print(odd_cells("age", 1, 90, 7, ["old"]))  # doctest: +NORMALIZE_WHITESPACE
    column 'age', row 7: 1 of 90 cells are no numbers ('old'). Correct them, mark them as missing with
    missing_values=['old'] (--missing-values old), or declare the column categorical (--categorical age) to read all
    its cells as labels
    """
    shown = ", ".join(map(repr, texts))
    signs = [text for text in texts if is_numeral(text)]
    hint = ""
    if signs:
        hint = f". {signs[0]!r} has other decimal signs or separators than other cells: see --decimal and --thousands"
    quoted = shlex.join(texts)
    where = f"column {name!r}, row {row}"
    marking = f"mark them as missing with missing_values={list(texts)} (--missing-values {quoted})"
    if not is_fitted:
        return (
            f"{where}: {count} of {num_cells} cells are no numbers ({shown}). Correct them, {marking}, or declare the "
            f"column categorical (--categorical {shlex.quote(name)}) to read all its cells as labels{hint}"
        )
    if all(text.lower() in ANSWERS for text in texts):
        return (
            f"{where}: {shown} is no number. The fit has numbers in this column, or true and false as 1 and 0: write yes as "
            "true and no as false in all its cells, or as 1 and 0"
        )
    return f"{where}: {shown} is no number, and the fit has numbers in this column. Correct it, or {marking}{hint}"
