"""What every base of a target without levels offers, and a user's own distribution as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class FlatBase(Protocol):
    """A normalised distribution over flattened points ``(d,)`` with exact draws."""

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one point, ``(d,)``."""
        ...

    def log_prob(self, x: Tensor, /) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        ...

    def draw(self, num_rows: int, generator: torch.Generator | None, /) -> Tensor:
        """Independent draws ``(num_rows, d)``."""
        ...


@dataclass(frozen=True)
class GivenBase:
    """A given distribution over flattened points.

    Attributes:
        flat_log_prob: log density of rows ``(n, d)``.
        flat_draw: exact draws, ``flat_draw(num_rows, generator)`` with shape ``(num_rows, d)``.
        event_shape: shape of one point, ``(d,)``.
    """

    flat_log_prob: Callable[[Tensor], Tensor]
    flat_draw: Callable[[int, torch.Generator | None], Tensor]
    event_shape: torch.Size

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        return self.flat_log_prob(x)

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``(num_rows, d)``."""
        return self.flat_draw(num_rows, generator)
