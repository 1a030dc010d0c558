"""A loaded data set and its columns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from drl_density.datasets.splits import Parts
from drl_density.errors import DataError
from drl_density.records.brief import brief

KINDS = ("continuous", "rounded", "integer", "binary", "categorical")
"""Kinds of columns."""

MOST_LINES = 20
"""Columns that a summary lists, so that it fits on a screen."""


Values = TypeVar("Values", Tensor, np.ndarray)


@dataclass(frozen=True)
class Column:
    """Recognised or declared properties of one column.

    Attributes:
        name: name of the column in its file.
        kind: "continuous", "rounded", "integer", "binary" or "categorical".
        width: spacing of the grid that all values lie on; 0 for a continuous column.
        lower: declared lower bound, or -inf without one.
        upper: declared upper bound, or inf without one.
        is_positive: whether all values are above zero.
        categories: labels behind the codes 0, 1, ... of a text column; None for numbers.
        piles: least and largest value, each only if at least 2 % of the rows and 5 rows equal it: a sign of a bound.
        offset: origin of the grid, whose values are ``offset`` plus whole multiples of ``width``.

    >>> Column("age", "integer", 1.0, lower=0.0).describe()
    'age: integer, grid 1; bounds (0, inf); dequantised'
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

    def on_grid(self, values: Values) -> Values:
        """Rounds ``values`` to the grid; a column without a grid leaves them unchanged.

        >>> Column("x", "integer", 2.0, offset=1.0).on_grid(torch.tensor([0.3, 1.6, 2.4]))
        tensor([1., 1., 3.])
        """
        return ((values - self.offset) / self.width).round() * self.width + self.offset if self.width else values

    @property
    def is_discrete(self) -> bool:
        """Whether the values have probabilities instead of a density: counts, yes or no, and labels."""
        return self.kind in ("integer", "binary", "categorical")

    @property
    def is_label(self) -> bool:
        """Whether the values are yes or no, or labels, so that only whole cells of the grid have a meaning."""
        return self.kind in ("binary", "categorical")

    def describe(self) -> str:
        """One line with the kind, the grid, the bounds and the treatment of the column."""
        parts = [self.kind if not self.width else f"{self.kind}, grid {self.width:g}"]
        if self.lower > -math.inf or self.upper < math.inf:
            parts.append(f"bounds ({self.lower:g}, {self.upper:g})")
        elif self.is_positive:
            parts.append("positive")
        if self.piles and not self.is_discrete:
            parts.append(
                f"rows pile up at {', '.join(f'{value:g}' for value in self.piles)}: declare a bound if it is one"
            )
        if self.categories is not None:
            parts.append(f"labels {', '.join(self.categories)}")
        if self.width:
            parts.append("dequantised")
        return f"{self.name}: {'; '.join(parts)}"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows in data units, split into training, validation and test rows.

    Attributes:
        name: short name that reports show.
        train: training rows ``(rows, d)``, float64 with NaN for missing values; 8-bit images stay uint8.
        validation: validation rows in the same form.
        test: test rows in the same form.
        columns: one record per column, in order.
        event_shape: shape of one point, with d elements in total.
        weights: relative weights of the training rows, ``(rows,)``, or None.
        source: name or path from which it can be loaded again, or "" for arrays in memory.
        loading: arguments of :func:`load_dataset` that made these rows and this split from ``source``.
        known_log_density: normalised log density of a toy system, or None.
        labels: class labels of the training, validation and test rows if the source had any; not modelled by default.
        validation_weights: relative weights of the validation rows, or None.

    >>> from drl_density.datasets import load_dataset
    >>> data = load_dataset("banana", seed=0, num_rows=100)
    >>> len(data.train), data.num_columns, data.has_missing_values
    (80, 2, False)
    >>> data.log_density(data.test).shape
    torch.Size([10])
    """

    name: str
    train: Tensor
    validation: Tensor
    test: Tensor
    columns: tuple[Column, ...]
    event_shape: tuple[int, ...]
    weights: Tensor | None = None
    source: str = ""
    loading: dict[str, Any] = field(default_factory=dict)
    known_log_density: Callable[[Tensor], Tensor] | None = None
    labels: Parts[Tensor] | None = None
    validation_weights: Tensor | None = None

    __repr__ = brief

    @property
    def is_images(self) -> bool:
        """Whether the rows are 8-bit images, whose ``event_shape`` is (channels, height, width)."""
        return self.train.dtype == torch.uint8

    @property
    def has_missing_values(self) -> bool:
        """Whether any row has a missing value."""
        if not self.train.is_floating_point():
            return False
        return any(bool(rows.isnan().any()) for rows in (self.train, self.validation, self.test))

    @property
    def num_columns(self) -> int:
        """Number d of columns."""
        return self.train.shape[1]

    @property
    def likelihood_label(self) -> str:
        """Kind of a reported likelihood: of rows, of dequantised rows, or a bound for discrete columns."""
        suffix = " of observed values" if self.has_missing_values else ""
        if any(column.is_discrete for column in self.columns):
            return f"lower bound for discrete columns (uniform dequantisation){suffix}"
        if any(column.width for column in self.columns):
            return f"density of dequantised values{suffix}"
        return f"density{suffix}"

    def log_density(self, x: Tensor) -> Tensor:
        """Exact log density of rows ``x`` ``(n, d)`` in data units, nats, ``(n,)``.

        Raises:
            DataError: for real data, whose density is unknown.
        """
        if self.known_log_density is None:
            raise DataError(f"the density of {self.name!r} is not known; only toys have one, such as 'eight_gaussians'")
        return self.known_log_density(x)

    def describe(self) -> str:
        """Summary for a reader: sizes, and one line per column up to a limit."""
        sizes = f"{len(self.train)} training, {len(self.validation)} validation, {len(self.test)} test rows"
        if self.is_images:
            channels, height, width = self.event_shape
            return f"{self.name}: {sizes} of 8-bit images {width}x{height}x{channels}; {self.likelihood_label}"
        lines = [f"{self.name}: {sizes}, {self.num_columns} columns; likelihood: {self.likelihood_label}"]
        if self.has_missing_values:
            parts = (self.train, self.validation, self.test)
            share = sum(int(rows.isnan().sum()) for rows in parts) / sum(rows.numel() for rows in parts)
            complete = [int((~rows.isnan().any(1)).sum()) for rows in parts]
            lines.append(f"  missing values: {share:.1%}; {' + '.join(map(str, complete))} rows are complete")
        lines += [f"  {column.describe()}" for column in self.columns[:MOST_LINES]]
        if self.num_columns > MOST_LINES:
            lines.append(f"  ... and {self.num_columns - MOST_LINES} more columns")
        return "\n".join(lines)
