"""Recognises the kind, grid and bounds of every column."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drl_density.datasets.dataset import KINDS, Column
from drl_density.errors import DataError

LEAST_PILE = 5
"""Fewest rows at an end of a column that count as a pile: our own choice, enough to rule out chance repeats."""


def rounding_width(values: np.ndarray) -> float:
    """Spacing of the coarsest decimal grid that holds at least 98 % of the values, 0 for a continuous column.

    A column counts as rounded when fewer than 60 % of its values are distinct, or when all are whole numbers. Repeated
    values that lie on no decimal grid get the median gap between neighbours.

    >>> rounding_width(np.repeat([1.1, 1.2, 1.4], 10))
    0.1
    """
    distinct = np.unique(values)
    is_whole = bool(np.all(values == np.round(values)))
    if len(distinct) < 2 or (len(distinct) > 0.6 * len(values) and not is_whole):
        return 0.0
    for exponent in range(-6, 10):
        width = 10.0**-exponent
        steps = values / width
        whole = np.round(steps)
        # The absolute part allows for decimals in binary, the relative one for rounding in steps of large values.
        on_grid = np.abs(steps - whole) < 1e-6 + 1e-12 * np.abs(steps)
        if on_grid.mean() < 0.98 or len(np.unique(whole)) < 0.9 * len(distinct):
            continue
        common = int(np.gcd.reduce(np.diff(np.unique(whole[on_grid])).astype(np.int64)))
        return float(f"{width * max(common, 1):.12g}")
    return float(np.median(np.diff(distinct)))


def notice_columns(
    values: np.ndarray,
    names: Sequence[str],
    *,
    categories: Mapping[str, tuple[str, ...]] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Column, ...]:
    """Describes every column of ``values`` ``(rows, d)`` by a :class:`Column`.

    Args:
        values: finite numbers, with NaN for missing values.
        names: name of every column, in order.
        categories: labels of each column that was text, by name.
        overrides: declared properties, ``{name: {"kind": ..., "width": ..., "lower": ..., "upper": ...}}``; they
            replace what is recognised.

    Raises:
        DataError: constant columns without a declared width, which would spread their one value, and overrides of
            unknown columns or properties.

    >>> values = np.stack([np.arange(20.0), np.linspace(0.0, 1.0, 20) ** 0.5], 1)
    >>> [column.kind for column in notice_columns(values, ["count", "share"])]
    ['integer', 'continuous']
    """
    categories = categories or {}
    overrides = overrides or {}
    _check_overrides(overrides, names)
    constant = [
        name
        for index, name in enumerate(names)
        if np.ptp(_seen(values[:, index])) == 0 and not overrides.get(name, {}).get("width")
    ]
    if constant:
        raise DataError(
            f"constant columns have no density: {', '.join(constant)}. Leave them out with drop={constant} "
            f"(--drop {' '.join(constant)})"
        )
    found = []
    for index, name in enumerate(names):
        column = _notice(_seen(values[:, index]), name, categories.get(name))
        found.append(dataclasses.replace(column, **overrides.get(name, {})))
    return tuple(found)


def _seen(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]


def _notice(values: np.ndarray, name: str, labels: tuple[str, ...] | None) -> Column:
    if labels is not None:
        return Column(name, "categorical", 1.0, categories=labels)
    distinct = np.unique(values)
    width = float(distinct[1] - distinct[0]) if len(distinct) == 2 else rounding_width(values)
    offset = _grid_offset(values, width)
    is_positive = bool(values.min() > 0)
    at_ends = {float(end): int((values == end).sum()) for end in (distinct[0], distinct[-1])}
    piles = tuple(end for end, count in at_ends.items() if count >= max(LEAST_PILE, 0.02 * len(values)))
    if len(distinct) == 2:
        kind = "binary"
    elif width >= 1 and np.all(values == np.round(values)):
        kind = "integer"
    else:
        kind = "rounded" if width else "continuous"
    return Column(name, kind, width, is_positive=is_positive, piles=piles, offset=offset)


def _grid_offset(values: np.ndarray, width: float) -> float:
    """Offset in [0, width) of the grid of spacing ``width`` through most values; 0 for a grid through 0."""
    if not width:
        return 0.0
    places, counts = np.unique(np.round(np.mod(values, width) / width, 6) % 1.0, return_counts=True)
    return float(f"{places[counts.argmax()] * width:.6g}")


def _check_overrides(overrides: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> None:
    known = {field.name for field in dataclasses.fields(Column)} - {"name"}
    for name, properties in overrides.items():
        if name not in names:
            close = difflib.get_close_matches(name, names)
            hint = f"; did you mean {', '.join(close)}?" if close else f"; columns are {', '.join(names)}"
            raise DataError(f"there is no column {name!r}{hint}")
        unknown = set(properties) - known
        if unknown:
            raise DataError(f"column {name!r}: unknown properties {sorted(unknown)}, expected some of {sorted(known)}")
        if properties.get("kind", "continuous") not in KINDS:
            raise DataError(f"column {name!r}: kind must be one of {KINDS}, got {properties['kind']!r}")
        if not properties.get("lower", -math.inf) < properties.get("upper", math.inf):
            raise DataError(f"column {name!r}: lower must be below upper, got {dict(properties)}")
