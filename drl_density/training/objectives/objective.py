"""The contract of an objective, its records, and the draws of levels and labels that objectives share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from drl_density.devices import generator_device
from drl_density.mcmc import Kernel
from drl_density.model import EnergySequence

Batch: TypeAlias = Tensor | tuple[Tensor, Tensor]
"""Clean rows ``(batch, *event)`` in model space, or such rows with their labels 1, 2, ... ``(batch,)``."""


class Batches(Protocol):
    """Source of clean training rows in model space, with labels for objectives that use them."""

    def __call__(self, num_rows: int, generator: torch.Generator, /) -> Batch:
        """Draw ``num_rows`` rows, or rows and their labels 1, 2, ... ``(num_rows,)``."""
        ...


@dataclass(frozen=True)
class LevelStatistics:
    """Statistics of one evaluation of an objective per level, shape ``(T,)``; NaN at a level that had no rows.

    Attributes:
        energy_gap: mean of F(data) - F(chain end), which is near 0 when chains stay at the data.
        acceptance_rate: mean acceptance probability of the chains.
        relative_jump: mean squared distance from data to chain end over the conditional variance; near 0, chains are frozen.
    """

    energy_gap: Tensor
    acceptance_rate: Tensor
    relative_jump: Tensor

    def stacked(self) -> Tensor:
        """All three in one tensor ``(3, T)``, float64, in the order of the fields."""
        return torch.stack([self.energy_gap, self.acceptance_rate, self.relative_jump]).double()

    @classmethod
    def of_rows(
        cls, energy_gap: Tensor, acceptance_rate: Tensor, relative_jump: Tensor, *, levels: Tensor, num_levels: int
    ) -> LevelStatistics:
        """Means per level of numbers per row.

        Args:
            energy_gap: one number per row ``(batch,)``, without gradient.
            acceptance_rate: one number per row ``(batch,)``.
            relative_jump: one number per row ``(batch,)``.
            levels: integer level of each row ``(batch,)``.
        """
        return cls(
            *(level_means(values, levels, num_levels) for values in (energy_gap, acceptance_rate, relative_jump))
        )

    @classmethod
    def unknown(cls, num_levels: int, like: Tensor) -> LevelStatistics:
        """Statistics of an objective without chains: NaN at every level.

        Args:
            like: tensor whose dtype and device they take.
        """
        unknown = torch.full((num_levels,), torch.nan, dtype=like.dtype, device=like.device)
        return cls(unknown, unknown, unknown)


@dataclass(frozen=True)
class ObjectiveValue:
    """Value of an objective on one batch.

    Attributes:
        loss: what is minimised, a scalar with gradient.
        parts: terms of the loss by name, before their weights and without gradient.
        statistics: what the chains did, per level.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    statistics: LevelStatistics

    def plus(self, name: str, term: Tensor, weight: float) -> ObjectiveValue:
        """This value with one more weighted term in the loss.

        Args:
            name: name of the term among the parts.
            term: scalar with gradient.
            weight: factor of the term in the loss.
        """
        return replace(self, loss=self.loss + weight * term, parts=self.parts | {name: term.detach()})


class Objective(Protocol):
    """What training minimises."""

    @property
    def kernel(self) -> Kernel:
        """Kernel of the chains; the step sizes of an adjusted one are adapted during training."""
        ...

    def __call__(
        self, model: EnergySequence, x: Batch, step_sizes: Tensor, *, generator: torch.Generator | None = None
    ) -> ObjectiveValue:
        """Evaluate the objective on a batch, with chain step sizes ``(T,)`` in units of the conditional."""
        ...


def split_labels(x: Batch) -> tuple[Tensor, Tensor | None]:
    """(rows, labels) of a batch, with None for a batch without labels."""
    return x if isinstance(x, tuple) else (x, None)


def unlabelled(x: Batch) -> Tensor:
    """The rows of a batch for an objective that does not use labels; raises ValueError for a batch with labels."""
    if isinstance(x, tuple):
        raise ValueError(
            "this objective does not use labels: give rows alone, or train by CooperativeRecovery or DenoisingScoreMatching"
        )
    return x


def drop_labels(label: Tensor | None, chance: float, *, generator: torch.Generator | None = None) -> Tensor | None:
    """Labels ``(batch,)``, each replaced by 0, "unlabelled", with probability ``chance``; None stays None."""
    if label is None:
        return None
    draws = torch.rand(len(label), generator=generator, device=generator_device(generator)).to(label.device)
    return torch.where(draws >= chance, label, torch.zeros_like(label))


def level_shift(*, generator: torch.Generator | None = None) -> Tensor:
    """Random shift of the whole grid of levels: 0 with probability 1/2, else uniform in (0, 1).

    The shift lets every log-SNR be visited, and the half without shift keeps the integer levels, on which samplers and
    estimators work, the best trained.
    """
    draw = torch.rand(2, generator=generator, dtype=torch.float64, device=generator_device(generator))
    return torch.where(draw[0] < 0.5, torch.zeros_like(draw[0]), draw[1])


def uniform_levels(num_rows: int, num_levels: int, *, generator: torch.Generator | None = None) -> Tensor:
    """An independent uniform level in 0..T-1 for each row."""
    return torch.randint(num_levels, (num_rows,), generator=generator, device=generator_device(generator))


def levels_by_share(num_rows: int, shares: Sequence[float], *, generator: torch.Generator | None = None) -> Tensor:
    """An independent level for each row, level t with a probability proportional to ``shares[t]``."""
    device = generator_device(generator)
    weights = torch.tensor(shares, dtype=torch.float64, device=device)
    return torch.multinomial(weights, num_rows, replacement=True, generator=generator)


def stratified_levels(num_rows: int, num_levels: int, *, generator: torch.Generator | None = None) -> Tensor:
    """A level in 0..T-1 for each row, in random order; the counts of any two levels differ by at most one."""
    device = generator_device(generator)
    start = torch.randint(num_levels, (), generator=generator, device=device)
    levels = (torch.arange(num_rows, device=device) + start) % num_levels
    return levels[torch.randperm(num_rows, generator=generator, device=device)]


def level_means(values: Tensor, levels: Tensor, num_levels: int) -> Tensor:
    """Mean of ``values`` ``(batch,)`` over the rows of each level, NaN at a level without rows."""
    total = values.new_zeros(num_levels).index_add_(0, levels, values)
    return total / values.new_zeros(num_levels).index_add_(0, levels, torch.ones_like(values))
