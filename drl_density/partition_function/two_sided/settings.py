"""Sizes of a sandwich of log Z."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from drl_density.mcmc import MALA, Kernel
from drl_density.partition_function.annealing.settings import AISSettings
from drl_density.records.fields import Interval, NonNegativeInt, PositiveFloat, PositiveInt, check_fields


@dataclass(frozen=True)
class SandwichSettings:
    """Numbers of particles, replicates and steps of a two-sided estimate of log Z.

    Attributes:
        num_particles: particles, and paths in each direction, per replicate. A target without levels begins with a quarter
            of them, takes more in each round that leaves log Z unsettled, and adds batches until ``tolerance`` is reached.
        num_replicates: independent replicates; where their spread is the error, the interval uses Student's t.
        num_transitions: kernel steps on every density of the annealing path.
        tolerance: half width of the 95 % interval, nats, at which a target without levels is done. What a verdict calls
            large is measured by it: an error of twice, a movement of once this much is doubtful.
        most_batches: batches of ``num_particles`` times ``num_replicates`` paths that a target without levels takes at most
            to reach the tolerance.
        most_rounds: largest number of bases fitted in turn to a target without levels, at least 4. Rounds end early once
            log Z stays the same; the runs of all rounds are discarded.
        steps_per_level: densities per level of the annealing path along a sequence.
        path_steps_per_level: grid steps per level of the reverse path along a sequence; when not given 12, and 30 in 48
            dimensions or more. There each replicate takes one path for every 8 particles.
        num_mixing_steps: adjusted steps at the target that draws take before they serve the upper side; four times as many
            in 48 dimensions or more.
        conditional_ess: conditional effective share of the particles at which bridges to a target are placed.
        kernel: adjusted kernel of every walk.
        step_spread: see :class:`AISSettings`; when not given 1 along a sequence, 10 on a target without levels.
        num_swept: points around the known modes at which the search for modes of a target without levels looks for narrower
            ones; when not given 8,192 for each particle of a replicate, and 524,288 at most. Expensive targets, and those
            in one to three dimensions, take fewer. 0 turns this off; more find narrower modes.
        num_kept: draws that each replicate keeps of every annealing density for the multistate estimate.

    Raises:
        ValueError: fewer than 2 particles or replicates, or fewer than 4 rounds.

    >>> SandwichSettings(num_particles=64).annealing().num_particles
    64
    """

    num_particles: Annotated[int, Interval(2)] = 512
    num_replicates: Annotated[int, Interval(2)] = 8
    num_transitions: PositiveInt = 4
    tolerance: PositiveFloat = 0.05
    most_batches: PositiveInt = 8
    most_rounds: int = 8
    steps_per_level: PositiveInt = 8
    path_steps_per_level: PositiveInt | None = None
    num_mixing_steps: NonNegativeInt = 50
    conditional_ess: Annotated[float, Interval(0, 1, is_low_open=True, is_high_open=True)] = 0.98
    kernel: Kernel = field(default_factory=MALA)
    step_spread: Annotated[float, Interval(1)] | None = None
    num_swept: NonNegativeInt | None = None
    num_kept: NonNegativeInt = 16

    def __post_init__(self) -> None:
        check_fields(self)
        if self.most_rounds < 4:
            raise ValueError(
                f"most_rounds must be at least 4, so that three fitted bases can agree, got {self.most_rounds}"
            )

    def annealing(self, *, resample_below: float | None = 0.5) -> AISSettings:
        """Settings of the annealing runs, see :class:`AISSettings` for ``resample_below``."""
        return AISSettings(
            num_particles=self.num_particles,
            num_replicates=self.num_replicates,
            num_transitions=self.num_transitions,
            num_pilot_particles=self.num_particles,
            kernel=self.kernel,
            resample_below=resample_below,
            step_spread=1.0 if self.step_spread is None else self.step_spread,
            num_kept=min(self.num_kept, self.num_particles) if resample_below is not None else 0,
        )
