"""What each column of a table is: its kind, its rounding width and its bounds, noticed from the values."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drl_density.datasets.splits import row_groups
from drl_density.errors import DataError, DataWarning

KINDS = ("continuous", "rounded", "integer", "binary", "categorical", "constant")
DECLARABLE = ("kind", "width", "lower", "upper")
REPEATED_SHARE = 0.9  # at most this share of distinct values, and a column may be rounded
GRID_SHARE = 0.95  # share of values that must sit on a grid before it is taken as the rounding grid
ATOM_SHARE = 0.05  # a single value of a continuous column that fills more than this is worth a warning


@dataclass(frozen=True)
class Column:
    r"""One column of a table.

    A column with ``width`` w > 0 holds values rounded to a grid of spacing w. It becomes continuous by adding noise
    uniform on :math:`(-w/2, w/2)`, so its density lives on (``support_lower``, ``support_upper``), which is half a
    width wider than the bounds of the values themselves.

    Attributes:
        name: header of the column.
        kind: "continuous", "rounded", "integer", "binary", "categorical" or "constant".
        width: spacing of the grid in the column's own unit; 0 for continuous values, 1 for integers.
        lower: smallest value possible, declared or noticed; -inf when there is none.
        upper: largest value possible, declared or noticed; +inf when there is none.
        categories: labels behind the codes 0, 1, ... of a text column, otherwise None.
        num_missing: cells without a finite value before rows were dropped.

    >>> column = Column("quality", "integer", width=1.0, lower=0.0)
    >>> column.is_discrete, column.is_positive, column.support_lower
    (True, True, -0.5)
    """

    name: str
    kind: str
    width: float = 0.0
    lower: float = -math.inf
    upper: float = math.inf
    categories: tuple[str, ...] | None = None
    num_missing: int = 0

    @property
    def is_positive(self) -> bool:
        """True when no value below zero is possible."""
        return self.lower >= 0

    @property
    def is_discrete(self) -> bool:
        """True for counts, codes and labels, whose likelihood is a bound; rounded measurements are not discrete."""
        return self.kind in ("integer", "binary", "categorical")

    @property
    def support_lower(self) -> float:
        """Lower end of the dequantised values."""
        return self.lower - self.width / 2

    @property
    def support_upper(self) -> float:
        """Upper end of the dequantised values."""
        return self.upper + self.width / 2


def notice_columns(
    values: np.ndarray,
    names: Sequence[str],
    *,
    categories: Mapping[str, tuple[str, ...]] | None = None,
    num_missing: Mapping[str, int] | None = None,
    declared: Mapping[str | int, Mapping[str, Any]] | None = None,
) -> tuple[Column, ...]:
    """Find kind, width and bounds of every column; a declaration overrides what was noticed.

    A column is "rounded" when its values repeat and at least 95 % of them sit on one grid (decimal, a simple multiple
    of a decimal, or the smallest gap), counted over rows that differ. A bound at zero is noticed when no value is
    negative and the values really press against it: 1 % of them lie below a tenth of the median, or their skewness
    exceeds 1. An upper bound at one is noticed by the mirrored rule for values that never exceed one.

    Args:
        values: finite numbers, shape ``(rows, columns)``; text columns already coded 0, 1, ...
        names: one name per column.
        categories: labels of the coded text columns.
        num_missing: missing cells per column name, copied into the result.
        declared: ``{name or index: {"kind", "width", "lower", "upper"}}``, any subset of the keys.

    Returns:
        One :class:`Column` per column.

    Raises:
        DataError: if a declaration names an unknown column, key or kind, or contradicts the values.

    >>> import numpy as np
    >>> heights = np.round(np.random.default_rng(0).normal(1.7, 0.1, (500, 1)), 2)
    >>> column, = notice_columns(heights, ["height"])
    >>> column.kind, column.width
    ('rounded', 0.01)
    """
    categories, num_missing = categories or {}, num_missing or {}
    overrides = {resolve_name(key, names, "columns"): dict(value) for key, value in (declared or {}).items()}
    distinct_rows = np.unique(row_groups(values), return_index=True)[1]
    columns = []
    for index, name in enumerate(names):
        column = _notice(name, values[:, index], distinct_rows, categories.get(name), name in overrides)
        column = _with(column, num_missing=num_missing.get(name, 0))
        if name in overrides:
            column = _override(column, overrides[name], values[:, index])
        columns.append(column)
    return tuple(columns)


def notice_images(values: np.ndarray, names: Sequence[str], *, lower: float | None, upper: float | None) -> Column:
    """One :class:`Column` that fits every pixel: pixels share kind, width and bounds, even those that never vary."""
    flat = values.reshape(-1)
    sample = flat[:: max(1, flat.size // 1_000_000)]
    column = _notice(names[0], sample, np.arange(sample.size), None, True)
    low, high = float(flat.min()), float(flat.max())
    if column.kind == "binary":
        column = _with(column, width=high - low)
    if column.width > 0 or lower is not None:
        is_share = low >= 0 and high <= 1
        column = _with(
            column,
            lower=lower if lower is not None else (0.0 if is_share else low),
            upper=upper if upper is not None else (1.0 if is_share else high),
        )
    return column


def resolve_name(key: str | int, names: Sequence[str], argument: str) -> str:
    """The column that ``key`` (a name or an index) means; DataError with close matches when there is none."""
    if isinstance(key, int) and not isinstance(key, bool) and 0 <= key < len(names):
        return names[key]
    if key in names:
        return str(key)
    close = difflib.get_close_matches(str(key), names, n=3)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"the columns are {shorten(names)}"
    raise DataError(f"{argument}: there is no column {key!r}; {hint}")


def shorten(items: Sequence[Any], *, most: int = 8) -> str:
    """A readable list that stops after a few items."""
    shown = ", ".join(str(item) for item in items[:most])
    return shown if len(items) <= most else f"{shown}, ... ({len(items)} in all)"


def _with(column: Column, **changes: Any) -> Column:
    return Column(**{**{k: getattr(column, k) for k in Column.__dataclass_fields__}, **changes})


def _notice(
    name: str, values: np.ndarray, distinct_rows: np.ndarray, labels: tuple[str, ...] | None, is_declared: bool
) -> Column:
    unique, counts = np.unique(values, return_counts=True)
    if labels is not None and len(unique) > 1:
        return Column(name, "binary" if len(labels) == 2 else "categorical", 1.0, 0.0, len(labels) - 1.0, labels)
    if len(unique) == 1:
        return Column(name, "constant", 0.0, categories=labels)
    if len(unique) == 2:
        low, high = map(float, unique)
        return Column(name, "binary", high - low, low, high)
    kept = values[distinct_rows]
    num_distinct = len(unique)
    width = find_width(unique, counts)
    if _is_integer(unique) and width >= 1:
        return Column(name, "integer" if width == 1 else "rounded", width, *_notice_bounds(kept, width))
    if num_distinct <= REPEATED_SHARE * len(kept):
        if width > 0:
            return Column(name, "rounded", width, *_notice_bounds(kept, width))
        if not is_declared:
            _warn_of_atoms(name, unique, counts)
    return Column(name, "continuous", 0.0, *_notice_bounds(kept, 0.0))


def _warn_of_atoms(name: str, unique: np.ndarray, counts: np.ndarray) -> None:
    share = counts.max() / counts.sum()
    if share > ATOM_SHARE or len(unique) < 0.5 * counts.sum():
        warnings.warn(
            f"column {name!r} looks continuous but its values repeat ({unique[counts.argmax()]:g} fills {share:.0%} of "
            "the rows) and sit on no common grid: a density can grow without limit on repeated values, so declare the "
            f'rounding, columns={{{name!r}: {{"kind": "rounded", "width": ...}}}}',
            DataWarning,
            stacklevel=2,
        )


def _epsilon(unique: np.ndarray) -> float:
    """Relative precision of the source: single precision when every value survives the round trip through it."""
    if np.abs(unique).max() > np.finfo(np.float32).max:
        return float(np.finfo(np.float64).eps)
    is_single = bool((unique.astype(np.float32).astype(np.float64) == unique).all())
    return float(np.finfo(np.float32 if is_single else np.float64).eps)


def _is_integer(unique: np.ndarray) -> bool:
    return bool(np.abs(unique).max() < 1e12 and (unique == np.round(unique)).all())


def find_width(unique: np.ndarray, counts: np.ndarray) -> float:
    """Spacing of the coarsest grid that at least 95 % of the values sit on; 0 when there is none.

    Args:
        unique: sorted distinct values, shape ``(k,)``.
        counts: rows per distinct value, shape ``(k,)``.

    Decimal grids :math:`10^{-k}` come first, then simple multiples of the decimal found, then the smallest gap.

    >>> find_width(np.array([0.25, 0.5, 1.0, 1.75]), np.ones(4))
    0.25
    >>> find_width(np.array([0.1234567891, 0.5, 0.71828182845]), np.ones(3))
    0.0
    """
    if len(unique) < 2:
        return 0.0
    magnitude, epsilon = float(np.abs(unique).max()), _epsilon(unique)
    total = counts.sum()

    def fits(width: float, offset: float = 0.0) -> bool:
        if width <= 1e3 * epsilon * magnitude:
            return False
        distance = np.abs(unique - offset - width * np.round((unique - offset) / width))
        return bool(counts[distance <= 1e-6 * width + 4 * epsilon * magnitude].sum() >= GRID_SHARE * total)

    anchor = float(unique[counts.argmax()])
    largest = math.ceil(math.log10(float(unique[-1] - unique[0])))
    for exponent in range(largest, max(largest - 12, -9) - 1, -1):
        base = 10.0**exponent if exponent >= 0 else 1.0 / 10.0**-exponent
        if fits(base):
            return next((width for width in (_scaled(base, m) for m in (25, 5, 2)) if fits(width, anchor)), base)
    gap = float(np.diff(unique).min())
    steps = (unique[-1] - unique[0]) / gap
    refined = float((unique[-1] - unique[0]) / max(1.0, np.round(steps)))
    return refined if fits(refined, anchor) and len(unique) >= 3 else 0.0


def _scaled(base: float, multiple: int) -> float:
    return multiple * base if base >= 1 else multiple / round(1.0 / base)


def _notice_bounds(values: np.ndarray, width: float) -> tuple[float, float]:
    lower = 0.0 if _presses_zero(values, width) else -math.inf
    is_share = lower == 0.0 and width < 0.5 and values.max() <= 1.0
    return lower, 1.0 if is_share and _presses_zero(1.0 - values, width) else math.inf


def _presses_zero(values: np.ndarray, width: float) -> bool:
    smallest = float(values.min())
    if smallest < 0 or (smallest == 0 and width == 0):
        return False
    deviation = values - values.mean()
    scale = float(np.sqrt(np.mean(deviation**2)))
    if smallest == 0:
        return True
    skewness = float(np.mean(deviation**3)) / scale**3 if scale > 0 else 0.0
    return skewness > 1 or float(np.mean(values < 0.1 * np.median(values))) >= 0.01


def _override(column: Column, declared: dict[str, Any], values: np.ndarray) -> Column:
    name = column.name
    for key in declared:
        if key not in DECLARABLE:
            raise DataError(f"columns[{name!r}]: unknown key {key!r}; the keys are {', '.join(DECLARABLE)}")
    kind = declared.get("kind", "rounded" if declared.get("width", 0.0) > 0 else column.kind)
    if kind not in KINDS[:-1] and not (kind == "constant" and "kind" not in declared):
        raise DataError(f"columns[{name!r}]: unknown kind {kind!r}; the kinds are {', '.join(KINDS[:-1])}")
    default_width = {"continuous": 0.0, "integer": 1.0, "categorical": 1.0}.get(kind, column.width)
    width = float(declared.get("width", default_width))
    if kind in ("rounded", "binary") and not width > 0:
        raise DataError(f'columns[{name!r}]: kind {kind!r} needs a width above 0, e.g. "width": 0.01; got {width:g}')
    if kind == "continuous" and width != 0:
        raise DataError(f'columns[{name!r}]: a continuous column has width 0, got {width:g}; use kind "rounded"')
    lower, upper = float(declared.get("lower", column.lower)), float(declared.get("upper", column.upper))
    _check_bounds(name, values, lower, upper, is_open=width == 0)
    return _with(column, kind=kind, width=width, lower=lower, upper=upper)


def _check_bounds(name: str, values: np.ndarray, lower: float, upper: float, *, is_open: bool) -> None:
    if not lower < upper:
        raise DataError(f"columns[{name!r}]: lower must be below upper, got {lower:g} and {upper:g}")
    outside = (values < lower) | (values > upper)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise DataError(
            f"columns[{name!r}]: {int(outside.sum())} value(s) lie outside the declared bounds ({lower:g}, {upper:g}), "
            f"first {values[row]:g} in row {row} (counted from 0); widen the bounds or correct the data"
        )
    touching = (values == lower) | (values == upper)
    if is_open and touching.any():
        row = int(np.flatnonzero(touching)[0])
        raise DataError(
            f"columns[{name!r}]: the value {values[row]:g} in row {row} sits on a bound of a continuous column, where "
            'the density is not defined; declare a rounding, "kind": "rounded" and "width": ..., or widen the bounds'
        )
