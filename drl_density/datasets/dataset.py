"""A loaded data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from drl_density.datasets.column import Column
from drl_density.datasets.splits import Parts
from drl_density.errors import DataError
from drl_density.records.brief import brief

MOST_LINES = 20
"""Columns that a summary lists, so that it fits on a screen."""


class RowSample(NamedTuple):
    """Training rows that were drawn from a table.

    Attributes:
        rows: rows ``(n, d)`` in data units, float64 with NaN for missing values.
        weights: weights in proportion to which batches draw them, ``(n,)``, or None for rows of equal weight.
    """

    rows: Tensor
    weights: Tensor | None = None


def choose_rows(num_rows: int, count: int, weights: Tensor | None, *, generator: torch.Generator) -> Tensor:
    """Indices ``(count,)`` of rows drawn with replacement, in proportion to their weights where there are any.

    Args:
        num_rows: rows to draw from.
        count: number of indices.
        weights: positive weights ``(num_rows,)``, or None.
        generator: source of the draws.

    >>> generator = torch.Generator().manual_seed(0)
    >>> choose_rows(3, 4, torch.tensor([0.0, 1.0, 0.0]), generator=generator)
    tensor([1, 1, 1, 1])
    """
    if weights is None:
        return torch.randint(num_rows, (count,), generator=generator)
    # torch.multinomial takes 2^24 weights at most.
    ends = (weights.double() / weights.double().amax()).cumsum(0)
    places = torch.rand(count, dtype=torch.float64, generator=generator) * ends[-1]
    return torch.searchsorted(ends, places, right=True).clamp_max(num_rows - 1)  # rounding can reach the last end


class RowStream(Protocol):
    """Training rows of a table larger than memory, as successive samples.

    Without weights, samples are uniform and without replacement. With weights, each row is in a sample with the probability
    and the weight that make its expected share of the batches that of its weight.

    Attributes:
        num_rows: rows of the three parts in the whole table.
        sample_size: training rows in one sample, on average.
        digest: text that is equal for equal rows in an equal split.
        has_missing_values: whether any row of the table has a missing value.
    """

    @property
    def num_rows(self) -> Parts[int]: ...

    @property
    def sample_size(self) -> int: ...

    @property
    def digest(self) -> str: ...

    @property
    def has_missing_values(self) -> bool: ...

    def sample(self, number: int, *, is_cancelled: Callable[[], bool] = ...) -> RowSample:
        """Sample ``number`` of the training rows, about ``sample_size``; it depends on the stream and number alone.

        Args:
            number: samples 0, 1, ... use up all training rows before any row comes again.
            is_cancelled: read between chunks; once it is true, the reading ends with an error.
        """
        ...


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
        source: name or absolute path from which it can be loaded again, or "" for arrays in memory.
        loading: arguments of :func:`load_dataset` that made these rows and this split from ``source``.
        known_log_density: normalised log density of a toy system, or None.
        labels: class labels of the training, validation and test rows if the source had any; not modelled by default.
        validation_weights: relative weights of the validation rows, or None.
        stream: further samples of the training rows, or None where all rows are in memory. The three parts are then
            uniform samples of the parts in the table.

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
    stream: RowStream | None = None

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
        if self.stream is not None and self.stream.has_missing_values:
            return True
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
        held = Parts(len(self.train), len(self.validation), len(self.test))
        parts = held if self.stream is None else self.stream.num_rows
        sizes = f"{parts.train} training, {parts.validation} validation, {parts.test} test rows"
        if self.stream is not None:
            sizes += f" (uniform samples of {held.train}, {held.validation} and {held.test} in memory)"
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
