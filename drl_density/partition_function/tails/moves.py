"""One-parameter families of invertible maps that carry the bulk of a target into its tails and necks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

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

    def moved(self, x: Tensor, num_steps: float, /) -> tuple[Tensor, Tensor]:
        """Rows ``(n, d)`` moved outwards, and the log volume that the map gains there, ``(n,)``."""
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
    """

    label: str
    center: Tensor
    scale: Tensor
    axes: Tensor | None
    furthest: float

    @property
    def far_steps(self) -> tuple[float, ...]:
        """Numbers of doublings at four factors that are even in their logarithms' logarithm."""
        most = math.log2(self.furthest)
        return tuple(most / 2**halving for halving in (3, 2, 1, 0))

    def place(self, x: Tensor) -> Tensor:
        """Doublings of the unit distance from the centre, ``(n,)``."""
        unit = (x - self.center) / self.scale
        inner = unit if self.axes is None else unit @ self.axes
        return inner.norm(dim=1).log2()

    def moved(self, x: Tensor, num_steps: float) -> tuple[Tensor, Tensor]:
        """Rows with their distances multiplied by ``2 ** num_steps``, and the log volume gained."""
        factor = 2.0**num_steps
        unit = (x - self.center) / self.scale
        if self.axes is None:
            further, num_axes = factor * unit, x.shape[1]
        else:
            further, num_axes = unit + (factor - 1) * (unit @ self.axes) @ self.axes.T, self.axes.shape[1]
        return self.center + self.scale * further, x.new_full((len(x),), num_axes * num_steps * math.log(2))


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

    def moved(self, x: Tensor, num_steps: float) -> tuple[Tensor, Tensor]:
        """Rows moved along the driver, and the log volume gained."""
        unit = self.chart.to_unit(x)
        further = unit.clone()
        further[:, 0] += self.sign * num_steps
        return self.chart.from_unit(further), self.chart.log_volume(further) - self.chart.log_volume(unit)
