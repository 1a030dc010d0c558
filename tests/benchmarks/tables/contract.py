"""What a rival gets and what it returns."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from drl_density.density.fitting.table import Table


class NotInstalled(Exception):
    """A rival whose package cannot be imported."""


@dataclass(frozen=True)
class Rows:
    """Rows in model space, float64, all through the same fitted transform.

    Attributes:
        train: Dequantised copies of the training rows ``(c, n, d)``.
        validation: Dequantised validation rows ``(m, d)``, with repeats of few rows.
        everything: Dequantised copies of training and validation rows ``(c, n + m, d)``, for a refit after the choice.
    """

    train: Tensor
    validation: Tensor
    everything: Tensor

    @classmethod
    def of(cls, table: Table) -> Rows:
        """The rows of a table, in as many copies as our own bases are fitted to."""
        data, generator = table.dataset, torch.Generator().manual_seed(0)
        most = 20_000 if data.num_columns <= 32 else 6_000
        copies = 1 if table.dequantization is None else max(1, min(10, most // len(data.train)))

        def copied(x: Tensor) -> Tensor:
            return torch.stack([table.transform(table.rows(x, generator=generator)) for _ in range(copies)])

        train, validation = copied(data.train), copied(data.validation)
        held_out = table.transform(table.validation_rows(seed=0))
        return cls(train, held_out, torch.cat([train, validation], 1))

    @property
    def num_features(self) -> int:
        """Number of columns."""
        return self.train.shape[-1]


@dataclass(frozen=True)
class Budget:
    """Time of a fit, by the clock of the job.

    Attributes:
        seconds: Seconds that the fit may take.
        deadline: Value of ``time.monotonic()`` at which it ends.
    """

    seconds: float
    deadline: float

    @classmethod
    def start(cls, seconds: float) -> Budget:
        """A budget that runs from now."""
        return cls(seconds, time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.deadline - time.monotonic()


@dataclass(frozen=True)
class Fitted:
    """A fitted rival.

    Attributes:
        log_density: Log density of model-space rows ``(n, d)``, nats, ``(n,)``, float64.
        normalizer: How its normaliser is known.
        detail: What it chose.
    """

    log_density: Callable[[Tensor], Tensor]
    normalizer: str = "exact"
    detail: dict[str, Any] = field(default_factory=dict)


Rival = Callable[[Rows, Budget, int], Fitted]
"""Fits within a budget and with a seed."""
