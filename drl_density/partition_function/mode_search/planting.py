"""The power of a search: modes of known mass and width are planted in the target and looked for by the same climbs.

A target with one mode is planted with copies of itself, so that the planted modes have its tails. Otherwise Gaussians as
narrow as the narrowest mode are planted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.devices import normal_draws, uniform_draws
from drl_density.mcmc import LogDensity
from drl_density.partition_function.mode_search.ascent import climb_rows
from drl_density.partition_function.mode_search.climbs import WIDTHS, Ground
from drl_density.partition_function.mode_search.record import Power
from drl_density.partition_function.mode_search.shape import Shape

FIRST_PLANTS, MORE_PLANTS, OTHER_PLANTS = 20, 20, 16
"""Planted modes of the case that a verdict demands, at first and where at most two of these are missed, and of each other
case."""
LEAST_POWER = 0.95
"""Share of the planted modes that has to be found."""
DEMANDED_MASS, OTHER_MASSES, OTHER_WIDTH = 0.2, (0.05, 0.5), 0.5
"""Mass of the case that a verdict demands, other masses, and another width in units of the demanded one."""
FIRST_PER_WIDTH = 4
"""Climbs from each width before the planted modes that are found drop out."""


@dataclass(frozen=True)
class Plants:
    """Planted modes, each added to the target alone.

    Attributes:
        seed: mode that is planted.
        centers: places ``(n, d)``.
        widths: factors on the mode's widths ``(n,)``.
        log_masses: logarithm of the mass of each, in units of the target's own ``(n,)``.
    """

    seed: Seed
    centers: Tensor
    widths: Tensor
    log_masses: Tensor

    def log_density(self, x: Tensor, plants: Tensor) -> Tensor:
        """Log density of the planted modes, given by index ``(n,)``, at rows ``(n, d)``, ``(n,)``."""
        own = self._own(x, plants)
        return self.log_masses[plants] - x.shape[1] * self.widths[plants].log() + self.seed.log_density(own)

    def distances(self, x: Tensor, plants: Tensor) -> Tensor:
        """Squared distances of rows from the planted modes, in standard deviations ``(n,)``."""
        return self.seed.shape.distances(self._own(x, plants))

    def _own(self, x: Tensor, plants: Tensor) -> Tensor:
        """Rows as the mode that was planted sees them."""
        center = self.seed.shape.center
        return center + (x - self.centers[plants]) / self.widths[plants, None]


@dataclass(frozen=True)
class Seed:
    """A mode to plant.

    Attributes:
        shape: its place and widths.
        log_density: its log density ``(n,)`` at rows ``(n, d)``, which integrates to the mass of the target.
        is_copy: whether it is a copy of the target.
    """

    shape: Shape
    log_density: LogDensity
    is_copy: bool


def copied(log_density: LogDensity, shape: Shape) -> Seed:
    """The whole target as a mode to plant, tails included: right where it has one mode."""
    return Seed(shape, lambda x: log_density(x).double(), True)


def gaussian(shape: Shape, log_z: float) -> Seed:
    """A Gaussian of a mode's widths as a mode to plant, with log Z as its log mass."""
    return Seed(shape, lambda x: shape.log_density(x) + log_z, False)


@dataclass(frozen=True)
class Soil:
    """What a search in a target with planted modes needs.

    Attributes:
        log_density: target, maps rows ``(n, d)`` to ``(n,)``.
        ground: where random starts lie.
        unit: coordinates in which climbs are taken.
        seed: mode to plant.
    """

    log_density: LogDensity
    ground: Ground
    unit: Shape
    seed: Seed

    def measure(self, radius: float, per_width: int, *, generator: torch.Generator | None) -> tuple[Power, ...]:
        """Plant modes within a radius and look for them by ``per_width`` climbs from each width.

        The demanded case comes first: modes of 20 % of the mass. Where it is missed too often already, it is the only one.
        """
        case = dataclasses.replace
        demanded = Power(DEMANDED_MASS, self.seed.shape.width, radius, 0, FIRST_PLANTS, self.seed.is_copy)
        (first,) = self._look((demanded,), per_width, generator)
        if first.num_planted - first.num_found > (1 - LEAST_POWER) * (FIRST_PLANTS + MORE_PLANTS):
            return (first,)
        others = [case(demanded, mass=mass, num_planted=OTHER_PLANTS) for mass in OTHER_MASSES]
        others.append(case(demanded, width=OTHER_WIDTH * demanded.width, num_planted=OTHER_PLANTS))
        second, *others = self._look((case(demanded, num_planted=MORE_PLANTS), *others), per_width, generator)
        both = case(
            first, num_found=first.num_found + second.num_found, num_planted=first.num_planted + second.num_planted
        )
        return (both, *others)

    def _look(self, cases: Sequence[Power], per_width: int, generator: torch.Generator | None) -> list[Power]:
        """Plant modes of every case at once, and count how many are found."""
        counts = torch.tensor([case.num_planted for case in cases])
        plants = self._plant(cases, counts, generator)
        is_found = torch.zeros(len(plants.centers), dtype=torch.bool)
        first = min(FIRST_PER_WIDTH, per_width)
        for number in (first, per_width - first):
            (missing,) = (~is_found).nonzero(as_tuple=True)
            if number and len(missing):
                is_found[missing] = self._climb(plants, missing, number, generator)
        found = [int(part.sum()) for part in is_found.split(counts.tolist())]
        return [dataclasses.replace(case, num_found=number) for case, number in zip(cases, found, strict=True)]

    def _plant(self, cases: Sequence[Power], counts: Tensor, generator: torch.Generator | None) -> Plants:
        """Modes at random places of the ball."""
        total, like = int(counts.sum()), self.unit.center
        dim = len(like)
        direction = normal_draws((total, dim), like, generator)
        distance = cases[0].radius * uniform_draws((total, 1), like, generator) ** (1 / dim)
        centers = self.ground.center + direction / direction.norm(dim=1, keepdim=True) * distance
        widths, masses = (
            torch.tensor(values, dtype=torch.float64).repeat_interleave(counts)
            for values in ([case.width / self.seed.shape.width for case in cases], [case.mass for case in cases])
        )
        return Plants(self.seed, centers, widths, (masses / (1 - masses)).log())

    def _climb(self, plants: Plants, missing: Tensor, per_width: int, generator: torch.Generator | None) -> Tensor:
        """Which of the missing plants are found by climbs from random starts."""
        number = per_width * len(WIDTHS)
        rows, lengths = self.ground.starts(per_width * len(missing), generator)
        plant = missing.repeat(number)  # starts are ordered by width, so every plant gets as many of each
        unit, log_density, dim = self.unit, self.log_density, rows.shape[1]
        inside = max(1.0, 0.25 * dim)

        def parts(z: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
            x = unit.color(z)
            return log_density(x).double(), plants.log_density(x, plant[chosen])

        def is_inside(z: Tensor, chosen: Tensor) -> Tensor:
            return plants.distances(unit.color(z), plant[chosen]) <= inside

        end = climb_rows(
            lambda z, chosen: torch.logaddexp(*parts(z, chosen)),
            unit.whiten(rows),
            scale=0.3 * lengths / unit.width,
            is_done=is_inside,
        )
        with torch.no_grad():
            own, planted = parts(end.position, torch.arange(len(plant)))
        return torch.isin(missing, plant[end.value.isfinite() & (planted > own)])
