"""One-parameter families of invertible maps that carry the bulk of a target into its tails and necks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from drl_density.mcmc import LogDensity
from drl_density.partition_function.target_bases.contract import DrivenChart

FAR_SHARE = 1 / 6
"""Power of the largest floating-point number that is the largest stretch: a target may cube or square what it gets."""


class Move(Protocol):
    """A family of maps, each of which moves a point outwards by a number of steps."""

    @property
    def label(self) -> str:
        """What is moved, in words."""
        ...

    @property
    def far_steps(self) -> tuple[float, ...]:
        """Numbers of steps, rising, between which the decay of the mass is measured."""
        ...

    def place(self, x: Tensor, /) -> Tensor:
        """How far out rows ``(n, d)`` are, in steps, ``(n,)``."""
        ...

    def moved(self, x: Tensor, num_steps: float | Tensor, /) -> tuple[Tensor, Tensor]:
        """Rows ``(n, d)`` moved outwards, and the log volume that the map gains there, ``(n,)``.

        Args:
            num_steps: number of steps of all rows, or of each, ``(n,)``.
        """
        ...


@dataclass(frozen=True, eq=False)
class Stretch:
    """Distances from a centre are doubled by every step, along some axes or along all.

    Attributes:
        label: what is stretched, in words.
        center: centre, ``(d,)``.
        scale: unit of every coordinate, ``(d,)``.
        axes: orthonormal axes in these units as columns, ``(d, q)``; ``None`` for all.
        furthest: largest factor of the stretch at which decay is measured.
        side: 1 or -1 for the draws on one side along a single axis, 0 for both sides.
    """

    label: str
    center: Tensor
    scale: Tensor
    axes: Tensor | None
    furthest: float
    side: int = 0

    @property
    def num_axes(self) -> int:
        """Number of axes along which distances grow."""
        return len(self.center) if self.axes is None else self.axes.shape[1]

    @property
    def far_steps(self) -> tuple[float, ...]:
        """Numbers of doublings at four factors that are even in their logarithms' logarithm."""
        most = math.log2(self.furthest)
        return tuple(most / 2**halving for halving in (3, 2, 1, 0))

    def place(self, x: Tensor) -> Tensor:
        """Doublings of the unit distance from the centre, ``(n,)``; minus infinity on the other side."""
        unit = (x - self.center) / self.scale
        inner = unit if self.axes is None else unit @ self.axes
        if self.side:
            return (self.side * inner[:, 0]).clamp_min(0).log2()  # the log of 0 is minus infinity
        return inner.norm(dim=1).log2()

    def moved(self, x: Tensor, num_steps: float | Tensor) -> tuple[Tensor, Tensor]:
        """Rows with their distances multiplied by ``2 ** num_steps``, and the log volume gained."""
        steps = torch.as_tensor(num_steps, dtype=x.dtype, device=x.device).expand(len(x))
        factor = steps.exp2()[:, None]
        unit = (x - self.center) / self.scale
        if self.axes is None:
            further = factor * unit
        else:
            further = unit + (factor - 1) * (unit @ self.axes) @ self.axes.T
        return self.center + self.scale * further, self.num_axes * math.log(2) * steps


@dataclass(frozen=True, eq=False)
class DriverShift:
    """The driver of a scale regression is moved by one standard deviation a step, and location and scale with it.

    Attributes:
        chart: regression of all coordinates on the driver.
        sign: direction of the shift, 1 or -1.
        center: place of the draws' median in the driver's unit coordinate.
    """

    chart: DrivenChart
    sign: int
    center: float
    far_steps: tuple[float, ...] = (10.0, 20.0, 40.0, 80.0)

    @property
    def label(self) -> str:
        """What is moved, in words."""
        return (
            f"coordinate {self.chart.driver} {'up' if self.sign > 0 else 'down'}, the others' places and scales with it"
        )

    def place(self, x: Tensor) -> Tensor:
        """Standard deviations of the driver from the median, towards the shift, ``(n,)``."""
        return self.sign * (self.chart.to_unit(x)[:, 0] - self.center)

    def moved(self, x: Tensor, num_steps: float | Tensor) -> tuple[Tensor, Tensor]:
        """Rows moved along the driver, and the log volume gained."""
        unit = self.chart.to_unit(x)
        further = unit.clone()
        further[:, 0] += self.sign * num_steps
        return self.chart.from_unit(further), self.chart.log_volume(further) - self.chart.log_volume(unit)


def gains(move: Move, log_density: LogDensity, bulk: Tensor, num_steps: float | Tensor) -> Tensor:
    """Log of the mass that each row ``(n, d)`` of the bulk stands for after it was moved, relative to its own, ``(n,)``."""
    with torch.no_grad():
        moved, volume = move.moved(bulk, num_steps)
        gain = log_density(moved).double() + volume.double() - log_density(bulk).double()
    return torch.where(gain.isnan(), -math.inf, gain)  # not-a-number counts as density zero, as everywhere
