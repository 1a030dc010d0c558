"""What every base of a target without levels offers, and a user's own distribution as one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from drl_density.partition_function.target_bases.mixture import MixtureBase


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


@runtime_checkable
class Chart(Protocol):
    """An invertible map to coordinates in which a target has one scale everywhere."""

    def to_unit(self, x: Tensor, /) -> Tensor:
        """Coordinates ``(n, d)`` of rows ``(n, d)``."""
        ...

    def from_unit(self, unit: Tensor, /) -> Tensor:
        """Rows ``(n, d)`` with these coordinates."""
        ...

    def log_volume(self, unit: Tensor, /) -> Tensor:
        """Logarithm of the Jacobian determinant of :meth:`from_unit`, ``(n,)``."""
        ...

    def pull_back(self, unit: Tensor, gradient: Tensor, /) -> Tensor:
        """Gradient of f(x) + log volume in these coordinates ``(n, d)``, from the gradient of f in x."""
        ...


@runtime_checkable
class DrivenChart(Chart, Protocol):
    """A chart whose first coordinate is one of the given ones, which drives places and scales of the others."""

    @property
    def driver(self) -> int:
        """Index of the driver among the given coordinates."""
        ...

    @property
    def center(self) -> tuple[float, float]:
        """Mean and standard deviation of the driver: its coordinate is the distance from the mean in these."""
        ...


class KeptBase(FlatBase, Protocol):
    """A base that every fit keeps, such as components at the modes that a search has found."""

    @property
    def local(self) -> MixtureBase:
        """Gaussians that give kernels a local scale."""
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
