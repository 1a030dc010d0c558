"""A data set together with its way into model space."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions.transforms import Transform

from drl_density.datasets import Dataset, choose_transform
from drl_density.density.mixture_base import ChosenBases, choose_bases
from drl_density.transforms import Dequantization


@dataclass(frozen=True)
class Table:
    """A data set together with its way into model space.

    Attributes:
        dataset: train, validation and test rows in data units.
        transform: data to model space.
        dequantization: uniform noise of each column's rounding width, or None.
        bases: the fixed parts of the models' energies, or None when they were not asked for.
    """

    dataset: Dataset
    transform: Transform
    dequantization: Dequantization | None
    bases: ChosenBases | None

    def rows(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Rows in data units, dequantised, in float64."""
        return x if self.dequantization is None else self.dequantization(x, generator)

    def to_model(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Rows dequantised and transformed, float32."""
        return self.transform(self.rows(x, generator)).float()

    def batches(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """Training rows drawn with replacement (by weight where there are weights), freshly dequantised."""
        train, weights = self.dataset.train, self.dataset.weights
        if weights is None:
            chosen = torch.randint(len(train), (num_rows,), generator=generator)
        else:
            chosen = torch.multinomial(weights, num_rows, replacement=True, generator=generator)
        return self.to_model(train[chosen], generator)

    def held_out(self, x: Tensor, *, seed: int, least: int = 1024, most: int = 8192) -> Tensor:
        """Held-out rows in data units: repeated with fresh dequantisation until there are enough, or thinned."""
        generator = torch.Generator().manual_seed(seed)
        if len(x) > most:
            x = x[torch.randperm(len(x), generator=generator)[:most]]
        copies = 1 if self.dequantization is None else max(1, math.ceil(least / len(x)))
        return torch.cat([self.rows(x, generator) for _ in range(copies)])


def prepare_table(dataset: Dataset, kind: str = "auto", *, base: str | None = None) -> Table:
    """Fit the data transform on the training rows, and where ``base`` names a kind, the models' fixed bases."""
    transform, dequantization = choose_transform(dataset, kind=kind)
    generator = torch.Generator().manual_seed(0)
    rows = dataset.train
    if len(rows) > 50_000:
        rows = rows[torch.randperm(len(rows), generator=generator)[:50_000]]
    most = max(len(rows), 20_000 if rows.shape[1] <= 32 else 6_000)
    copies = 1 if dequantization is None else max(1, min(10, most // len(rows)))
    table = Table(dataset, transform, dequantization, None)
    if base is None:
        return table
    if base == "quadratic":
        rows, copies = rows[:2], 1
    u = torch.cat([transform(table.rows(rows, generator)) for _ in range(copies)])
    most = 2 if base == "quadratic" else 8192
    held_out = transform(table.held_out(dataset.validation, seed=0, least=min(1024, most), most=most))
    return dataclasses.replace(table, bases=choose_bases(u, held_out, kind=base))
