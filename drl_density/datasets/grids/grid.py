"""Grids through values: decimal ones, those of whole numbers, and those of the gaps between neighbours."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from drl_density.datasets.column import LARGEST_EXACT, SINGLE_ROUNDING

MOST_OFF_GRID = 0.02
"""Largest share of values that may miss a recognised grid: our own choice."""

DISTINCT = 0.6
"""Share of distinct values above which values hardly repeat: our own choice."""

FINEST = 15
"""Decimal places below the leading digit of a column's range down to which a grid is looked for: those of float64."""


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


def _whole_grid(distinct: np.ndarray) -> Grid:
    """The grid through whole numbers by their greatest common divisor, exact up to 2^53."""
    whole = distinct.astype(np.int64)
    common = int(np.gcd.reduce(np.diff(whole)))
    return Grid(float(common), float(whole[0] % common))


def is_whole(values: np.ndarray) -> bool:
    """Whether all values are whole numbers that float64 holds exactly; larger ones are whole for want of digits."""
    return bool(np.all(values == np.round(values)) and np.abs(values).max() < LARGEST_EXACT)


def decimal_grid(values: np.ndarray, distinct: np.ndarray) -> Grid | None:
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
    return _whole_grid(distinct) if is_whole(distinct) else None


def _in_units(values: np.ndarray, exponent: int) -> np.ndarray:
    """``values`` in units of ten to the ``exponent``; positive powers of ten up to the 22nd are exact in float64."""
    factor = 10.0 ** min(abs(exponent), 300)
    rest = 10.0 ** (abs(exponent) - min(abs(exponent), 300))
    return values / factor / rest if exponent > 0 else values * factor * rest


def gap_grid(values: np.ndarray, width: float) -> Grid:
    """The grid of spacing ``width`` through most values."""
    places, counts = np.unique(np.round(np.mod(values, width) / width, 6) % 1.0, return_counts=True)
    return Grid(width, float(f"{places[counts.argmax()] * width:.6g}"))
