"""What the cells of a column mean: as numbers, as labels, or as missing values."""

from __future__ import annotations

import decimal
import math
import numbers
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from drl_density.datasets.column import LARGEST_EXACT
from drl_density.datasets.tables.reading import MISSING_TOKENS

TOKENS = frozenset(MISSING_TOKENS)
"""Texts that mean a missing value, in lower case, where no further ones are given."""
INVISIBLE = "\ufeff\u200b\u2060 \t\r\n\v\f\u00a0"
"""Byte order marks within a text, signs without width, and spaces."""
TRUTH = {"true": True, "false": False}
"""Texts of truth values, in lower case."""

LONGEST_BITS = 10_000
"""Bits of a whole number that Python still writes in decimal digits, with room to spare."""

Kind = Literal["numbers", "booleans", "text", "dates", "unusable"]


class Problem(NamedTuple):
    """The first cell of a column that cannot be used.

    Attributes:
        row: index of the cell from 0.
        words: what is wrong with it.
        is_text: whether the cell is a text or a date where a number was expected.
    """

    row: int
    words: str
    is_text: bool = False


class Numbers(NamedTuple):
    """A column as numbers.

    Attributes:
        values: float64 ``(n,)``, NaN for missing values and for cells that are no numbers.
        storage: type in which a value is written back.
        problem: the first cell that is no finite number, or None.
    """

    values: np.ndarray
    storage: str
    problem: Problem | None


class Labels(NamedTuple):
    """A column as labels.

    Attributes:
        codes: float64 ``(n,)``, positions in ``labels``, NaN for missing values and for unknown labels.
        labels: the labels in order.
        storage: type in which a label is written back.
        problem: the first cell that is no label, or None.
    """

    codes: np.ndarray
    labels: tuple[str, ...]
    storage: str
    problem: Problem | None


@dataclass(frozen=True, eq=False)
class Cells:
    """One column as it came, with its nulls marked.

    Attributes:
        kind: "numbers", "booleans", "text", "dates", or "unusable" for complex numbers and other objects.
        values: cells ``(n,)``; text as strings; anything where ``is_null`` is true.
        is_null: cells without a value, boolean ``(n,)``. Text such as "NA" is no null; it counts as missing later.
        storage: type of the cells.
        order: values of a categorical column in their order, as labels; None for any other column.
        is_ordered: whether the categorical column declares that order.
        problem: why the column is unusable, or None.
        tokens: texts that mean a missing value, in lower case.
    """

    kind: Kind
    values: np.ndarray
    is_null: np.ndarray
    storage: str
    order: tuple[str, ...] | None = None
    is_ordered: bool = False
    problem: Problem | None = None
    tokens: frozenset[str] = TOKENS

    def __len__(self) -> int:
        return len(self.values)

    @property
    def is_missing(self) -> np.ndarray:
        """Cells that are null, NaN or a text that means a missing value, boolean ``(n,)``."""
        if self.kind != "text":
            return self.is_null
        codes, texts = _distinct(self)
        is_token = np.array([_is_token(text, self.tokens) for text in texts] + [True])
        return is_token[codes]

    def as_numbers(self) -> Numbers:
        """The cells as numbers: True is 1, text is parsed, and what is no finite number is a problem.

        >>> from drl_density.datasets.tables.cells import read_cells
        >>> read_cells(["1", "NA", "2.5"]).as_numbers().values
        array([1. , nan, 2.5])
        """
        if self.kind == "text":
            return self._parsed()
        if self.kind in ("dates", "unusable"):
            nothing = np.full(len(self), math.nan)
            if self.problem is not None or self.is_null.all():
                return Numbers(nothing, self.storage, self.problem)
            row = int((~self.is_null).argmax())
            return Numbers(nothing, self.storage, Problem(row, f"{str(self.values[row])!r} is a date or a time", True))
        with np.errstate(over="ignore"):  # beyond float64: infinite, and reported as such
            values = _floats(np.where(self.is_null, 0, self.values))
        is_large = np.abs(values) >= LARGEST_EXACT if _holds_whole(self) else np.zeros(len(self), dtype=bool)
        if is_large.any() and self.values.dtype == object:
            is_large &= [_is_exact_whole(cell) for cell in self.values]
        problem = _first(
            is_large, self.values, "is a whole number beyond 2^53, which floating-point numbers do not hold"
        )
        is_infinite = ~np.isfinite(values) & ~is_large
        problem = _first(is_infinite, self.values, "is infinite, which is no missing value") or problem
        return Numbers(np.where(self.is_null, math.nan, values), self.storage, problem)

    def as_labels(self, known: Sequence[str] | None = None) -> Labels:
        """The cells as labels. Numbers are labels of equal value: 12, 12.0 and "12" are the same label.

        Args:
            known: labels of the fit, in the order of their codes; those of the column itself when None. A known label
                counts as a label even if its text usually means a missing value.

        >>> from drl_density.datasets.tables.cells import read_cells
        >>> read_cells([12, 3.0, None]).as_labels(("12", "3", "7")).codes
        array([ 0.,  1., nan])
        """
        storage = self._label_storage()
        if self.problem is not None:
            return Labels(np.full(len(self), math.nan), tuple(known or ()), storage, self.problem)
        codes, texts = _distinct(self)
        is_token = [_is_token(text, self.tokens) for text in texts]
        is_infinite = np.array([self.kind == "numbers" and text in ("inf", "-inf") for text in texts] + [False])[codes]
        if known is None:
            known = self._own_order([text for text, skipped in zip(texts, is_token, strict=True) if not skipped])
        place = {label: float(code) for code, label in enumerate(known)}
        by_value: dict[Any, float | None] = {}
        for label, code in place.items():
            by_value[meaning_of(label)] = None if meaning_of(label) in by_value else code
        found = [place.get(text, by_value.get(meaning_of(text))) for text in texts]
        is_unknown = np.array(
            [place_ is None and not skipped for place_, skipped in zip(found, is_token, strict=True)] + [False]
        )[codes]
        row = int(is_unknown.argmax()) if is_unknown.any() else None
        problem = None
        if row is not None:
            expected = ", ".join(map(repr, known[:20])) + (", ..." if len(known) > 20 else "")
            problem = Problem(row, f"{texts[codes[row]]!r} is no label of this column; the labels are {expected}")
        problem = _first(is_infinite, self.values, "is infinite, which is no missing value") or problem
        table = np.array([math.nan if code is None else code for code in found] + [math.nan])
        return Labels(table[codes], tuple(known), storage, problem)

    def _label_storage(self) -> str:
        """How a label is written back: a categorical column stays one, with the type of its values in brackets."""
        if self.order is None:
            return self.storage
        base = "ordered" if self.is_ordered else "category"
        return base if self.storage == "string" else f"{base}[{self.storage}]"

    def _own_order(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The column's own labels: in the order of its categories, by value if all are numbers, or by alphabet."""
        present = set(texts)
        if self.order is not None:
            return tuple(label for label in self.order if label in present)
        meanings = {text: meaning_of(text) for text in present}
        if all(isinstance(value, int | float) for value in meanings.values()):
            return tuple(sorted(present, key=lambda text: (meanings[text], text)))
        return tuple(sorted(present))

    def _parsed(self) -> Numbers:
        """Text as numbers; True and False are 1 and 0 if the column holds nothing else."""
        codes, texts = _distinct(self)
        kept = [text for text in texts if not _is_token(text, self.tokens)]
        if kept and all(text.casefold() in TRUTH for text in kept):
            table = np.array([float(TRUTH.get(text.casefold(), math.nan)) for text in texts] + [math.nan])
            return Numbers(table[codes], "bool", None)
        parsed = _parse_all(texts, self.tokens)
        table = np.append(parsed, math.nan)
        is_bad = np.array(
            [value != value and not _is_token(text, self.tokens) for value, text in zip(parsed, texts, strict=True)]
            + [False]
        )
        is_truth = np.array(
            [text.strip().lower() in TRUTH for text in texts] + [False]
        )  # the other texts are the odd ones
        is_large = np.array(
            [abs(value) >= LARGEST_EXACT and _is_whole_text(text) for value, text in zip(parsed, texts, strict=True)]
            + [False]
        )
        shown = np.array([*texts, ""], dtype=object)[codes]
        problem = (
            _first((is_bad & ~is_truth)[codes], shown, "is text, not a number", is_text=True)
            or _first(is_bad[codes], shown, "is text, not a number", is_text=True)
            or _first(np.isinf(table)[codes], shown, "is infinite, which is no missing value")
            or _first(is_large[codes], shown, "is a whole number beyond 2^53, which floating-point numbers do not hold")
        )
        is_whole = bool(kept) and all(_is_whole_text(text) for text in kept)
        return Numbers(table[codes], "int64" if is_whole else "float64", problem)


def _distinct(cells: Cells) -> tuple[np.ndarray, list[str]]:
    """(place of each cell among the distinct labels ``(n,)``, those labels); the place of a null is -1."""
    if cells.kind == "text":
        import pandas as pd

        values = cells.values.astype(object)
        values[cells.is_null] = None
        codes, distinct = pd.factorize(values, use_na_sentinel=True)
        return codes, [composed(str(text).strip()) for text in distinct]
    seen = cells.values[~cells.is_null]
    is_object = seen.dtype == object
    seen = np.array([label_of(cell) for cell in seen]) if is_object else seen
    distinct, places = np.unique(seen, return_inverse=True)
    codes = np.full(len(cells), -1)
    codes[~cells.is_null] = places.reshape(-1)
    return codes, number_labels(distinct) if cells.kind == "numbers" and not is_object else [
        label_of(v) for v in distinct
    ]


def number_labels(values: np.ndarray) -> list[str]:
    """Labels of an array of numbers: whole ones without a decimal point, others as short as their type allows."""
    if values.dtype.kind == "f":
        return [str(int(v)) if np.isfinite(v) and v == np.round(v) else str(v) for v in values]
    return [label_of(value) for value in values.tolist()]


def label_of(value: Any) -> str:
    """The text of one cell as a label."""
    if isinstance(value, float | np.floating | decimal.Decimal) and value == value and abs(value) < math.inf:
        return str(int(value)) if value == int(value) else str(value)
    if isinstance(value, int) and value.bit_length() > LONGEST_BITS:
        return hex(value)
    return composed(str(value).strip())


def composed(text: str) -> str:
    """A text in Unicode's composed form (NFC) and without invisible signs at its ends, so that equal looks are equal texts.

    >>> composed("cafe\\u0301") == "caf\\u00e9", composed("\\ufeffage") == "age"
    (True, True)
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text).strip(INVISIBLE)


def meaning_of(text: str) -> Any:
    """What a label means: the number or truth value that it spells, or else its text."""
    text = composed(text)
    if text.casefold() in TRUTH:
        return text.casefold()
    if _is_whole_text(text):
        return int(text)
    value = _parse(text)
    if value != value or math.isinf(value):
        return text
    return int(value) if value == int(value) else value


def _is_token(text: str, tokens: frozenset[str]) -> bool:
    return text.casefold() in tokens


def _is_whole_text(text: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]{1,300}", text) is not None


def _floats(values: np.ndarray) -> np.ndarray:
    """Numbers as float64, infinite beyond its range."""
    try:
        return values.astype(np.float64)
    except OverflowError:  # of Python's integers, which have no range
        return np.array([_nearest(value) for value in values])


def _nearest(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _is_exact_whole(cell: Any) -> bool:
    """Whether a number promises the last digit of a whole number: an integer, or a decimal number without places."""
    return isinstance(cell, numbers.Integral) or (
        isinstance(cell, decimal.Decimal) and cell.is_finite() and cell == cell.to_integral_value()
    )


def _parse(text: str) -> float:
    """The number that a text spells, NaN for any other text."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan


def _parse_all(texts: Sequence[str], tokens: frozenset[str]) -> np.ndarray:
    return np.array([math.nan if _is_token(text, tokens) else _parse(text) for text in texts], dtype=np.float64)


def _holds_whole(cells: Cells) -> bool:
    return cells.kind == "numbers" and cells.values.dtype.kind in "iuO"


def _first(is_bad: np.ndarray, values: np.ndarray, words: str, *, is_text: bool = False) -> Problem | None:
    """The first bad cell as a problem."""
    if not is_bad.any():
        return None
    row = int(is_bad.argmax())
    shown = repr(label_of(values[row])) if is_text else label_of(values[row])
    return Problem(row, f"{shown} {words}", is_text)
