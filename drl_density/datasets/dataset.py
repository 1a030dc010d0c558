"""What a loaded data set is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from drl_density.errors import DataError

KINDS = ("continuous", "rounded", "integer", "binary", "categorical")


@dataclass(frozen=True)
class Column:
    """What was noticed, or declared, about one column.

    Attributes:
        name: as in the file.
        kind: "continuous", "rounded", "integer", "binary" or "categorical".
        width: spacing of the grid that all values sit on; 0 for a continuous column.
        offset: where the grid stands: values are ``offset`` plus whole multiples of ``width``.
        lower: declared lower bound, -inf for none.
        upper: declared upper bound, inf for none.
        is_positive: all values are above zero.
        categories: labels behind the codes 0, 1, ... of a text column.
        piles: its least or largest value where at least 2 % of the rows, and 5, sit exactly there: a sign of a bound.

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

    def on_grid(self, values: Any) -> Any:
        """``values``, an array or a tensor, moved to the nearest places of the grid; as they are in a column without one.

        >>> Column("x", "integer", 2.0, offset=1.0).on_grid(torch.tensor([0.3, 1.6, 2.4]))
        tensor([1., 1., 3.])
        """
        return ((values - self.offset) / self.width).round() * self.width + self.offset if self.width else values

    @property
    def is_discrete(self) -> bool:
        """True for counts, yes/no and labels, whose probability is a mass and not a density."""
        return self.kind in ("integer", "binary", "categorical")

    @property
    def is_label(self) -> bool:
        """True for yes/no and labels, of which only the cell as a whole means anything."""
        return self.kind in ("binary", "categorical")

    def describe(self) -> str:
        """One line: kind, grid, bounds, treatment."""
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


@dataclass(frozen=True)
class Dataset:
    """Rows in data units, split three ways.

    Attributes:
        name: short name.
        train: ``(rows, d)``, float64, NaN for holes; uint8 for 8-bit images, which are kept as they are.
        validation: likewise.
        test: likewise.
        columns: one record per column.
        event_shape: shape of one point; its number of elements is d.
        weights: of the training rows ``(rows,)``, or None.
        source: where it came from, enough to load it again, or "" for arrays in memory.
        loading: the arguments of :func:`load_dataset` that made these rows and this split from ``source``.
        known_log_density: normalised log density of a toy, or None.
        labels: integers of the (training, validation, test) rows where the source had any; never modelled by default.
        validation_weights: of the validation rows, or None.

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
    labels: tuple[Tensor, Tensor, Tensor] | None = None
    validation_weights: Tensor | None = None

    @property
    def is_images(self) -> bool:
        """True for 8-bit images, whose ``event_shape`` is (channels, height, width)."""
        return self.train.dtype == torch.uint8

    @property
    def has_missing_values(self) -> bool:
        """True when a row misses a cell."""
        if not self.train.is_floating_point():
            return False
        return any(bool(rows.isnan().any()) for rows in (self.train, self.validation, self.test))

    @property
    def num_columns(self) -> int:
        """d."""
        return self.train.shape[1]

    @property
    def likelihood_label(self) -> str:
        """What a reported likelihood is of: rows, dequantised rows, or a bound for discrete columns."""
        suffix = " of observed cells" if self.has_missing_values else ""
        if any(column.is_discrete for column in self.columns):
            return f"lower bound for discrete columns (uniform dequantisation){suffix}"
        if any(column.width for column in self.columns):
            return f"density of dequantised values{suffix}"
        return f"density{suffix}"

    def log_density(self, x: Tensor) -> Tensor:
        """Known log density of rows ``(n, d)``.

        Args:
            x: in data units.

        Raises:
            DataError: for real data, whose density nobody knows.
        """
        if self.known_log_density is None:
            raise DataError(f"the density of {self.name!r} is not known; only toys have one, such as 'eight_gaussians'")
        return self.known_log_density(x)

    def describe(self) -> str:
        """Readable summary: sizes, and one line per column (the first 20)."""
        sizes = f"{len(self.train)} training, {len(self.validation)} validation, {len(self.test)} test rows"
        if self.is_images:
            channels, height, width = self.event_shape
            return f"{self.name}: {sizes} of 8-bit images {width}x{height}x{channels}; {self.likelihood_label}"
        lines = [f"{self.name}: {sizes}, {self.num_columns} columns; likelihood: {self.likelihood_label}"]
        if self.has_missing_values:
            parts = (self.train, self.validation, self.test)
            share = sum(int(rows.isnan().sum()) for rows in parts) / sum(rows.numel() for rows in parts)
            complete = [int((~rows.isnan().any(1)).sum()) for rows in parts]
            lines.append(f"  holes: {share:.1%} of the cells; {' + '.join(map(str, complete))} rows are complete")
        lines += [f"  {column.describe()}" for column in self.columns[:20]]
        if self.num_columns > 20:
            lines.append(f"  ... and {self.num_columns - 20} more columns")
        return "\n".join(lines)
