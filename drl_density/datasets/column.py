"""One column of a table: its kind, its grid or its closed support, and its bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from drl_density.errors import DataError

KINDS = ("continuous", "rounded", "integer", "binary", "categorical")
"""Kinds of columns."""

MOST_SHOWN = 20
"""Values of a closed support that a description lists: as many as a recognised support has at most."""

LARGEST_EXACT = 2.0**53
"""Whole numbers below it are exact in float64."""

SHARE_OFF_GRID = 1e-6
"""Share of a width by which a bound may miss a point of the grid and still include it: above rounding of decimals."""

SINGLE_ROUNDING = 2.0**-23
"""Relative error of a number that was stored in float32."""

Values = TypeVar("Values", Tensor, np.ndarray)


@dataclass(frozen=True)
class Column:
    """Recognised or declared properties of one column.

    The support of a column is one of three. It is *closed* where ``values`` lists every permitted value: any other value
    has density 0, and each permitted one is spread over its cell, value +- width / 2. It is an *open grid* where
    ``width`` alone is positive: whole multiples of the width, within the bounds. Else it is an interval.

    Attributes:
        name: name of the column in its file.
        kind: "continuous", "rounded", "integer", "binary" or "categorical".
        width: spacing of the grid that all values lie on, and width of the cells; 0 for a continuous column.
        lower: declared lower bound, or -inf without one.
        upper: declared upper bound, or inf without one.
        is_positive: whether all values are above zero.
        categories: labels behind the codes 0, 1, ... of a text column, which are its values; None for numbers.
        piles: least and largest value, each only if at least 2 % of the rows and 5 rows equal it: a sign of a bound.
        offset: origin of the grid, whose values are ``offset`` plus whole multiples of ``width``.
        values: every permitted value of a closed support, ascending, in data units; empty for an open one.
        storage: type in which a table holds the values: "float64", "float32", "int64", "bool", "string", "category", ...

    Raises:
        DataError: a closed support that is not ascending or has no cells.

    >>> Column("age", "integer", 1.0, lower=0.0).describe()
    'age: integer, grid 1; bounds (0, inf); dequantised'
    >>> Column("stars", "integer", 1.0, values=(1.0, 2.0, 5.0)).describe()
    'stars: integer, grid 1; only the values 1, 2, 5; dequantised'
    """

    name: str
    kind: str = "continuous"
    width: float = 0.0
    lower: float = -math.inf
    upper: float = math.inf
    is_positive: bool = False
    categories: tuple[str, ...] | None = None
    piles: tuple[float, ...] = ()
    offset: float = 0.0
    values: tuple[float, ...] = ()
    storage: str = "float64"

    def __post_init__(self) -> None:
        values = self.values
        if self.categories is not None and not values:
            values = range(len(self.categories))
            object.__setattr__(self, "width", self.width or 1.0)
        object.__setattr__(self, "values", tuple(float(value) for value in values))
        if not self.values:
            return
        if not self.width > 0:
            raise DataError(f"column {self.name!r}: a list of values needs a positive width, got {self.width:g}")
        gaps = np.diff(self.values)
        if not (np.isfinite(self.values).all() and (gaps > 0).all()):
            raise DataError(f"column {self.name!r}: values must be finite and ascending, got {self.values}")
        if len(gaps) and gaps.min() < self.width * (1 - SHARE_OFF_GRID):
            raise DataError(
                f"column {self.name!r}: its values lie {gaps.min():g} apart, so cells of width {self.width:g} overlap; "
                "declare a smaller width"
            )

    def on_support(self, values: Values, *, inside: tuple[float, float] = (-math.inf, math.inf)) -> Values:
        """The nearest permitted value of each of ``values``, to the last digit; NaN stays NaN.

        The values of a closed support are taken from its list, those of an open grid are multiples of its width within the
        bounds, and those of a continuous column are moved to a bound that they cross. The limits of the type in which the
        table holds the column are bounds here too: a column of uint8 has no value below 0 or above 255.

        Args:
            values: numbers in data units.
            inside: ends of an open interval that holds at least one value of an open grid; values outside it are not
                permitted either. A density of counts above 0 whose coordinate is their logarithm is zero at 0.

        >>> Column("x", "integer", 2.0, offset=1.0).on_support(torch.tensor([0.3, 1.6, 2.4]))
        tensor([1., 1., 3.])
        >>> Column("x", "integer", 1.0, values=(1.0, 2.0, 5.0)).on_support(torch.tensor([-7.0, 3.4, 3.6]))
        tensor([1., 2., 5.])
        >>> Column("n", "integer", 1.0).on_support(torch.tensor([0.3, 1.6]), inside=(0.0, math.inf))
        tensor([1., 2.])
        """
        if isinstance(values, Tensor):
            found = self._nearest(values.detach().cpu().double().numpy(), inside)
            return torch.as_tensor(found).to(values)
        return self._nearest(np.asarray(values, dtype=np.float64), inside)

    def _nearest(self, x: np.ndarray, inside: tuple[float, float]) -> np.ndarray:
        if self.values:
            support = np.asarray(self.values)
            middles = support[:-1] + 0.5 * np.diff(support)
            return np.where(np.isnan(x), x, support[np.searchsorted(middles, x, side="right")])
        least, largest = _limits(self.storage)
        if not self.width:
            return np.minimum(np.maximum(x, max(self.lower, least)), min(self.upper, largest))
        first, last = self._steps_within(max(self.lower, least), min(self.upper, largest))
        # A point of the grid on an end of the open interval lies outside it.
        first = max(first, float(np.floor((inside[0] - self.offset) / self.width + SHARE_OFF_GRID)) + 1)
        last = min(last, float(np.ceil((inside[1] - self.offset) / self.width - SHARE_OFF_GRID)) - 1)
        steps = np.minimum(np.maximum(np.round((x - self.offset) / self.width), first), last)
        return _grid_values(steps, self.width, self.offset)

    def has(self, values: Tensor) -> Tensor:
        """Whether a closed support permits each of ``values``, up to float32's rounding.

        NaN counts as permitted, and every value does where the support is open.

        >>> Column("x", "integer", 1.0, values=(1.0, 2.0, 5.0)).has(torch.tensor([2.0, 2.3, torch.nan]))
        tensor([ True, False,  True])
        """
        slack = SHARE_OFF_GRID * self.width + SINGLE_ROUNDING * abs(values) if self.values else math.inf
        return ~(abs(values - self.on_support(values)) > slack)

    @property
    def steps(self) -> tuple[float, float]:
        """First and last multiple of the width within the declared bounds of an open grid; infinite without one."""
        return self._steps_within(self.lower, self.upper)

    def _steps_within(self, lower: float, upper: float) -> tuple[float, float]:
        first = (lower - self.offset) / self.width
        last = (upper - self.offset) / self.width
        # ceil and floor keep infinite ends as they are in numpy
        return float(np.ceil(first - SHARE_OFF_GRID)), float(np.floor(last + SHARE_OFF_GRID))

    @property
    def cell_ends(self) -> tuple[float, float]:
        """Ends between which dequantised values lie: the outer ends of the outer cells, or the bounds themselves.

        >>> Column("age", "integer", 1.0, lower=0.0).cell_ends
        (-0.5, inf)
        """
        if not self.width:
            return self.lower, self.upper
        half = 0.5 * self.width
        if self.values:
            return self.values[0] - half, self.values[-1] + half
        ends = _grid_values(np.array(self.steps), self.width, self.offset)
        return float(ends[0]) - half, float(ends[1]) + half

    @property
    def is_closed(self) -> bool:
        """Whether the permitted values are listed, so that any other value has density 0."""
        return bool(self.values)

    @property
    def is_discrete(self) -> bool:
        """Whether the values have probabilities instead of a density: counts, yes or no, labels, and closed supports."""
        return self.kind in ("integer", "binary", "categorical") or self.is_closed

    @property
    def is_label(self) -> bool:
        """Whether the values are yes or no, or labels, so that only whole cells of the grid have a meaning."""
        return self.kind in ("binary", "categorical")

    @property
    def first_labels(self) -> str:
        """The first labels in the order of their codes, for messages; "" for numbers.

        >>> Column("size", "categorical", 1.0, categories=("S", "M", "L")).first_labels
        'S, M, L'
        """
        known = self.categories or ()
        return ", ".join(known[:4]) + (", ..." if len(known) > 4 else "")

    def describe(self) -> str:
        """One line with the kind, the grid, the bounds or the permitted values, and the treatment of the column."""
        parts = [self.kind if not self.width else f"{self.kind}, grid {self.width:g}"]
        if self.lower > -math.inf or self.upper < math.inf:
            parts.append(f"bounds ({self.lower:g}, {self.upper:g})")
        elif self.is_positive and not self.is_closed:
            parts.append("positive")
        piles = [f"{value:g}" for value in self.piles if value not in (self.lower, self.upper)]
        if piles and not self.is_discrete:
            parts.append(f"rows pile up at {', '.join(piles)}: declare a bound if it is one")
        if self.categories is not None:
            parts.append(f"labels {', '.join(self.categories)}")
        elif self.values:
            shown = ", ".join(f"{value:.12g}" for value in self.values[:MOST_SHOWN])
            more = f" and {len(self.values) - MOST_SHOWN} more" if len(self.values) > MOST_SHOWN else ""
            parts.append(f"only the values {shown}{more}")
        if self.width:
            parts.append("dequantised")
        return f"{self.name}: {'; '.join(parts)}"


def _limits(storage: str) -> tuple[float, float]:
    """Least and largest value of a type of whole numbers; infinite for every other one, and where float64 is coarser."""
    if not storage.startswith(("int", "uint")):
        return -math.inf, math.inf
    found = np.iinfo(storage)
    largest = float(found.max) if found.max < LARGEST_EXACT else math.inf
    return (float(found.min) if found.min > -LARGEST_EXACT else -math.inf), largest


def _grid_values(steps: np.ndarray, width: float, offset: float) -> np.ndarray:
    """``offset`` plus ``steps`` widths, correctly rounded where both are decimals: 3 steps of 0.1 are 0.3."""
    plain = steps * width + offset + 0.0  # adding 0 turns -0 into 0
    spacing, origin = Decimal(repr(width)).normalize(), Decimal(repr(offset)).normalize()
    exponent = min(0, *(int(part.as_tuple().exponent) for part in (spacing, origin)))
    if not exponent:
        return plain
    whole = steps * float(spacing.scaleb(-exponent)) + float(origin.scaleb(-exponent))
    is_exact = np.abs(whole) < LARGEST_EXACT
    if not is_exact.any():
        return plain
    if exponent >= -22:  # powers of ten up to 1e22 are exact, so one division rounds correctly
        return np.where(is_exact, whole / 10.0**-exponent + 0.0, plain)
    distinct, places = np.unique(whole[is_exact], return_inverse=True)
    plain[is_exact] = np.array([float(f"{int(value)}e{exponent}") for value in distinct])[places.reshape(-1)]
    return plain + 0.0
