"""Exact statistics of one column of numbers from chunks of its values, in bounded memory.

Everything that a rare value can change is exact: counts, ends, signs, whole numbers, decimal places, common factors, and
the distinct values as long as there are few. The number of many distinct values is estimated from the smallest hashes
(Bar-Yossef et al. 2002) with a relative error of about 1.6 %.
"""

from __future__ import annotations

import math

import numpy as np

from drl_density.datasets.large.hashing import mix, unit_interval

MOST_DISTINCT = 100
"""Distinct values that are kept, far more than a column with a closed support has; above, their number is estimated."""

NUM_HASHES = 4096
"""Smallest hashes that are kept, which gives the number of distinct values to 1 / sqrt(4096)."""

NUM_PLACES = 13
"""Decimal places below a column's largest value that are distinguished; float64 has hardly more."""

OFF_GRID = -999
"""Stands for the exponent of a value that is on no decimal grid."""


class ColumnSummary:
    """Running statistics of one column.

    Attributes:
        num_values: finite values seen.
        num_missing: missing values seen.
        least: least value, inf before any.
        largest: largest value, -inf before any.
        num_least: values that equal the least.
        num_largest: values that equal the largest.
        distinct: distinct values, or None once there are more than :data:`MOST_DISTINCT`.

    >>> summary = ColumnSummary()
    >>> summary.add(np.array([2.0, 4.0, np.nan, 2.0, 7.0]))
    [0, 1, 4]
    >>> summary.num_values, summary.num_missing, summary.least, summary.num_least
    (4, 1, 2.0, 2)
    """

    def __init__(self) -> None:
        self.num_values, self.num_missing = 0, 0
        self.least, self.largest = math.inf, -math.inf
        self.num_least, self.num_largest = 0, 0
        self.distinct: set[float] | None = set()
        self._hashes = np.empty(0, dtype=np.uint64)
        self._top: int | None = None
        self._references: dict[int, int] = {}
        self._factors: dict[int, int] = {}

    @property
    def num_distinct(self) -> int:
        """Number of distinct values: exact while they are kept, else estimated."""
        if self.distinct is not None:
            return len(self.distinct)
        if len(self._hashes) < NUM_HASHES:
            return len(self._hashes)
        return round((NUM_HASHES - 1) / float(unit_interval(self._hashes[-1:])[0]))

    def add(self, values: np.ndarray) -> list[int]:
        """Add the next values ``(n,)``, float64 with NaN for missing ones.

        Returns:
            Indices of witnesses: few values that show every end, distinct value, number of decimal places and common factor
            which the values before did not show.
        """
        is_finite = np.isfinite(values)
        self.num_missing += int(np.isnan(values).sum())
        kept = values[is_finite] + 0.0  # minus zero becomes zero
        if not len(kept):
            return []
        self.num_values += len(kept)
        witnesses = self._add_ends(kept) | self._add_distinct(kept) | self._add_places(kept)
        return sorted(is_finite.nonzero()[0][sorted(witnesses)].tolist())

    def _add_ends(self, values: np.ndarray) -> set[int]:
        witnesses: set[int] = set()
        least, largest = float(values.min()), float(values.max())
        if least < self.least:
            self.least, self.num_least = least, 0
            witnesses.add(int(values.argmin()))
        if largest > self.largest:
            self.largest, self.num_largest = largest, 0
            witnesses.add(int(values.argmax()))
        self.num_least += int((values == self.least).sum()) if least == self.least else 0
        self.num_largest += int((values == self.largest).sum()) if largest == self.largest else 0
        return witnesses

    def _add_distinct(self, values: np.ndarray) -> set[int]:
        hashes = mix(values.view(np.uint64) + np.uint64(1))
        if len(self._hashes) == NUM_HASHES:
            hashes = hashes[hashes < self._hashes[-1]]
        if len(hashes):
            self._hashes = np.unique(np.concatenate([self._hashes, hashes]))[:NUM_HASHES]
        witnesses: set[int] = set()
        if self.distinct is None:
            return witnesses
        found, places = np.unique(values, return_index=True)
        for value, place in zip(found.tolist(), places.tolist(), strict=True):
            if value not in self.distinct:
                if len(self.distinct) == MOST_DISTINCT:
                    self.distinct = None
                    break
                self.distinct.add(value)
                witnesses.add(place)
        return witnesses

    def _add_places(self, values: np.ndarray) -> set[int]:
        if self._top is None:
            largest = float(np.abs(values).max())
            if not largest:  # zeros are on every grid
                return set()
            self._top = math.floor(math.log10(largest))
        exponents = decimal_exponents(values, self._top)
        witnesses: set[int] = set()
        for exponent in np.unique(exponents).tolist():
            if self._factors.get(exponent) == 1:
                continue
            own = (exponents == exponent).nonzero()[0]
            if exponent == OFF_GRID:  # one witness says all
                witnesses.add(int(own[0]))
                self._factors[exponent] = 1
            else:
                witnesses.update(own[self._add_factors(values[own], exponent)].tolist())
        return witnesses

    def _add_factors(self, values: np.ndarray, exponent: int) -> list[int]:
        """Indices of values that lower the greatest common factor of the values on the grid of that exponent."""
        scaled = np.round(_in_units(values, exponent))
        # Beyond 2^53 neighbouring whole numbers are no longer told apart, so such values have no common factor.
        if np.abs(scaled).max() >= 2.0**53:
            self._factors[exponent] = 1
            return [int(np.abs(scaled).argmax())]
        steps = scaled.astype(np.int64)
        witnesses = []
        if exponent not in self._references:
            self._references[exponent], self._factors[exponent] = int(steps[0]), 0
            witnesses.append(0)
        distances = np.abs(steps - self._references[exponent])
        while True:
            factor = self._factors[exponent]
            breaks = distances % factor != 0 if factor else distances != 0
            if not breaks.any():
                return witnesses
            first = int(breaks.argmax())
            self._factors[exponent] = math.gcd(factor, int(distances[first]))
            witnesses.append(first)


def decimal_exponents(values: np.ndarray, top: int) -> np.ndarray:
    """Largest exponent e of each value ``(n,)`` for which it is a multiple of 10^e, :data:`OFF_GRID` without one.

    Args:
        values: finite values.
        top: largest exponent to try; the least is :data:`NUM_PLACES` below.

    >>> decimal_exponents(np.array([30.0, 0.5, -2.25, np.pi]), 1).tolist()
    [1, -1, -2, -999]
    """
    # The same slack as in grids.search.find_grid: a number that was stored in float32 misses a grid by that type's rounding.
    is_single = bool(np.abs(values).max() < 1e38) and bool(np.all(values == values.astype(np.float32)))
    rounding = 2.0**-23 if is_single else 2.0**-50
    exponents = np.full(len(values), OFF_GRID)
    is_whole = values == np.round(values)
    exponents[is_whole] = min(top, 0)
    steps_up = ((~is_whole, range(top - NUM_PLACES, min(top + 1, 0))), (is_whole, range(1, top + 1)))
    for chosen, candidates in steps_up:
        rest = chosen.nonzero()[0]
        for exponent in candidates:
            # Grids are nested: a value that leaves one is on no coarser one, and most continuous values leave the first.
            steps = _in_units(values[rest], exponent)
            slack = rounding * np.abs(steps)
            is_unknown = slack > 0.05
            steps = np.where(is_unknown, 0.0, steps)
            rest = rest[is_unknown | (np.abs(steps - np.round(steps)) < 1e-6 + slack)]
            exponents[rest] = exponent
    return exponents


def _in_units(values: np.ndarray, exponent: int) -> np.ndarray:
    """``values`` in units of ten to the ``exponent``; positive powers of ten up to the 22nd are exact in float64."""
    with np.errstate(over="ignore"):  # infinite numbers of units are too many to tell a grid
        return values / float(f"1e{exponent}") if exponent > 0 else values * float(f"1e{-exponent}")
