"""Recognises the kind, grid and bounds of every column."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from drl_density.datasets.column import LARGEST_EXACT, SHARE_OFF_GRID, SINGLE_ROUNDING, Column
from drl_density.datasets.tables.declared import check_declared
from drl_density.errors import DataError, DataWarning

LEAST_PILE = 5
"""Fewest rows at an end of a column that count as a pile: our own choice, enough to rule out chance repeats."""

MOST_VALUES, ROWS_PER_VALUE = 20, 10
"""Most distinct numbers of a recognised closed support, and fewest rows for each of them on average: our own choice."""

MOST_OFF_GRID = 0.02
"""Largest share of values that may miss a recognised grid: our own choice."""

FINEST = 15
"""Decimal places below the leading digit of a column's range down to which a grid is looked for: those of float64."""

LEAST_ROOM, LEAST_CELL = 2.0**12, 2.0**10
"""Distinct float64 numbers that a column's range, and a cell of a closed support, must hold to keep noise and draws."""

ATOM_SHARE = 0.01
"""Largest width, as a share of a column's spread, at which a column with rows on a bound is rounded: our own choice."""


class Grid(NamedTuple):
    """A grid of values, ``offset`` plus whole multiples of ``width``; a width of 0 means no grid."""

    width: float
    offset: float


class Counts(NamedTuple):
    """Counts over a whole column, of which the values at hand may be a sample that shows everything rare.

    Attributes:
        num_values: values that are not missing.
        num_distinct: distinct values.
        num_least: values that equal the least.
        num_largest: values that equal the largest.
    """

    num_values: int
    num_distinct: int
    num_least: int
    num_largest: int

    @classmethod
    def of(cls, values: np.ndarray) -> Counts:
        """The counts of ``values`` themselves, which are not empty."""
        least, largest = values.min(), values.max()
        return cls(len(values), len(np.unique(values)), int((values == least).sum()), int((values == largest).sum()))


def find_grid(values: np.ndarray, counts: Counts | None = None) -> Grid:
    """The coarsest decimal grid that holds at least 98 % of the values, or width 0 for a continuous column.

    A column counts as rounded when fewer than 60 % of its values are distinct, or when all are whole numbers. Repeated
    values that lie on no decimal grid get the median gap between neighbours. Grids are looked for from the range of the
    values downwards, so that a change of unit by a power of ten changes the grid by the same factor.

    Args:
        values: finite values.
        counts: counts of the whole column where ``values`` are a sample of it.

    >>> find_grid(np.repeat([1.1, 1.2, 1.4], 10))
    Grid(width=0.1, offset=0.0)
    """
    distinct = np.unique(values)
    num_values, num_distinct = (len(values), len(distinct)) if counts is None else counts[:2]
    if len(distinct) < 2 or (num_distinct > 0.6 * num_values and not _is_whole(values)):
        return Grid(0.0, 0.0)
    gap = float(np.median(np.diff(distinct)))
    return _decimal_grid(values, distinct) or _atom_grid(values) or _gap_grid(values, gap)


def _whole_grid(distinct: np.ndarray) -> Grid:
    """The grid through whole numbers by their greatest common divisor, exact up to 2^53."""
    whole = distinct.astype(np.int64)
    common = int(np.gcd.reduce(np.diff(whole)))
    return Grid(float(common), float(whole[0] % common))


def _is_whole(values: np.ndarray) -> bool:
    """Whether all values are whole numbers that float64 holds exactly; larger ones are whole for want of digits."""
    return bool(np.all(values == np.round(values)) and np.abs(values).max() < LARGEST_EXACT)


def _decimal_grid(values: np.ndarray, distinct: np.ndarray) -> Grid | None:
    """The coarsest decimal grid through 98 % of the values that keeps nearly all distinct ones apart."""
    largest = float(np.abs(distinct).max())
    # Numbers that were stored in float32 miss a decimal grid by that type's rounding.
    is_single = largest < 1e38 and bool(np.all(distinct == distinct.astype(np.float32)))
    rounding = SINGLE_ROUNDING if is_single else 2.0**-50
    top = math.floor(math.log10(float(distinct[-1] - distinct[0]))) + 1
    for exponent in range(top, top - FINEST - 1, -1):
        steps = _in_units(values, exponent)
        slack = rounding * np.abs(steps)
        if slack.max() > 0.05:
            break
        whole = np.round(steps)
        on_grid = np.abs(steps - whole) < 1e-6 + slack
        if on_grid.mean() < 1 - MOST_OFF_GRID or len(np.unique(whole)) < 0.9 * len(distinct):
            continue
        places = np.unique(whole[on_grid]).astype(np.int64)
        common = max(int(np.gcd.reduce(np.diff(places))), 1)
        starts, counts = np.unique(whole[on_grid].astype(np.int64) % common, return_counts=True)
        return Grid(float(f"{common}e{exponent}"), float(f"{int(starts[counts.argmax()])}e{exponent}"))
    return _whole_grid(distinct) if _is_whole(distinct) else None


def _in_units(values: np.ndarray, exponent: int) -> np.ndarray:
    """``values`` in units of ten to the ``exponent``; positive powers of ten up to the 22nd are exact in float64."""
    factor = 10.0 ** min(abs(exponent), 300)
    rest = 10.0 ** (abs(exponent) - min(abs(exponent), 300))
    return values / factor / rest if exponent > 0 else values * factor * rest


def _atom_grid(values: np.ndarray) -> Grid | None:
    """The grid through one frequent value among others that hardly repeat, such as the zeros of amounts; else None."""
    distinct, repeats = np.unique(values, return_counts=True)
    atom = float(distinct[repeats.argmax()])
    others = values[values != atom]
    if len(distinct) - 1 <= 0.6 * len(others):
        return None
    width = _atom_width(1 - len(others) / len(values), others)
    return Grid(width, math.fmod(atom, width)) if width else None


def _atom_width(share: float, others: np.ndarray) -> float:
    """The width of cells in which a share of all rows on one point has a moderate density next to the other values."""
    if not len(others):
        return 0.0
    spread = float(np.subtract(*np.quantile(others, [0.75, 0.25]))) or float(np.ptp(others))
    return float(f"{min(share, ATOM_SHARE) * spread:.0e}")


def _gap_grid(values: np.ndarray, width: float) -> Grid:
    """The grid of spacing ``width`` through most values."""
    places, counts = np.unique(np.round(np.mod(values, width) / width, 6) % 1.0, return_counts=True)
    return Grid(width, float(f"{places[counts.argmax()] * width:.6g}"))


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
        advice = f"Leave them out with drop={constant} (--drop {' '.join(constant)})"
        raise DataError(f"constant columns have no density: {', '.join(constant)}. {advice}")
    found = []
    for index, name in enumerate(names):
        seen, declared = _seen(values[:, index]), overrides.get(name, {})
        _refuse_overflow(name, seen)
        counted = (counts or {}).get(name) or Counts.of(seen)
        column = _notice(seen, counted, name, categories.get(name), storages.get(name, "float64"))
        column = _bounded_at_zero(_declare(column, seen, counted, declared), seen, counted, declared)
        _check_values(column, seen)
        if "width" not in declared:
            _warn_of_rounding(column, seen)
        found.append(_with_atoms(column, seen, counted))
    return tuple(found)


def _warn_of_rounding(column: Column, values: np.ndarray) -> None:
    """Warns of a grid that many of the values miss, because they repeat on none; draws lie on it, and they do not."""
    if column.is_closed or not column.width:
        return
    slack = SHARE_OFF_GRID * column.width + SINGLE_ROUNDING * np.abs(values)
    off = np.abs(values - column.on_support(values)) > slack
    if off.mean() > MOST_OFF_GRID:
        repeated, counts = np.unique(values, return_counts=True)
        warnings.warn(
            f"column {column.name!r}: values repeat ({repeated[counts.argmax()]:.12g} in {counts.max()} of {len(values)} "
            f"rows), which would be spikes of the density, but they lie on no grid. The column is rounded to "
            f"{column.width:g}, and so are its draws; declare a width to change it",
            DataWarning,
            stacklevel=4,
        )


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
    if len(distinct) == 2:
        width, offset = _decimal_grid(values, distinct) or _gap_grid(values, float(distinct[1] - distinct[0]))
    support: tuple[float, ...] = ()
    if len(distinct) == 2 or 2 < len(distinct) <= min(MOST_VALUES, counts.num_values / ROWS_PER_VALUE):
        support = tuple(distinct.tolist())
        width = _cell_width(distinct, width)
    at_ends = {float(distinct[0]): counts.num_least, float(distinct[-1]): counts.num_largest}
    piles = tuple(end for end, count in at_ends.items() if count >= max(LEAST_PILE, 0.02 * counts.num_values))
    kind = "binary" if len(distinct) == 2 else _grid_kind(values, width)
    is_positive = bool(values.min() > 0)
    return Column(
        name, kind, width, is_positive=is_positive, piles=piles, offset=offset, values=support, storage=storage
    )


def _grid_kind(values: np.ndarray, width: float) -> str:
    if width >= 1 and _is_whole(values):
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
        grid = _decimal_grid(support, support) if len(support) > 1 else None
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
    warnings.warn(
        f"column {column.name!r}: {counts.num_least} of {counts.num_values} values are exactly 0 and none is below, so 0 is "
        f"taken as its lower bound, and no draw lies below; declare 'lower': -inf (--bounds {column.name}=-inf:) where "
        "values below 0 are possible",
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


def _with_atoms(column: Column, values: np.ndarray, counts: Counts) -> Column:
    """The column rounded where rows of a continuous column lie on a declared bound.

    A share of the rows on one point is an atom, whose density is infinite, and in the logarithmic coordinate of a bound
    even a single row on it is infinitely far out. Such a column is rounded to a width of its spread times that share, at
    most :data:`ATOM_SHARE` of the spread: rows on the bound then fill the first cell, whose density is moderate.
    """
    on_bound = (values == column.lower) | (values == column.upper)
    if column.width or not on_bound.any():
        return column
    count = (values.min() == column.lower) * counts.num_least + (values.max() == column.upper) * counts.num_largest
    share = count / counts.num_values
    width = _atom_width(share, values[~on_bound]) or float(f"{min(share, ATOM_SHARE) * np.ptp(values):.0e}")
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
