"""The search for modes: climbs from many starts, pilot runs of several widths, and components at what they find."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.mcmc import MALA, Kernel, LogDensity
from drl_density.partition_function.mode_search.climbs import Climbs, Ground
from drl_density.partition_function.mode_search.components import ComponentBase, Sized, size_components
from drl_density.partition_function.mode_search.grouping import Grouping
from drl_density.partition_function.mode_search.pilots import in_units, run_pilot, widened
from drl_density.partition_function.mode_search.planting import LEAST_POWER, Soil, copied, gaussian
from drl_density.partition_function.mode_search.record import LARGEST_UNSEEN, Mode, ModeSearch, Power, nearest_shapes
from drl_density.partition_function.mode_search.shape import Shape, fitted_shape
from drl_density.partition_function.target_bases.contract import FlatBase

PILOT_WIDTHS = (1.0, 4.0, 16.0, 64.0)
"""Widths of the bases of the pilots, in units of the given base."""
FIRST_STARTS, NEXT_STARTS, MOST_STARTS = 48, 1024, 8192
"""Random starts that are all climbed from, of the first batch after them, and of all batches together."""
MOST_CLIMBS, MOST_INSIDE = 128, 32
"""Largest number of climbs of one batch of starts, and from points around known modes."""
CHEAP, FEW_EXPENSIVE, MOST_EXPENSIVE = 0.1, 3, 6
"""Largest number of climbs per start at which a search continues beyond what is needed, as it costs little; numbers of other
batches after which it ends where so much is still unseen that log Z is unknown, and in any case."""
LEAST_KEPT, MOST_KEPT = 1e-4, 40
"""Share of the mass below which a component is dropped, and the largest number of optima that get one."""
MOST_OF_ONE, MOST_OF_MANY = 4, 8
"""Largest number of optima of one mode that get a component, and of all modes where most are unseen anyway."""
ACCOUNTED, MOST_ABOVE = 0.3, 2.3
"""Effective share of draws from components at the optima from which they account for the target, and nats by which it may
lie above them at any random start: the components then have a tenth of the density there, or more."""
RADII = (1.0, 0.25)
"""Radii within which modes are planted, in units of the radius of the search."""
HOPELESSLY_MANY, ENDLESS = 0.8, 0.5
"""Share of random starts that lead to unknown modes from which a search ends: after the first starts, and after a batch."""
LEAST_FOUND, HOPELESS = 0.01, 0.25
"""Share of the mass from which a mode's width is one that has to be seen; share of the planted modes found below which more
climbs would not help."""
NUM_SWEPT, SWEEPS = 2**19, (1, 4)
"""Points of a sweep around the known modes, and multiples of that number of the first sweep and of a second one, which
follows where the first finds a mode."""
NECK = 5.0
"""Nats by which the mass of a Gaussian at the highest point falls short of that of a mode whose bulk lies elsewhere."""
MOST_NUMBERS = 20_000_000
"""Largest number of matrix entries that components may hold."""


@dataclass(frozen=True)
class Found:
    """The outcome of a search.

    Attributes:
        record: what was found, and by how many searches.
        components: components at the modes and pilots; ``None`` where there are none.
        ground: where the search looked.
    """

    record: ModeSearch
    components: ComponentBase | None
    ground: Ground


def search_modes(
    log_density: LogDensity,
    base: FlatBase,
    *,
    data: Tensor | None = None,
    starts: Tensor | None = None,
    num_particles: int = 64,
    kernel: Kernel | None = None,
    has_gradient: bool = True,
    num_swept: int = NUM_SWEPT,
    generator: torch.Generator | None = None,
) -> Found:
    """Search for the modes of a target by climbs from many starts and by pilot runs of several widths.

    Starts are draws of the base stretched by widths from 1 to 64, rows of data, hints and points around the modes that are
    known. Starts whose gradient points to a known mode are not climbed from, so that thousands are affordable. Four pilot
    runs follow where components at the modes do not account for the target. Then a sweep of very many points around the
    known modes, without gradients, looks for narrower ones. The search continues until the unseen share is below 2 %, and
    beyond that while it is cheap.

    Args:
        log_density: maps rows ``(n, d)`` to ``(n,)``.
        base: base over flat points.
        data: rows ``(n, d)`` known to lie where the target has mass.
        starts: places ``(n, d)`` where modes are expected.
        num_particles: particles of each pilot.
        kernel: adjusted kernel of the pilots; MALA when not given.
        has_gradient: whether the log density can be differentiated; without a gradient pilots search alone.
        num_swept: points of the sweep for a cheap target in four dimensions or more; others have fewer.

    >>> from drl_density.partition_function.target_bases.mixture import MixtureBase
    >>> base = MixtureBase(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None], torch.zeros(1).double())
    >>> def pair(x):
    ...     return torch.logaddexp(-0.5 * x.square().sum(-1), -0.5 * (x - 9).square().sum(-1))
    >>> record = search_modes(pair, base, generator=torch.Generator().manual_seed(0)).record
    >>> len(record.modes), round(record.modes[0].mass, 1), record.unseen < 0.02
    (2, 0.5, True)
    """
    like = base.draw(1, generator)[0]
    counted = _Counted(lambda x: log_density(x.to(like)).double())
    ground = Ground.of(base, generator)
    climbs = Climbs(counted, ground)
    if not has_gradient:
        return _by_pilots_alone(climbs, counted, num_particles, kernel or MALA(), like, generator)
    climbs.find_unit(generator)
    climbs.from_random(FIRST_STARTS, FIRST_STARTS, (), generator)
    climbs.from_given(data, starts, generator)
    state = _State(climbs, counted, like, num_particles, kernel or MALA())
    state.group(generator)
    if state.record.unseen_by_starts <= HOPELESSLY_MANY:
        climbs.from_inside(state.grouping.shapes, MOST_INSIDE, generator)
        state.look(NEXT_STARTS, generator)
        if not state.is_accounted():
            state.run_pilots(generator)
        state.sweep(num_swept, generator)
    while True:
        is_last = state.record.unseen_by_starts > ENDLESS or state.num_expensive >= MOST_EXPENSIVE
        is_last = is_last or climbs.num_random >= MOST_STARTS
        is_last = is_last or (state.record.is_hopeless and state.num_expensive >= FEW_EXPENSIVE)
        if is_last or (state.record.unseen <= LARGEST_UNSEEN and not state.is_cheap):
            power = state.power(generator) if state.record.unseen <= LARGEST_UNSEEN else ()
            is_enough = is_last or not power or not HOPELESS <= power[0].share < LEAST_POWER
            if is_enough:
                record = dataclasses.replace(state.record, power=power, num_evaluations=counted.count)
                components = state.components
                if record.is_hopeless and components is not None:
                    components = components.largest(MOST_OF_MANY)
                return Found(record, components, ground)
        state.look(min(climbs.num_random, MOST_STARTS - climbs.num_random), generator)


class _State:
    """What a search has found so far."""

    def __init__(self, climbs: Climbs, counted: _Counted, like: Tensor, num_particles: int, kernel: Kernel) -> None:
        self.climbs, self.counted, self.like = climbs, counted, like
        self.num_particles, self.kernel = num_particles, kernel
        self.pilots: list[Tensor] = []
        self.grouping, self.num_sized_pilots = Grouping.empty(), 0
        self.components: ComponentBase | None = None
        self.sized: Sized | None = None
        self.is_cheap, self.num_expensive = False, 0

    def group(self, generator: torch.Generator | None) -> None:
        """Group all ends into modes, and size components at them where there are new ones."""
        before, self.grouping = self.grouping, self.climbs.grouping()
        is_new = (before.shapes, before.modes) != (self.grouping.shapes, self.grouping.modes)
        if is_new or len(self.pilots) > self.num_sized_pilots:
            self.components, self.sized = _components(self.counted, self.grouping, self.pilots, self.like, generator)
            self.num_sized_pilots = len(self.pilots)
        self.record = _record(self.climbs, self.grouping, self.sized, len(self.pilots), self.counted)

    def look(self, number: int, generator: torch.Generator | None) -> None:
        """Look at a batch of random starts. What was known already is not grouped again."""
        before = self.climbs.num_random
        num_climbs = self.climbs.from_random(number, MOST_CLIMBS, self.grouping.shapes, generator)
        self.is_cheap = num_climbs <= CHEAP * (self.climbs.num_random - before)
        self.num_expensive += not self.is_cheap
        self.group(generator)

    def is_accounted(self) -> bool:
        """Whether components at the modes explain the target at every random start, so that pilots have nothing to find."""
        if self.sized is None or self.sized.efficiency < ACCOUNTED:
            return False
        starts = self.climbs.random
        above = starts.value - self.sized.log_z - self.sized.base.log_prob(starts.position.to(self.like)).double()
        return float(above.max()) <= MOST_ABOVE

    def run_pilots(self, generator: torch.Generator | None) -> None:
        """Run pilots of four widths, and climb from their particles."""
        self.pilots = _run_pilots(self.climbs, self.num_particles, self.kernel, generator)
        self.climbs.from_pilots(self.pilots)
        self.group(generator)

    def sweep(self, number: int, generator: torch.Generator | None) -> None:
        """Look around the known modes for narrower ones, a second time with more points where the first finds one."""
        for factor in SWEEPS:
            if not number or self.sized is None or self.components is None or not self.sized.efficiency:
                return
            before = self._num_heavy
            self.climbs.from_sweep(self.components, factor * number, generator)
            self.group(generator)
            if self._num_heavy <= before:
                return

    @property
    def _num_heavy(self) -> int:
        return sum(mode.mass >= LEAST_FOUND for mode in self.record.modes)

    def power(self, generator: torch.Generator | None) -> tuple[Power, ...]:
        """How often planted modes are found."""
        return _power(self.climbs, self.record, self.sized, len(self.pilots), generator)


def _record(
    climbs: Climbs, grouping: Grouping, sized: Sized | None, num_pilots: int, counted: _Counted, *, has_gradient: bool = True
) -> ModeSearch:
    return ModeSearch(
        modes=_modes(climbs, grouping, sized) if has_gradient else (),
        num_searches=climbs.num_random,
        num_pilots=num_pilots,
        num_lost=climbs.num_lost,
        radius=climbs.ground.radius,
        efficiency=0.0 if sized is None else sized.efficiency,
        num_evaluations=counted.count,
        has_gradient=has_gradient,
    )


def _by_pilots_alone(
    climbs: Climbs,
    counted: _Counted,
    num_particles: int,
    kernel: Kernel,
    like: Tensor,
    generator: torch.Generator | None,
) -> Found:
    """The outcome of a search without climbs: components at the pilots, no modes and no power."""
    pilots = _run_pilots(climbs, num_particles, kernel, generator)
    nothing = Grouping.empty()
    components, sized = _components(counted, nothing, pilots, like, generator)
    record = _record(climbs, nothing, sized, len(pilots), counted, has_gradient=False)
    return Found(record, components, climbs.ground)


def _power(
    climbs: Climbs, record: ModeSearch, sized: Sized | None, num_pilots: int, generator: torch.Generator | None
) -> tuple[Power, ...]:
    """How often planted modes as narrow as the narrowest that was found are seen, within the largest radius that holds.

    The radius is at least half as far again as the furthest mode. A second, smaller one is tried where the first fails.
    """
    if climbs.unit is None or not record.modes:
        return ()
    ground = climbs.ground
    heavy = [mode.shape for mode in record.modes if mode.mass >= LEAST_FOUND]
    bulk = None if sized is None or len(heavy) != 1 else _bulk(heavy[0], sized, num_pilots)
    heavy = heavy if bulk is None else [bulk]
    if len(record.modes) == 1 or bulk is not None:
        seed = copied(climbs.log_density, heavy[0])
    else:
        log_z = sized.log_z if sized is not None and math.isfinite(sized.log_z) else heavy[0].log_mass
        seed = gaussian(min(heavy, key=lambda shape: shape.width), log_z)
    soil = Soil(climbs.log_density, ground, climbs.unit, seed, climbs.random)
    reach = 1.5 * max(float((shape.center - ground.center).norm()) for shape in heavy)
    power: tuple[Power, ...] = ()
    for share in RADII:
        if power and share * record.radius < reach:
            break
        power = soil.measure(max(share * record.radius, reach), generator=generator)
        if power[0].share >= LEAST_POWER:
            break
    return power


def _bulk(highest: Shape, sized: Sized, num_pilots: int) -> Shape | None:
    """The place and widths of the mass of a target whose one heavy mode has its highest point elsewhere; else ``None``.

    In the neck of a funnel the density is high and the mass is small: widths there say nothing about the mode. Those of the
    pilot run that explains most of the mass do.
    """
    if not num_pilots or not highest.log_mass < sized.log_z - NECK:
        return None
    shares = sized.explained().sum(0)[-num_pilots:]
    return sized.base.shapes[len(sized.base.shapes) - num_pilots + int(shares.argmax())]


class _Counted:
    """A log density that counts the rows that it was evaluated at."""

    def __init__(self, log_density: LogDensity) -> None:
        self.log_density, self.count = log_density, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.count += len(x)
        return self.log_density(x)


def _run_pilots(climbs: Climbs, num_particles: int, kernel: Kernel, generator: torch.Generator | None) -> list[Tensor]:
    """Particles of one pilot for each width; a width whose bridges cannot be placed has none."""
    found, ground, unit = [], climbs.ground, climbs.unit
    for width in PILOT_WIDTHS:
        base, density = widened(ground.base, ground.center, width), climbs.log_density
        if unit is not None:
            base, density = in_units(base, density, unit)
        particles = run_pilot(base, density, num_particles=num_particles, kernel=kernel, generator=generator)
        if particles is not None:
            found.append(particles if unit is None else unit.color(particles))
    return found


def _components(
    log_density: LogDensity,
    grouping: Grouping,
    pilots: list[Tensor],
    like: Tensor,
    generator: torch.Generator | None,
) -> tuple[ComponentBase | None, Sized | None]:
    """Components at the optima and one for each pilot, sized by importance sampling.

    A mode with very many optima is a ring, a shell or a ridge. Gaussians at more of them would not cover it, and every
    evaluation of the base would pay for them.
    """
    optima, of_mode = [], Counter[int]()
    for shape, mode in sorted(zip(grouping.shapes, grouping.modes, strict=True), key=lambda pair: -pair[0].log_mass):
        of_mode[mode] += 1
        if of_mode[mode] <= MOST_OF_ONE:
            optima.append(shape)
    shapes = [*optima[:MOST_KEPT], *(fitted_shape(particles) for particles in pilots)]
    if not shapes or len(shapes) * len(shapes[0].center) ** 2 > MOST_NUMBERS:
        return None, None
    sized = size_components(log_density, shapes, like=like, generator=generator)
    return sized.refined(LEAST_KEPT), sized


def _modes(climbs: Climbs, grouping: Grouping, sized: Sized | None) -> tuple[Mode, ...]:
    """Modes by falling mass, with the searches that found them."""
    laplace = torch.tensor([shape.log_mass for shape in grouping.shapes], dtype=torch.float64).softmax(0)
    of_optimum = torch.tensor(grouping.modes)
    by_laplace = torch.zeros(grouping.num_modes, dtype=torch.float64).index_add(0, of_optimum, laplace)
    by_weights = by_laplace
    if sized is not None and sized.efficiency > 0:
        labels = of_optimum[nearest_shapes(grouping.shapes, sized.draws)]
        by_weights = sized.shares(labels, grouping.num_modes)
    modes = [
        Mode(
            shape=grouping.shapes[grouping.modes.index(index)],
            hits=climbs.hits(grouping, index),
            pilots=climbs.pilots(grouping, index),
            given=climbs.given(grouping, index),
            mass=float(torch.maximum(by_laplace, by_weights)[index]),
            least_mass=float(torch.minimum(by_laplace, by_weights)[index]),
        )
        for index in sorted(set(grouping.modes))
    ]
    return tuple(sorted(modes, key=lambda mode: -mode.mass))
