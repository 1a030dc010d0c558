"""A data set together with its way into model space, and with the fixed bases fitted there."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from drl_density.bases import Base
from drl_density.bases.autoregressive import image_shape
from drl_density.bases.fitting import DrawRows, GreyLevels
from drl_density.datasets import Dataset, choose_transform
from drl_density.datasets.dataset import choose_rows
from drl_density.density.fitting.bases import (
    MOST_FACTOR_ROWS,
    NO_FLOW,
    ChosenBases,
    ReferenceTime,
    choose_bases,
    choose_factors,
)
from drl_density.density.fitting.completions import HeldOut, complete, weigh_completions
from drl_density.density.fitting.references import choose_pixels
from drl_density.errors import DataError
from drl_density.transforms import DataTransform, Dequantization, GridHistograms


@dataclass(frozen=True)
class Table:
    """A data set together with its way into model space.

    Attributes:
        dataset: Train, validation and test rows in data units.
        transform: Transform from data to model space.
        dequantization: Uniform noise of each column's rounding width, or None where no column is rounded.
    """

    dataset: Dataset
    transform: DataTransform
    dequantization: Dequantization | None

    @cached_property
    def medians(self) -> Tensor:
        """Median of each column ``(d,)``, which fills a missing value until it is drawn."""
        return self.dataset.train.nanmedian(0).values

    def describe(self) -> str:
        """Transform of the first 20 columns, one to a line."""
        lines = self.transform.describe()
        shown = [f"  {line}" for line in lines[:20]]
        if len(lines) > 20:
            shown.append(f"  ... and {len(lines) - 20} more columns")
        return "\n".join(["transform (settings.transform and columns override it):", *shown])

    def rows(self, x: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """Rows ``(n, d)`` in data units, dequantised, in float64."""
        return x if self.dequantization is None else self.dequantization(x, generator=generator)

    def to_model(self, x: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """Rows ``(n, d)`` of data units in model space, dequantised and transformed, in float32."""
        return self.transform(self.rows(x, generator=generator)).float()

    def batches(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """Training rows in model space, drawn with replacement (by weight where there are weights) and dequantised."""
        return self.to_model(self.dataset.train[self.choose(num_rows, generator=generator)], generator=generator)

    def _drawer(self, generator: torch.Generator) -> DrawRows:
        """Training rows in model space by index, with fresh noise at every call; by chance where rows have weights."""
        if self.dataset.weights is not None:
            return lambda index: self.batches(len(index), generator)
        return lambda index: self.to_model(self.dataset.train[index], generator=generator)

    def choose(self, num_rows: int, *, generator: torch.Generator) -> Tensor:
        """Indices of training rows drawn with replacement, by weight where there are weights, ``(num_rows,)``."""
        return choose_rows(len(self.dataset.train), num_rows, self.dataset.weights, generator=generator)

    def some_training_rows(self, *, generator: torch.Generator, most: int = 50_000) -> Tensor:
        """At most ``most`` training rows in data units, not dequantised; drawn by weight where there are weights."""
        train, weights = self.dataset.train, self.dataset.weights
        if weights is not None:
            return train[choose_rows(len(train), min(most, len(train)), weights, generator=generator)]
        return train[torch.randperm(len(train), generator=generator)[:most]] if len(train) > most else train

    def validation_rows(self, *, seed: int, least: int = 1024, most: int = 8192) -> Tensor:
        """Validation rows as :meth:`held_out` gives them, drawn by weight where there are weights."""
        data = self.dataset
        return self.held_out(data.validation, seed=seed, weights=data.validation_weights, least=least, most=most)

    def held_out(
        self, x: Tensor, *, seed: int, weights: Tensor | None = None, least: int = 1024, most: int = 8192
    ) -> Tensor:
        """Held-out rows in data units, dequantised, of which :meth:`chosen_rows` gives the indices.

        Too few rows are repeated with fresh noise, where there is noise; too many are thinned.

        Args:
            x: Rows ``(n, d)`` in data units.
            seed: Seed of the noise and of the choice of rows.
            weights: Weights of the rows ``(n,)``, in proportion to which they are drawn.
            least: Number of rows at least, reached by repetition.
            most: Number of rows at most.
        """
        generator = torch.Generator().manual_seed(seed)
        chosen = self._choose_held_out(x, weights, least, most, generator)
        return self.rows(x[chosen], generator=generator)

    def chosen_rows(
        self, x: Tensor, *, seed: int, weights: Tensor | None = None, least: int = 1024, most: int = 8192
    ) -> Tensor:
        """Index of the row of ``x`` behind each row of :meth:`held_out` with the same arguments, ``(n,)``."""
        return self._choose_held_out(x, weights, least, most, torch.Generator().manual_seed(seed))

    def _choose_held_out(
        self, x: Tensor, weights: Tensor | None, least: int, most: int, generator: torch.Generator
    ) -> Tensor:
        if weights is not None:
            return choose_rows(len(x), min(most, max(least, len(x))), weights, generator=generator)
        if len(x) > most:
            return torch.randperm(len(x), generator=generator)[:most]
        copies = 1 if self.dequantization is None else max(1, math.ceil(least / len(x)))
        return torch.arange(len(x)).repeat(copies)

    def first_draws(self, base: Base, rows: Tensor, *, generator: torch.Generator) -> Tensor:
        """Draws of missing values from a base in model space, ``(n, d)``, float32; only their entries have a meaning.

        Args:
            base: Base with conditionals.
            rows: Rows ``(n, d)`` in data units, with NaN for missing values.
            generator: Source of the draws.
        """
        law, drawn = base.conditional(), torch.zeros(rows.shape, dtype=torch.float32)
        for some in rows.isnan().any(1).nonzero().flatten().split(ROWS_AT_ONCE):
            is_missing = rows[some].isnan()
            x = self.rows(torch.where(is_missing, self.medians, rows[some]), generator=generator)
            u = self.transform(x)
            drawn[some] = law.sample(u, is_missing, 1, generator=generator)[:, 0].float()
        return drawn

    def slopes(self, x: Tensor) -> Tensor:
        """log |du_i / dx_i| of every value of complete rows ``(n, d)`` in data units."""
        return self.transform.column_log_jacobian(x)

    def grey_levels(self) -> GreyLevels:
        """The images as whole numbers from 0.

        Raises:
            DataError: A transform other than histograms on one grid, which whole numbers need.
        """
        transform, data = self.transform, self.dataset
        if type(transform) is not GridHistograms:
            raise DataError(
                'base "autoregressive" is for whole numbers on one grid, such as 8-bit images, and needs the transform '
                f'"histogram", got "{transform.kind}": set transform="histogram", or another base'
            )
        marginals = transform.marginals

        def counted(x: Tensor) -> Tensor:
            parts = [((part.double() - marginals.first) / marginals.width).round() for part in x.split(ROWS_AT_ONCE)]
            return torch.cat([part.to(torch.uint8) for part in parts])

        return GreyLevels(
            counted(data.train),
            counted(data.validation),
            image_shape(data.event_shape),
            marginals.log_shares,
            weights=data.weights,
        )

    def with_bases(
        self, kind: str, *, allowed: ReferenceTime = NO_FLOW, say: Callable[[str], None] | None = None
    ) -> TableWithBases:
        """This table with fixed bases fitted to its training rows.

        Args:
            kind: Kind of base, see :func:`~drl_density.density.fitting.bases.choose_bases`; "autoregressive" chooses for
                images by :func:`~drl_density.density.fitting.references.choose_pixels`.
            allowed: Time that the fits may take; no flow is fitted to missing values.
            say: Called with a line about every stage of a long fit.

        Raises:
            ValueError: An unknown kind.
            DataError: Missing values together with row weights, or an autoregressive base of data without grey levels.
        """
        generator = torch.Generator().manual_seed(0)
        if kind == "autoregressive":
            held_out = self.transform(self.validation_rows(seed=0, most=MOST_FACTOR_ROWS))
            levels = self.grey_levels()
            bases = choose_pixels(self._drawer(generator), levels, held_out, allowed=allowed, say=say)
            return TableWithBases(self.dataset, self.transform, self.dequantization, bases)
        if self.dataset.has_missing_values:
            return _fill_missing(self, kind)
        if kind == "factors":
            held_out = self.transform(self.validation_rows(seed=0))
            allowed = dataclasses.replace(allowed, most_factors=FACTOR_SHARE * allowed.most_factors)
            bases = choose_factors(self._drawer(generator), len(self.dataset.train), held_out, allowed=allowed)
            return TableWithBases(self.dataset, self.transform, self.dequantization, bases)
        rows = self.some_training_rows(generator=generator)
        # Copies with fresh dequantisation noise smooth a small table; more rows than this do not change the bases.
        most = max(len(rows), 20_000 if rows.shape[1] <= 32 else 6_000)
        copies = 1 if self.dequantization is None else max(1, min(10, most // len(rows)))
        if kind == "quadratic":  # it is not fitted, so two rows serve
            rows, copies = rows[:2], 1
        u = torch.cat([self.transform(self.rows(rows, generator=generator)) for _ in range(copies)])
        most = 2 if kind == "quadratic" else 8192
        sizes = {"seed": 0, "least": min(1024, most), "most": most}
        held_out = self.transform(self.validation_rows(**sizes))
        source = self.chosen_rows(self.dataset.validation, weights=self.dataset.validation_weights, **sizes)
        bases = choose_bases(u, held_out, kind=kind, num_copies=copies, allowed=allowed, source=source)
        return TableWithBases(self.dataset, self.transform, self.dequantization, bases)


@dataclass(frozen=True)
class TableWithBases(Table):
    """A table together with the fixed bases of the models.

    Attributes:
        bases: Fixed parts of the models' energies.
    """

    bases: ChosenBases

    def describe(self) -> str:
        """Transform of the first 20 columns, and the score of every base on validation."""
        scores = ", ".join(f"{name} {score:.3f}" for name, score in self.bases.scores.items())
        kept = ", ".join(self.bases.mixtures)
        remarks = "".join(f"\n  {remark}" for remark in self.bases.remarks)
        return f"{super().describe()}\n  bases on validation, nats/row in model space: {scores}; kept {kept}{remarks}"

    def validation(self, *, seed: int, least: int = 1024, most: int = 8192) -> HeldOut:
        """Validation rows in model space, in numbers as :meth:`Table.held_out` takes them."""
        data = self.dataset
        rows = self.validation_rows(seed=seed, least=least, most=most)
        source = self.chosen_rows(data.validation, seed=seed, weights=data.validation_weights, least=least, most=most)
        return HeldOut(self.transform(rows).float(), source=source)


@dataclass(frozen=True)
class TableWithMissing(TableWithBases):
    """A table with missing values, together with the first draws of these values.

    Attributes:
        drawn: Draws in model space, ``(copies, n, d)``; only entries of missing values have a meaning.
    """

    drawn: Tensor

    def batches(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """Training rows in model space, completed from the first draws."""
        return self.completed_batches(num_rows, self.drawn, generator=generator)

    def completed_batches(self, num_rows: int, drawn: Tensor, *, generator: torch.Generator) -> Tensor:
        """Training rows in model space, each completed from one copy of ``drawn`` ``(copies, n, d)``."""
        return self.completed(
            self.dataset.train, drawn, self.choose(num_rows, generator=generator), generator=generator
        )

    def completed(self, rows: Tensor, drawn: Tensor, chosen: Tensor, *, generator: torch.Generator) -> Tensor:
        """Some rows in model space, each completed from one copy of its draws.

        Args:
            rows: Rows ``(n, d)`` in data units, with NaN for missing values.
            drawn: Draws ``(copies, n, d)`` in model space.
            chosen: Indices of the rows to complete.
            generator: Source of the choice of copies and of the dequantisation noise.
        """
        copy = torch.randint(len(drawn), (len(chosen),), generator=generator)
        return self.fill(rows[chosen], drawn[copy, chosen], generator=generator)

    def fill(self, x: Tensor, drawn: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """Model-space rows ``(n, d)``, float32, with draws for the missing values.

        Args:
            x: Rows ``(n, d)`` in data units, with NaN for missing values.
            drawn: Draws ``(n, d)`` in model space.
            generator: Source of the dequantisation noise.
        """
        is_missing = x.isnan()
        u = self.to_model(torch.where(is_missing, self.medians.to(x), x), generator=generator)
        return torch.where(is_missing, drawn.to(u), u)

    def completed_rows(self) -> Tensor:
        """Training rows in model space, completed by each copy of the first draws, ``(copies * n, d)``, float64."""
        generator = torch.Generator().manual_seed(0)
        return torch.cat([self.fill(self.dataset.train, copy, generator=generator) for copy in self.drawn]).double()

    def validation(self, *, seed: int, least: int = 256, most: int = 1024) -> HeldOut:
        """Validation rows in model space, each completed several times with weights.

        Completions multiply the rows by 8, so fewer rows are taken than from a complete table.
        """
        rows = self.held_out(self.dataset.validation, seed=seed, least=least, most=most)
        is_missing = rows.isnan()
        u = self.transform(torch.where(is_missing, self.medians, rows))
        weighed = weigh_completions(u, is_missing, self.bases.best, self.bases.sigma_min, seed=seed)
        source = self.chosen_rows(self.dataset.validation, seed=seed, least=least, most=most)
        return dataclasses.replace(weighed, source=source)


FACTOR_SHARE = 0.25
"""Share of their usual time that factor analysers alone take, a tenth of a fit: the network that follows needs it more."""

ROWS_AT_ONCE = 4096
"""Rows whose missing values are drawn or moved at once, which limits memory."""

LEAST_ROWS = 8
"""Training rows at least: the fits of the columns hold some of them out and need a spread on both sides."""


def prepare_table(dataset: Dataset, kind: str = "auto") -> Table:
    """Fit the data transform on the training rows.

    Args:
        dataset: Rows in their split.
        kind: Kind of the transform, see :func:`~drl_density.datasets.choose_transform`.

    Raises:
        DataError: Fewer than 8 training rows.

    >>> from drl_density.datasets import load_dataset
    >>> table = prepare_table(load_dataset("banana", seed=0, num_rows=100))
    >>> table.to_model(table.dataset.test, generator=None).shape
    torch.Size([10, 2])
    """
    if len(dataset.train) < LEAST_ROWS:
        raise DataError(
            f"a fit needs at least {LEAST_ROWS} training rows, got {len(dataset.train)}: give more rows, or a split that "
            "leaves more of them for training"
        )
    transform, dequantization = choose_transform(dataset, kind=kind)
    return Table(dataset, transform, dequantization)


def _fill_missing(table: Table, kind: str) -> TableWithMissing:
    """The table with bases fitted to rows whose missing values are drawn, in turn, from the bases before."""
    if table.dataset.weights is not None:
        raise DataError('row weights and missing="draw" cannot be combined yet; drop the rows with missing="drop"')
    parts, (train, validation) = [], (table.dataset.train, table.dataset.validation)
    some = table.some_training_rows(generator=torch.Generator().manual_seed(0))
    for x in (some, validation):
        rows = table.rows(x, generator=torch.Generator().manual_seed(0))
        is_missing = rows.isnan()
        u = table.transform(torch.where(is_missing, table.medians, rows))
        parts.append(torch.where(is_missing, torch.nan, u))
    found = complete(parts[0], parts[1], kind=kind)
    drawn = found.drawn
    if len(some) < len(train):  # the bases of a large table rest on some of its rows, and draw for all
        drawn = table.first_draws(found.bases.best, train, generator=torch.Generator().manual_seed(1))[None]
    return TableWithMissing(table.dataset, table.transform, table.dequantization, found.bases, drawn)
