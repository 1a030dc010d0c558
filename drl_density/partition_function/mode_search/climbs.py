"""Climbs of one search, with where each began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.mcmc import LogDensity
from drl_density.partition_function.annealing.plan import spread_or_one
from drl_density.partition_function.mode_search.ascent import Climb, climb
from drl_density.partition_function.mode_search.grouping import Grouping, group_ends
from drl_density.partition_function.mode_search.shape import Shape, measure_shape
from drl_density.partition_function.target_bases.contract import FlatBase

WIDTHS = (1.0, 4.0, 16.0, 64.0)
"""Widths of the starts, in units of the base."""
FIRST_CLIMBS = 2
"""Climbs from each width before the shape of the best end becomes the unit of all later ones."""
PILOT_STARTS, DATA_STARTS = 8, 24
"""Climbs from the particles of each pilot, and at most from rows of data."""
NUM_UNIT_DRAWS = 256
"""Draws of the base that show its centre and spread."""
RANDOM, GIVEN = -1, -2
"""Marks of climbs from random starts, and from data and hints; pilots are counted from 0."""


@dataclass(frozen=True)
class Ground:
    """Where a search looks.

    Attributes:
        base: base over flat points, whose widths are multiplied.
        center: mean of its draws ``(d,)``.
        spread: mean standard deviation of its draws.
    """

    base: FlatBase
    center: Tensor
    spread: float

    @classmethod
    def of(cls, base: FlatBase, generator: torch.Generator | None) -> Ground:
        """The ground that a base gives."""
        draws = base.draw(NUM_UNIT_DRAWS, generator).double()
        return cls(base, draws.mean(0), float(spread_or_one(draws).mean()))

    def starts(self, per_width: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Starts ``(n, d)`` from the base stretched by every width, and the width of each ``(n,)``."""
        widths = torch.tensor(WIDTHS).double().repeat_interleave(per_width)
        draws = self.base.draw(len(widths), generator).double()
        return self.center + widths[:, None] * (draws - self.center), widths * self.spread

    @property
    def radius(self) -> float:
        """Distance from the centre within which starts surround a mode.

        A mode as wide as one at the centre attracts the starts that lie beyond half its distance in its direction. In one
        direction, starts of the largest width reach about that width.
        """
        return WIDTHS[-1] * self.spread


class Climbs:
    """All climbs of a search.

    Args:
        log_density: maps rows ``(n, d)`` to ``(n,)``.
        ground: where random starts lie.
    """

    def __init__(self, log_density: LogDensity, ground: Ground) -> None:
        self.log_density, self.ground = log_density, ground
        self.unit: Shape | None = None
        self._ends: list[Climb] = []
        self._origins: list[Tensor] = []

    def find_unit(self, generator: torch.Generator | None) -> None:
        """Climb from a few random starts in the coordinates of the target, and measure the highest optimum among their ends.

        Its shape gives the units of all later climbs, in which a badly scaled target is round.
        """
        starts, widths = self.ground.starts(FIRST_CLIMBS, generator)
        first = climb(self.log_density, starts, scale=widths)
        self._keep(first, torch.full((len(starts),), RANDOM))
        if bool(first.value.isfinite().any()):
            self.unit = measure_shape(self.log_density, first.position[first.value.argmax()])

    def add(
        self,
        per_width: int,
        *,
        pilots: Sequence[Tensor] = (),
        data: Tensor | None = None,
        starts: Tensor | None = None,
        generator: torch.Generator | None,
    ) -> None:
        """Climb from random starts of each width, from particles of pilots, from rows of data and from hints.

        Args:
            per_width: random starts of each width.
            pilots: particles of each pilot ``(n, d)``.
            data: rows ``(n, d)``, of which at most 24 are used.
            starts: hints ``(n, d)``, all of which are used.
        """
        random, widths = self.ground.starts(per_width, generator)
        rows, lengths, origins = [random], [0.3 * widths], [torch.full((len(random),), RANDOM)]
        for index, particles in enumerate(pilots):
            chosen = particles[:PILOT_STARTS].double()
            rows.append(chosen)
            lengths.append(0.1 * spread_or_one(particles.double()).mean().expand(len(chosen)))
            origins.append(torch.full((len(chosen),), index))
        for given, most in ((data, DATA_STARTS), (starts, None)):
            if given is not None:
                chosen = given[torch.randperm(len(given), generator=generator)[:most].to(given.device)].double()
                rows.append(chosen)
                lengths.append(torch.full((len(chosen),), 0.1 * self.ground.spread).double())
                origins.append(torch.full((len(chosen),), GIVEN))
        self._climb(torch.cat(rows), torch.cat(lengths), torch.cat(origins))

    @property
    def origins(self) -> Tensor:
        """Mark of the origin of each climb ``(n,)``."""
        return torch.cat(self._origins)

    @property
    def ends(self) -> Climb:
        """End points of all climbs."""
        parts = [(one.position, one.value, one.is_at_rest) for one in self._ends]
        return Climb(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def grouping(self) -> Grouping:
        """End points grouped into modes."""
        return group_ends(self.log_density, self.ends)

    def hits(self, grouping: Grouping, mode: int) -> int:
        """Climbs from random starts that ended in a mode."""
        return int(((grouping.labels == mode) & (self.origins == RANDOM)).sum())

    def given(self, grouping: Grouping, mode: int) -> int:
        """Climbs from data and hints that ended in a mode."""
        return int(((grouping.labels == mode) & (self.origins == GIVEN)).sum())

    def pilots(self, grouping: Grouping, mode: int) -> int:
        """Pilots with a particle whose climb ended in a mode."""
        return len(self.origins[(grouping.labels == mode) & (self.origins >= 0)].unique())

    def _climb(self, rows: Tensor, lengths: Tensor, origins: Tensor) -> None:
        unit, density = self.unit, self.log_density
        if unit is None:
            self._keep(climb(density, rows, scale=lengths), origins)
            return
        end = climb(lambda z: density(unit.color(z)), unit.whiten(rows), scale=lengths / unit.width)
        self._keep(Climb(unit.color(end.position), end.value, end.is_at_rest), origins)

    def _keep(self, end: Climb, origins: Tensor) -> None:
        self._ends.append(end)
        self._origins.append(origins)
