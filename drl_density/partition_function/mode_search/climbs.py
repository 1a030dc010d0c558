"""Climbs of one search, with where each began."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.devices import normal_draws, uniform_draws
from drl_density.mcmc import LogDensity
from drl_density.partition_function.annealing.plan import spread_or_one
from drl_density.partition_function.mode_search.ascent import Climb, climb, resolved
from drl_density.partition_function.mode_search.components import ComponentBase
from drl_density.partition_function.mode_search.grouping import Grouping, group_ends
from drl_density.partition_function.mode_search.screen import Screen, screen, sweep, work_per_row
from drl_density.partition_function.mode_search.shape import Shape, measure_shape
from drl_density.partition_function.target_bases.contract import FlatBase

WIDEST = 64.0
"""Width of the widest starts, in units of the base; the others are spread evenly in its logarithm down to 1."""
FIRST_CLIMBS = 8
"""Climbs before the shape of the best end becomes the unit of all later ones."""
PILOT_STARTS, DATA_STARTS = 8, 24
"""Climbs from the particles of each pilot, and at most from rows of data."""
NUM_LOCAL, LOCAL_MODES, LOCAL_SCALES = 64, 8, (1e-3, 8.0)
"""Points around the center of a mode that are screened, the number of modes that have them, and the range of their distances
in widths of the mode."""
NUM_UNIT_DRAWS = 256
"""Draws of the base that show its centre and spread."""
CHEAP_WORK, LEAST_SHARE, FULL_DIM = 160, 1 / 32, 4
"""Numbers computed per point up to which a sweep has all its points, the share of them that it has at any cost, and the
dimension from which it has all; each dimension less halves them. See :func:`work_per_row`."""
MOST_SWEPT_CLIMBS, FIRST_STEP = 32, 0.03
"""Climbs from the points of a sweep, and the length of their first step in widths of the highest optimum."""
RANDOM, GIVEN = -1, -2
"""Marks of climbs from random starts, and from data, hints and points around known modes; pilots are counted from 0."""


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

    def starts(self, number: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Starts ``(n, d)`` from the base stretched by widths of 1 to 64, and the width of each ``(n,)``.

        The logarithms of the widths are stratified, in random order.
        """
        strata = torch.randperm(number, generator=generator).to(self.center.device)
        shares = (strata + uniform_draws((number,), self.center, generator)) / number
        widths = WIDEST**shares
        draws = self.base.draw(number, generator).double()
        return self.center + widths[:, None] * (draws - self.center), widths * self.spread

    def highest(self) -> Tensor:
        """The highest point of the base ``(1, d)``, or the centre where the base has no gradient."""
        # Adding nothing ties a base without a gradient to the rows, so that it has the gradient zero.
        return climb(lambda x: self.base.log_prob(x) + 0.0 * x.sum(-1), self.center[None]).position

    @property
    def radius(self) -> float:
        """Distance from the centre within which starts surround a mode.

        A mode as wide as one at the centre attracts the starts that lie beyond half its distance in its direction. In one
        direction, starts of the largest width reach about that width.
        """
        return WIDEST * self.spread


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
        self._counts: list[Tensor] = []
        self._random: list[Screen] = []
        self._grouping = Grouping.empty()

    def find_unit(self, generator: torch.Generator | None) -> None:
        """Climb from a few random starts in the coordinates of the target, and measure the highest optimum among their ends.

        Its shape gives the units of all later climbs, in which a badly scaled target is round.
        """
        starts, widths = self.ground.starts(FIRST_CLIMBS, generator)
        self._random.append(screen(self.log_density, starts, widths, ()))
        first = resolved(self.log_density, climb(self.log_density, starts, scale=widths))
        self._keep(first, RANDOM)
        if bool(first.value.isfinite().any()):
            self.unit = measure_shape(self.log_density, first.position[first.value.argmax()])

    def from_random(self, number: int, most_climbs: int, shapes: Sequence[Shape], generator: torch.Generator | None) -> int:
        """Look at random starts in turn, and climb from those whose gradient does not point to a known mode.

        A start from which a Newton step by the curvature of a known mode lands on its center counts as a climb that ended
        there. Starts after ``most_climbs`` climbs are left out.

        Returns:
            Number of climbs.
        """
        looked = screen(self.log_density, *self.ground.starts(number, generator), shapes)
        looked = looked.until(most_climbs)
        self._random.append(looked)
        for index, shape in enumerate(shapes):
            if count := int((looked.owner == index).sum()):
                self._keep(_at(shape), RANDOM, torch.tensor([count]))
        is_open = looked.is_open | ~looked.value.isfinite()
        if bool(is_open.any()):
            self._climb(looked.position[is_open], 0.3 * looked.width[is_open], RANDOM)
        return int(looked.is_open.sum())

    def from_pilots(self, pilots: Sequence[Tensor]) -> None:
        """Climb from particles of pilots ``(n, d)``."""
        for index, particles in enumerate(pilots):
            chosen = particles[:PILOT_STARTS].double()
            lengths = 0.1 * spread_or_one(particles.double()).mean().expand(len(chosen))
            self._climb(chosen, lengths, index)

    def from_given(self, data: Tensor | None, starts: Tensor | None, generator: torch.Generator | None) -> None:
        """Climb from rows of data ``(n, d)``, of which at most 24 are used, and from all hints ``(n, d)``."""
        for given, most in ((data, DATA_STARTS), (starts, None)):
            if given is not None:
                chosen = given[torch.randperm(len(given), generator=generator)[:most].to(given.device)].double()
                self._climb(chosen, torch.full((len(chosen),), 0.1 * self.ground.spread).double(), GIVEN)

    def from_inside(self, shapes: Sequence[Shape], most_climbs: int, generator: torch.Generator | None) -> None:
        """Look around the centers of known modes and of the base, at distances of many scales.

        A narrow mode inside a wide one attracts only points close to it.
        """
        centers = torch.cat([self.ground.center[None], self.ground.highest()])
        rows, widths = [centers], [torch.full((2,), 1e-2 * self.ground.spread).double()]
        low, high = (torch.tensor(bound).double().log() for bound in LOCAL_SCALES)
        for shape in shapes[:LOCAL_MODES]:
            scales = (low + (high - low) * uniform_draws((NUM_LOCAL,), shape.center, generator)).exp()
            rows.append(shape.color(scales[:, None] * normal_draws((NUM_LOCAL, len(shape.center)), shape.center, generator)))
            widths.append(scales * shape.width)
        looked = screen(self.log_density, torch.cat(rows), torch.cat(widths), shapes).until(most_climbs)
        if bool(looked.is_open.any()):
            self._climb(looked.position[looked.is_open], 0.1 * looked.width[looked.is_open], GIVEN)

    def from_sweep(self, known: ComponentBase, number: int, generator: torch.Generator | None) -> None:
        """Look at very many points around the known components, and climb from those that exceed them by most.

        A needle beside a wide mode attracts so few points that thousands of climbs miss it. Points whose gradient points to
        a known mode are not climbed from.

        Args:
            known: components at what is known.
            number: points for a cheap target in four dimensions or more. An expensive one takes down to a 32nd of them, and
                one, two and three dimensions an eighth, a quarter and a half.
        """
        shapes, dim = known.largest(LOCAL_MODES).shapes, known.event_shape[0]
        work = work_per_row(self.log_density, known.draw(NUM_LOCAL, generator).double())
        work += len(known.shapes) * (12 + dim**2 / 4)  # numbers of the components' own log density
        number = math.ceil(number * min(1.0, 2.0 ** (dim - FULL_DIM), max(LEAST_SHARE, CHEAP_WORK / work)))
        points = sweep(self.log_density, shapes, known.log_gaussians, number, generator=generator)
        width = 1.0 if self.unit is None else self.unit.width
        looked = screen(self.log_density, points, torch.full((len(points),), FIRST_STEP * width), known.shapes)
        looked = looked.until(MOST_SWEPT_CLIMBS)
        if bool(looked.is_open.any()):
            self._climb(looked.position[looked.is_open], looked.width[looked.is_open], GIVEN)

    @property
    def origins(self) -> Tensor:
        """Mark of the origin of each climb ``(n,)``."""
        return torch.cat(self._origins)

    @property
    def counts(self) -> Tensor:
        """Number of climbs that each end stands for ``(n,)``."""
        return torch.cat(self._counts)

    @property
    def ends(self) -> Climb:
        """End points of all climbs."""
        parts = [(one.position, one.value, one.is_at_rest) for one in self._ends]
        return Climb(*(torch.cat(part) for part in zip(*parts, strict=True)))

    @property
    def random(self) -> Screen:
        """All random starts, with the log density at each."""
        return Screen(*(torch.cat([getattr(one, part.name) for one in self._random]) for part in dataclasses.fields(Screen)))

    @property
    def num_random(self) -> int:
        """Number of climbs from random starts."""
        return int(self.counts[self.origins == RANDOM].sum()) if self._ends else 0

    @property
    def num_lost(self) -> int:
        """Number of starts where the density is zero or not a number, or that climbed to a mode too narrow for float64."""
        return int((~self.ends.value.isfinite()).sum()) if self._ends else 0

    def grouping(self) -> Grouping:
        """End points grouped into modes; optima that were measured before are not measured again."""
        self._grouping = group_ends(self.log_density, self.ends, earlier=self._grouping)
        return self._grouping

    def hits(self, grouping: Grouping, mode: int) -> int:
        """Climbs from random starts that ended in a mode."""
        return int(self.counts[(grouping.labels == mode) & (self.origins == RANDOM)].sum())

    def given(self, grouping: Grouping, mode: int) -> int:
        """Climbs from data, hints and points around known modes that ended in a mode."""
        return int(((grouping.labels == mode) & (self.origins == GIVEN)).sum())

    def pilots(self, grouping: Grouping, mode: int) -> int:
        """Pilots with a particle whose climb ended in a mode."""
        return len(self.origins[(grouping.labels == mode) & (self.origins >= 0)].unique())

    def _climb(self, rows: Tensor, lengths: Tensor, origin: int) -> None:
        unit, density = self.unit, self.log_density
        if unit is None:
            self._keep(resolved(density, climb(density, rows, scale=lengths)), origin)
            return
        end = climb(lambda z: density(unit.color(z)), unit.whiten(rows), scale=lengths / unit.width)
        self._keep(resolved(density, Climb(unit.color(end.position), end.value, end.is_at_rest)), origin)

    def _keep(self, end: Climb, origin: int, counts: Tensor | None = None) -> None:
        self._ends.append(end)
        self._origins.append(torch.full((len(end.value),), origin))
        self._counts.append(torch.ones(len(end.value), dtype=torch.long) if counts is None else counts)


def _at(shape: Shape) -> Climb:
    """A climb that ended at the center of a shape."""
    value = torch.tensor([shape.value], dtype=torch.float64)
    return Climb(shape.center[None], value, torch.ones(1, dtype=torch.bool))
