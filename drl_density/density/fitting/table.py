"""A data set together with its way into model space."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.datasets import Dataset, choose_transform
from drl_density.density.fitting.bases import ChosenBases, choose_bases
from drl_density.density.fitting.completions import HeldOut, complete, weigh_completions
from drl_density.errors import DataError
from drl_density.transforms import DataTransform, Dequantization


@dataclass(frozen=True)
class Table:
    """A data set together with its way into model space.

    Attributes:
        dataset: train, validation and test rows in data units.
        transform: data to model space.
        dequantization: uniform noise of each column's rounding width, or None.
        bases: the fixed parts of the models' energies, or None when they were not asked for.
        drawn: first draws of the cells that training rows miss, in model space ``(copy, row, d)``, or None.
    """

    dataset: Dataset
    transform: DataTransform
    dequantization: Dequantization | None
    bases: ChosenBases | None
    drawn: Tensor | None = None

    @property
    def middle(self) -> Tensor:
        """Median of each column, which stands in a hole until a draw replaces it, ``(d,)``."""
        return self.dataset.train.nanmedian(0).values

    def describe(self) -> str:
        """What was chosen for the columns (the first 20), and how the bases scored on validation."""
        lines = self.transform.describe()
        shown = [f"  {line}" for line in lines[:20]]
        if len(lines) > 20:
            shown.append(f"  ... and {len(lines) - 20} more columns")
        if self.bases is not None:
            scores = ", ".join(f"{name} {score:.3f}" for name, score in self.bases.scores.items())
            shown.append(
                f"bases on validation, nats/row in model space: {scores}; kept {', '.join(self.bases.mixtures)}"
            )
        return "\n".join(["transform (settings.transform and columns override it):", *shown])

    def rows(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Rows in data units, dequantised, in float64.

        Args:
            x: rows ``(n, d)``.
            generator: source of randomness.
        """
        return x if self.dequantization is None else self.dequantization(x, generator=generator)

    def to_model(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Rows dequantised and transformed, float32.

        Args:
            x: rows ``(n, d)`` in data units.
            generator: source of randomness.
        """
        return self.transform(self.rows(x, generator)).float()

    def batches(self, num_rows: int, generator: torch.Generator, drawn: Tensor | None = None) -> Tensor:
        """Training rows drawn with replacement (by weight where there are weights), freshly dequantised.

        Holes take their values from one of the copies of ``drawn``, :attr:`drawn` when not given.

        Args:
            num_rows: rows to draw.
            generator: source of randomness.
            drawn: ``(copy, row, d)``.
        """
        train, chosen = self.dataset.train, self.choose(num_rows, generator)
        if self.drawn is None:
            return self.to_model(train[chosen], generator)
        drawn = self.drawn if drawn is None else drawn
        copy = torch.randint(len(drawn), (num_rows,), generator=generator)
        return self.with_holes(train[chosen], drawn[copy, chosen], generator)

    def choose(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """Indices of training rows drawn with replacement, by weight where there are weights, ``(n,)``.

        Args:
            num_rows: indices to draw.
            generator: source of randomness.
        """
        weights = self.dataset.weights
        if weights is None:
            return torch.randint(len(self.dataset.train), (num_rows,), generator=generator)
        return torch.multinomial(weights, num_rows, replacement=True, generator=generator)

    def with_holes(self, x: Tensor, drawn: Tensor, generator: torch.Generator | None) -> Tensor:
        """Rows in data units with NaN as model-space rows whose holes are ``drawn`` ``(n, d)``, float32.

        Args:
            x: rows ``(n, d)``.
            drawn: in model space.
            generator: source of randomness.
        """
        is_hole = x.isnan()
        u = self.to_model(torch.where(is_hole, self.middle.to(x), x), generator)
        return torch.where(is_hole, drawn.to(u), u)

    def some_training_rows(self, generator: torch.Generator, *, most: int = 50_000) -> Tensor:
        """Training rows in data units, not dequantised: at most ``most``, by weight where there are weights.

        Args:
            generator: source of randomness.
            most: rows at most.
        """
        train, weights = self.dataset.train, self.dataset.weights
        if weights is not None:
            return train[torch.multinomial(weights, min(most, len(train)), replacement=True, generator=generator)]
        return train[torch.randperm(len(train), generator=generator)[:most]] if len(train) > most else train

    def validation_rows(self, *, seed: int, least: int = 1024, most: int = 8192) -> Tensor:
        """Validation rows as :meth:`held_out` gives them, drawn by weight where there are weights.

        Args:
            seed: of the noise and the choice of rows.
            least: rows at least, by repetition.
            most: rows at most.
        """
        data = self.dataset
        return self.held_out(data.validation, seed=seed, weights=data.validation_weights, least=least, most=most)

    def held_out(
        self, x: Tensor, *, seed: int, weights: Tensor | None = None, least: int = 1024, most: int = 8192
    ) -> Tensor:
        """Held-out rows in data units: repeated with fresh dequantisation until there are enough, or thinned; with
        ``weights``, drawn in proportion to them.

        Args:
            x: rows ``(n, d)`` in data units.
            seed: of the noise and the choice of rows.
            weights: of the rows ``(n,)``.
            least: rows at least, by repetition.
            most: rows at most.
        """
        generator = torch.Generator().manual_seed(seed)
        if weights is not None:
            count = min(most, max(least, len(x)))
            return self.rows(x[torch.multinomial(weights, count, replacement=True, generator=generator)], generator)
        if len(x) > most:
            x = x[torch.randperm(len(x), generator=generator)[:most]]
        copies = 1 if self.dequantization is None else max(1, math.ceil(least / len(x)))
        return torch.cat([self.rows(x, generator) for _ in range(copies)])

    def slopes(self, x: Tensor) -> Tensor:
        """log |du_i / dx_i| of every cell of complete rows ``(n, d)``.

        Args:
            x: in data units.
        """
        return self.transform.column_log_jacobian(x)

    def completed_rows(self) -> Tensor:
        """Training rows in model space, every copy of the draws in their holes, ``(n, d)``, float64."""
        generator = torch.Generator().manual_seed(0)
        return torch.cat([self.with_holes(self.dataset.train, copy, generator) for copy in self.drawn]).double()

    def validation(self, *, seed: int, **sizes: int) -> HeldOut:
        """Validation rows in model space, as many as ``sizes`` say; holes are completed several times over, with weights.

        Args:
            seed: of the noise and the completions.
            sizes: ``least`` and ``most`` of :meth:`held_out`.
        """
        if self.drawn is None:
            return HeldOut(self.transform(self.validation_rows(seed=seed, **sizes)).float())
        rows = self.held_out(self.dataset.validation, seed=seed, least=256, most=1024)
        is_hole = rows.isnan()
        u = self.transform(torch.where(is_hole, self.middle, rows))
        return weigh_completions(u, is_hole, self.bases.best, self.bases.sigma_min, seed=seed)


def prepare_table(dataset: Dataset, kind: str = "auto", *, base: str | None = None) -> Table:
    """Fit the data transform on the training rows, and where ``base`` names a kind, the models' fixed bases.

    Args:
        dataset: rows and their split.
        kind: of the transform, see :func:`~drl_density.datasets.choose_transform`.
        base: kind of the bases, see :func:`~drl_density.density.fitting.bases.choose_bases`; none are fitted when not
            given.

    >>> from drl_density.datasets import load_dataset
    >>> table = prepare_table(load_dataset("banana", seed=0, num_rows=100))
    >>> table.to_model(table.dataset.test, None).shape
    torch.Size([10, 2])
    """
    transform, dequantization = choose_transform(dataset, kind=kind)
    generator = torch.Generator().manual_seed(0)
    table = Table(dataset, transform, dequantization, None)
    if base is None:
        return table
    if dataset.has_missing_values:
        return _prepare_holes(table, base)
    rows = table.some_training_rows(generator)
    most = max(len(rows), 20_000 if rows.shape[1] <= 32 else 6_000)
    copies = 1 if dequantization is None else max(1, min(10, most // len(rows)))
    if base == "quadratic":
        rows, copies = rows[:2], 1
    u = torch.cat([transform(table.rows(rows, generator)) for _ in range(copies)])
    most = 2 if base == "quadratic" else 8192
    held_out = transform(table.validation_rows(seed=0, least=min(1024, most), most=most))
    return dataclasses.replace(table, bases=choose_bases(u, held_out, kind=base))


def _prepare_holes(table: Table, base: str) -> Table:
    """Bases fitted to rows whose holes are drawn, by turns, from what was fitted to the draws before."""
    if table.dataset.weights is not None:
        raise DataError('row weights and missing="draw" do not go together yet; drop the rows with missing="drop"')
    parts = []
    for x in (table.dataset.train, table.dataset.validation):
        rows = table.rows(x, torch.Generator().manual_seed(0))
        is_hole = rows.isnan()
        parts.append(torch.where(is_hole, torch.nan, table.transform(torch.where(is_hole, table.middle, rows))))
    train, validation = parts
    bases, drawn = complete(train, validation, kind=base)
    return dataclasses.replace(table, bases=bases, drawn=drawn)
