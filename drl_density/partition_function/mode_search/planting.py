"""The power of a search: modes of known mass and width are planted in the target and looked for by the same starts.

A target with one mode is planted with copies of itself, so that the planted modes have its tails. Otherwise Gaussians as
narrow as the narrowest mode are planted. Narrower ones follow, down to the width at which the search begins to miss them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.devices import normal_draws, uniform_draws
from drl_density.mcmc import LogDensity
from drl_density.partition_function.mode_search.ascent import climb_rows
from drl_density.partition_function.mode_search.climbs import Ground
from drl_density.partition_function.mode_search.record import Power
from drl_density.partition_function.mode_search.screen import MOST_ROWS, Screen
from drl_density.partition_function.mode_search.shape import Shape

FIRST_PLANTS, MORE_PLANTS = 20, 20
"""Planted modes of each case at first, and further ones where at most two of all would be missed."""
LEAST_POWER = 0.95
"""Share of the planted modes that has to be found."""
DEMANDED_MASS, SMALL_MASS = 0.2, 0.05
"""Mass of the case that a verdict demands, and a smaller one that is measured beside it."""
NARROWER = (0.5, 0.25, 0.125)
"""Widths of further cases in units of the demanded one, each measured as long as the one before is found."""
FIRST_STARTS = 128
"""Starts after which the planted modes that attract one of them drop out."""
ARRIVED = 20.0
"""Nats by which a planted mode exceeds the target where a climb has arrived in it: uphill there, all belongs to it."""
NUM_TRIALS = 3
"""Starts from which a planted mode is climbed to: those that it attracts most."""
NUM_CANDIDATES, NUM_RINGS = 32, 64
"""Starts at which a copy of the target is evaluated, those where its pull promises to be strongest, and groups of starts at
like distances by which that is judged."""


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
class Plants:
    """Planted modes, each added to the target alone.

    Attributes:
        seed: mode that is planted.
        centers: places ``(n, d)``.
        width: factor on the mode's widths.
        log_mass: logarithm of the mass of each, in units of the target's own.
    """

    seed: Seed
    centers: Tensor
    width: float
    log_mass: float

    def log_density(self, x: Tensor, plants: Tensor) -> Tensor:
        """Log density of the planted modes, given by index ``(n,)``, at rows ``(n, d)``, ``(n,)``."""
        center = self.seed.shape.center
        own = center + (x - self.centers[plants]) / self.width
        volume = x.shape[1] * float(torch.tensor(self.width).double().log())
        return self.log_mass - volume + self.seed.log_density(own)


@dataclass(frozen=True)
class Soil:
    """What a search in a target with planted modes needs.

    Attributes:
        log_density: target, maps rows ``(n, d)`` to ``(n,)``.
        ground: where random starts lie.
        unit: coordinates in which climbs are taken.
        seed: mode to plant.
        starts: random starts of the search, with the log density at each.
    """

    log_density: LogDensity
    ground: Ground
    unit: Shape
    seed: Seed
    starts: Screen

    def measure(self, radius: float, *, generator: torch.Generator | None) -> tuple[Power, ...]:
        """Plant modes within a radius and look for them by the starts of the search.

        The demanded case comes first: modes of 20 % of the mass. Where these are found, lighter and narrower ones follow.
        """
        demanded = Power(DEMANDED_MASS, self.seed.shape.width, radius, 0, 0, self.seed.is_copy)
        cases = [self.look(demanded, generator)]
        if cases[0].share < LEAST_POWER:
            return tuple(cases)
        cases.append(self.look(dataclasses.replace(demanded, mass=SMALL_MASS), generator))
        for factor in NARROWER:
            cases.append(self.look(dataclasses.replace(demanded, width=factor * demanded.width), generator))
            if cases[-1].share < LEAST_POWER:
                break
        return tuple(cases)

    def look(self, case: Power, generator: torch.Generator | None) -> Power:
        """Plant modes of one case, and count how many are found."""
        found = planted = 0
        for number in (FIRST_PLANTS, MORE_PLANTS):
            plants = self._plant(case, number, generator)
            found, planted = found + int(self._is_found(plants).sum()), planted + number
            if planted - found > (1 - LEAST_POWER) * (FIRST_PLANTS + MORE_PLANTS):
                break
        return dataclasses.replace(case, num_found=found, num_planted=planted)

    def _plant(self, case: Power, number: int, generator: torch.Generator | None) -> Plants:
        """Modes at random places of the ball."""
        like = self.unit.center
        dim = len(like)
        direction = normal_draws((number, dim), like, generator)
        distance = case.radius * uniform_draws((number, 1), like, generator) ** (1 / dim)
        centers = self.ground.center + direction / direction.norm(dim=1, keepdim=True) * distance
        log_mass = float(torch.tensor(case.mass / (1 - case.mass)).double().log())
        return Plants(self.seed, centers, case.width / self.seed.shape.width, log_mass)

    def _is_found(self, plants: Plants) -> Tensor:
        """Which planted modes are found: one that a climb ends in, or that lies so close that the target hides its top."""
        number = len(plants.centers)
        everyone = torch.arange(number)
        with torch.no_grad():
            hidden = plants.log_density(plants.centers, everyone) <= self.log_density(plants.centers).double()
        pulls = torch.full((number, NUM_TRIALS), -torch.inf).double()
        trials = torch.zeros(number, NUM_TRIALS, dtype=torch.long)
        total = len(self.starts.value)
        for first, last in ((0, min(FIRST_STARTS, total)), (FIRST_STARTS, total)):
            (missing,) = ((pulls[:, 0] <= 0) & ~hidden).nonzero(as_tuple=True)
            if last > first and len(missing):
                among = self._candidates(plants, missing, first, last)
                pulls[missing], trials[missing] = self._strongest(plants, missing, among)
        (attracted,) = ((pulls[:, 0] > 0) & ~hidden).nonzero(as_tuple=True)
        is_found = hidden.clone()
        if len(attracted):
            is_found[attracted] = self._climb(plants, attracted, trials[attracted])
        return is_found

    def _candidates(self, plants: Plants, chosen: Tensor, first: int, last: int) -> Tensor:
        """Indices of starts at which each of the chosen plants is evaluated ``(n, k)``.

        A Gaussian is evaluated at all of them. A copy of the target is evaluated only where its pull promises to be
        strongest, by the mean log density of starts as far from the target's own center. Starts that this overlooks can
        only make the search look weaker than it is.
        """
        is_alive = self.starts.value.isfinite()
        if not self.seed.is_copy or last - first <= NUM_CANDIDATES or not is_alive.any():
            return torch.arange(first, last).expand(len(chosen), -1)
        inverse, value, place = self.seed.shape.inverse, self.starts.value, self.starts.position[first:last]
        (alive,) = is_alive.nonzero(as_tuple=True)
        distance, order = self.seed.shape.whiten(self.starts.position[alive]).norm(dim=1).sort()
        number = min(NUM_RINGS, len(alive))
        heights = torch.stack([ring.mean() for ring in value[alive[order]].tensor_split(number)])
        edges = torch.stack([ring[-1] for ring in distance.tensor_split(number)])[:-1]
        away = torch.cdist(plants.centers[chosen] @ inverse.T, place @ inverse.T) / plants.width
        promise = heights[torch.searchsorted(edges, away)] - value[first:last]
        return first + promise.masked_fill(~is_alive[first:last], -torch.inf).topk(NUM_CANDIDATES, dim=1).indices

    def _strongest(self, plants: Plants, chosen: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
        """The starts that each of the chosen plants attracts most ``(n, 3)``: nats above the target, and indices."""
        number = among.shape[1]
        rows, owners = self.starts.position[among.flatten()], chosen.repeat_interleave(number)
        with torch.no_grad():
            parts = zip(rows.split(MOST_ROWS), owners.split(MOST_ROWS), strict=True)
            planted = torch.cat([plants.log_density(*part) for part in parts])
        pulls = planted.unflatten(0, (len(chosen), -1)) - self.starts.value[among]
        # A plant on a start without density, or whose own value is not a number, attracts nothing that climbs can follow.
        pulls = torch.where(pulls.isfinite(), pulls, -torch.inf)
        best = pulls.topk(min(NUM_TRIALS, number), dim=1)
        padding = (0, NUM_TRIALS - best.values.shape[1])
        indices = torch.nn.functional.pad(among.gather(1, best.indices), padding)
        return torch.nn.functional.pad(best.values, padding, value=-torch.inf), indices

    def _climb(self, plants: Plants, attracted: Tensor, trials: Tensor) -> Tensor:
        """Which of the plants a climb from one of their starts ends in; a plant is left once one has arrived."""
        index = trials.flatten()
        plant = attracted.repeat_interleave(NUM_TRIALS)
        unit = self.unit
        lead = torch.full((len(plant),), -torch.inf).double()  # of the plant over the target, at the last trial of each row
        has_arrived = torch.zeros(len(plants.centers), dtype=torch.bool)

        def parts(z: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
            x = unit.color(z)
            return self.log_density(x).double(), plants.log_density(x, plant[chosen])

        def joint(z: Tensor, chosen: Tensor) -> Tensor:
            own, planted = parts(z, chosen)
            lead[chosen] = (planted - own).detach()
            return torch.logaddexp(own, planted)

        def is_done(_: Tensor, taken: Tensor) -> Tensor:
            has_arrived[plant[taken[lead[taken] > ARRIVED]]] = True
            return has_arrived[plant[taken]]

        end = climb_rows(
            joint,
            unit.whiten(self.starts.position[index]),
            scale=0.3 * self.starts.width[index] / unit.width,
            is_done=is_done,
        )
        with torch.no_grad():
            own, planted = parts(end.position, torch.arange(len(plant)))
        ends_there = (end.value.isfinite() & (planted > own)).unflatten(0, (-1, NUM_TRIALS)).any(1)
        return ends_there | has_arrived[attracted]
