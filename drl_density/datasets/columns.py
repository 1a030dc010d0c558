"""Recognises the kind, grid and bounds of every column."""

from __future__ import annotations

import dataclasses
import math
import shlex
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drl_density.datasets.column import SHARE_OFF_GRID, SINGLE_ROUNDING, Column
from drl_density.datasets.grids.atoms import ATOM_SHARE, LEAST_PILE, LEAST_SHARE, atom_width
from drl_density.datasets.grids.grid import MOST_OFF_GRID, Counts, decimal_grid, gap_grid, is_whole
from drl_density.datasets.grids.search import find_grid
from drl_density.datasets.tables.declared import check_declared
from drl_density.errors import DataError, DataWarning

MOST_VALUES, ROWS_PER_VALUE, ROWS_OF_TWO = 20, 10, 4
"""Most distinct numbers of a recognised closed support, fewest rows for each of them on average, and fewest rows where there
are two of them: our own choice."""

LEAST_ROOM, LEAST_CELL = 2.0**12, 2.0**10
"""Distinct float64 numbers that a column's range, and a cell of a closed support, must hold to keep noise and draws."""


def notice_columns(
    values: np.ndarray,
    names: Sequence[str],
    *,
    categories: Mapping[str, tuple[str, ...]] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    storages: Mapping[str, str] | None = None,
    counts: Mapping[str, Counts] | None = None,
) -> tuple[Column, ...]:
    """Describes every column of ``values`` ``(rows, d)`` by a :class:`Column`.

    Labels, columns of two values, and numbers of at most 20 distinct values with at least 10 rows for each of them on
    average have a closed support: any other value has density 0. Declaring a bound, a grid or ``"values": ()`` opens it.

    Args:
        values: finite numbers, with NaN for missing values.
        names: name of every column, in order.
        categories: labels of each column that was text, by name.
        overrides: declared properties, ``{name: {"kind": ..., "width": ..., "lower": ..., "upper": ..., "values": ...}}``;
            they replace what is recognised.
        storages: type in which the table holds each column, by name; "float64" for the others.
        counts: counts of the whole column where ``values`` are a sample of it, by name.

    Raises:
        DataError: constant columns without a declared width or values, which would spread their one value; values beyond
            declared bounds or outside declared values; values closer together than float64 can tell apart; overrides of
            unknown columns or properties.

    >>> values = np.stack([np.arange(20.0), np.linspace(0.0, 1.0, 20) ** 0.5], 1)
    >>> [column.kind for column in notice_columns(values, ["count", "share"])]
    ['integer', 'continuous']
    """
    categories, overrides, storages = categories or {}, overrides or {}, storages or {}
    check_declared(overrides, names)
    if not len(values):
        raise DataError("the table has no rows")
    constant = [
        name
        for index, name in enumerate(names)
        if _seen(values[:, index]).min() == _seen(values[:, index]).max()
        and not overrides.get(name, {}).get("width")
        and len(overrides.get(name, {}).get("values", ())) < 2
        and len(categories.get(name, ())) < 2
    ]
    if constant and len(values) == 1:
        raise DataError("the table has a single row, which has no spread and so no density: give more rows")
    if constant:
        advice = f"Leave them out with drop={constant} (--drop {shlex.join(constant)})"
        raise DataError(f"constant columns have no density: {', '.join(constant)}. {advice}")
    found = []
    for index, name in enumerate(names):
        seen, declared = _seen(values[:, index]), overrides.get(name, {})
        _refuse_overflow(name, seen)
        counted = (counts or {}).get(name) or Counts.of(seen)
        column = _notice(seen, counted, name, categories.get(name), storages.get(name, "float64"))
        column = _bounded_at_zero(_declare(column, seen, counted, declared), seen, counted, declared)
        _check_values(column, seen)
        is_recognised = "width" not in declared
        final = _with_atoms(column, seen, counted, is_recognised=is_recognised)
        if is_recognised and final is column:
            _warn_of_rounding(column, seen)
        found.append(final)
    return tuple(found)


def _warn_of_rounding(column: Column, values: np.ndarray) -> None:
    """Warns of a grid that many of the values miss, because they repeat on none; draws lie on it, and they do not."""
    if _misses_grid(column, values):
        repeated, counts = np.unique(values, return_counts=True)
        warnings.warn(
            f"column {column.name!r}: values repeat ({repeated[counts.argmax()]:.12g} in {counts.max()} of {len(values)} "
            f"rows), which would be spikes of the density, but they lie on no grid. The column is rounded to "
            f"{column.width:g}, and so are its draws; declare a width to change it",
            DataWarning,
            stacklevel=4,
        )


def _misses_grid(column: Column, values: np.ndarray) -> bool:
    """Whether many of the values of a column with an open grid lie beside it."""
    if column.is_closed or not column.width:
        return False
    slack = SHARE_OFF_GRID * column.width + SINGLE_ROUNDING * np.abs(values)
    off = np.abs(values - column.on_support(values)) > slack
    return bool(off.mean() > MOST_OFF_GRID)


def _refuse_overflow(name: str, values: np.ndarray) -> None:
    """Raises a DataError for a column whose range is no float64."""
    with np.errstate(over="ignore"):
        span = np.ptp(values)
    if not np.isfinite(span):
        raise DataError(
            f"column {name!r} runs from {values.min():g} to {values.max():g}, a range beyond float64: divide it by a number"
        )


def _seen(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]


def _notice(values: np.ndarray, counts: Counts, name: str, labels: tuple[str, ...] | None, storage: str) -> Column:
    if labels is not None:
        return Column(name, "categorical", 1.0, categories=labels, storage=storage)
    distinct = np.unique(values)
    width, offset = find_grid(values, counts)
    is_binary = len(distinct) == 2 and counts.num_values >= ROWS_OF_TWO
    if is_binary:
        width, offset = decimal_grid(values, distinct) or gap_grid(values, float(distinct[1] - distinct[0]))
    support: tuple[float, ...] = ()
    if is_binary or 2 < len(distinct) <= min(MOST_VALUES, counts.num_values / ROWS_PER_VALUE):
        support = tuple(distinct.tolist())
        width = _cell_width(distinct, width)
    at_ends = {float(distinct[0]): counts.num_least, float(distinct[-1]): counts.num_largest}
    piles = tuple(end for end, count in at_ends.items() if count >= max(LEAST_PILE, LEAST_SHARE * counts.num_values))
    kind = "binary" if is_binary else _grid_kind(values, width)
    is_positive = bool(values.min() > 0)
    return Column(
        name, kind, width, is_positive=is_positive, piles=piles, offset=offset, values=support, storage=storage
    )


def _grid_kind(values: np.ndarray, width: float) -> str:
    if width >= 1 and is_whole(values):
        return "integer"
    return "rounded" if width else "continuous"


def _cell_width(support: np.ndarray, grid: float) -> float:
    """The smallest gap of a support: a multiple of its decimal grid where it has one, so that 0.1 stays 0.1."""
    if len(support) < 2:
        return grid
    gap = float(np.diff(support).min())
    steps = round(gap / grid) if grid else 0
    is_multiple = steps > 0 and abs(gap / grid - steps) < 1e-6 * steps
    return float(f"{steps * grid:.12g}") if is_multiple else gap


def _declare(column: Column, values: np.ndarray, counts: Counts, declared: Mapping[str, Any]) -> Column:
    """The column with declared properties in place of recognised ones."""
    if column.categories is not None:
        others = sorted(set(declared) & {"values", "lower", "upper", "width", "offset"})
        if others or declared.get("kind", "categorical") != "categorical":
            raise DataError(
                f"column {column.name!r} holds labels, so {', '.join(others) or 'another kind'} cannot be declared for it"
            )
        return dataclasses.replace(column, **declared)
    kind, others = declared.get("kind"), {name: value for name, value in declared.items() if name != "values"}
    is_opened = kind == "continuous" or ({"lower", "upper", "width", "offset"} & set(declared) and kind != "binary")
    support = declared.get("values", np.unique(values) if kind == "categorical" else () if is_opened else column.values)
    support = np.unique(np.asarray(support, dtype=np.float64))
    if len(support):
        grid = decimal_grid(support, support) if len(support) > 1 else None
        width = declared.get("width") or _cell_width(support, grid.width if grid else column.width)
        found = "binary" if len(support) == 2 else _grid_kind(support, width)
        return dataclasses.replace(
            column, **{"kind": found, **others, "width": width, "values": tuple(support.tolist())}
        )
    width, offset = find_grid(values, counts) if column.is_closed else (column.width, column.offset)
    if kind == "continuous":
        width, offset = 0.0, 0.0
    found = _grid_kind(values, width) if column.kind == "binary" else column.kind
    return dataclasses.replace(column, **{"kind": found, "width": width, "offset": offset, **others, "values": ()})


def _bounded_at_zero(column: Column, values: np.ndarray, counts: Counts, declared: Mapping[str, Any]) -> Column:
    """The column with a lower bound of 0 where it is one of amounts: no value below 0, and many exactly there.

    Many are the rows of a pile, at least five and 2 % of all, and more than those of any other value. A declared lower
    bound settles the matter instead.
    """
    if column.is_closed or "lower" in declared or 0.0 not in column.piles or values.min() < 0:
        return column
    repeats = np.unique(values, return_counts=True)[1]
    if len(repeats) < 2 or repeats[0] <= repeats[1:].max():
        return column
    option = f"--bounds {shlex.quote(column.name)}=-inf:"
    warnings.warn(
        f"column {column.name!r}: {counts.num_least} of {counts.num_values} values are exactly 0 and none is below, so 0 is "
        f"taken as its lower bound, and no draw lies below; declare 'lower': -inf ({option}) "
        "where values below 0 are possible",
        DataWarning,
        stacklevel=4,
    )
    return dataclasses.replace(column, lower=0.0)


def _check_values(column: Column, values: np.ndarray) -> None:
    """Refuses supports that float64 cannot resolve, and values outside the declared support."""
    least, largest = float(values.min()), float(values.max())
    spacing = float(np.spacing(max(abs(least), abs(largest))))
    length, least_room = (column.width, LEAST_CELL) if column.is_closed else (largest - least, LEAST_ROOM)
    if least < largest and length / spacing < least_room:
        what = f"values {length:g} apart" if column.is_closed else f"a range of {length:g}"
        raise DataError(
            f"column {column.name!r} has {what} near {largest:.17g}, where float64 numbers lie {spacing:g} apart, too "
            f"coarse for a density: subtract a constant such as {least:.17g}, declare the column categorical, or drop it"
        )
    slack = SHARE_OFF_GRID * column.width
    if least < column.lower - slack or largest > column.upper + slack:
        raise DataError(
            f"column {column.name!r} has values from {least:.12g} to {largest:.12g}, outside its declared bounds "
            f"({column.lower:g}, {column.upper:g}): widen the bounds or drop those rows"
        )
    if column.kind == "binary" and len(column.values) != 2:
        raise DataError(f"column {column.name!r} is declared binary, but has {len(np.unique(values))} values")
    if column.is_closed:
        off = np.abs(values - column.on_support(values)) > slack
        if off.any():
            raise DataError(
                f"column {column.name!r} has {float(values[off][0]):.12g}, which is none of its declared values "
                f"({', '.join(f'{value:.12g}' for value in column.values[:MOST_VALUES])})"
            )


def _with_atoms(column: Column, values: np.ndarray, counts: Counts, *, is_recognised: bool) -> Column:
    """The column rounded where rows of a continuous column lie on a declared bound.

    A share of the rows on one point is an atom, whose density is infinite, and in the logarithmic coordinate of a bound
    even a single row on it is infinitely far out. Such a column is rounded to a width of its spread times that share, at
    most :data:`ATOM_SHARE` of the spread: rows on the bound then fill the first cell, whose density is moderate. The grid
    through a bound takes the place of one that was recognised by atoms elsewhere, since a bound must be a point of it.
    """
    on_bound = (values == column.lower) | (values == column.upper)
    if column.width and not (on_bound.any() and is_recognised and _misses_grid(column, values)):
        return column
    if not on_bound.any():
        return column
    count = (values.min() == column.lower) * counts.num_least + (values.max() == column.upper) * counts.num_largest
    share = count / counts.num_values
    width = atom_width(share, values[~on_bound]) or float(f"{min(share, ATOM_SHARE) * np.ptp(values):.0e}")
    bound = column.lower if column.lower > -math.inf else column.upper
    if column.lower > -math.inf and column.upper < math.inf:  # both ends are points of the grid
        width = (column.upper - column.lower) / math.ceil((column.upper - column.lower) / width)
    warnings.warn(
        f"column {column.name!r}: {count} rows ({share:.2g} of all) lie on a bound, where a density "
        f"would be infinite. The column is rounded to {width:g}, so that they fill one cell; declare a width to change it",
        DataWarning,
        stacklevel=4,
    )
    return dataclasses.replace(column, kind="rounded", width=width, offset=float(bound))
