"""Sizes and rules of an annealing run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from drl_density.mcmc import MALA, Kernel, RobbinsMonro
from drl_density.records.fields import Interval, NonNegativeInt, PositiveInt, Share, check_fields


@dataclass(frozen=True)
class AISSettings:
    """Sizes and rules of an annealing run.

    Attributes:
        num_particles: number of particles of each replicate.
        num_replicates: independent replicates, whose spread gives the standard error.
        num_transitions: kernel steps on every density of the path.
        num_pilot_particles: particles of the discarded pilot.
        kernel: adjusted kernel of every step.
        resample_below: effective share of the particles below which a replicate is resampled, ``None`` for plain AIS.
        max_rows: largest number of rows evaluated at once.
        step_spread: each particle's step size is divided by a log-uniform draw between 1 and this at every step, for
            targets whose scale differs from place to place; 1 for none.
        num_kept: draws of every density that each replicate keeps.

    Raises:
        ValueError: an unadjusted kernel, counts that are not positive, a spread below 1, or more draws kept than there
            are particles.

    >>> AISSettings(num_particles=64, num_replicates=4).adaptation.target
    0.574
    """

    num_particles: PositiveInt = 256
    num_replicates: PositiveInt = 8
    num_transitions: PositiveInt = 2
    num_pilot_particles: PositiveInt = 256
    kernel: Kernel = field(default_factory=MALA)
    resample_below: Share | None = 0.5
    max_rows: PositiveInt = 8192
    step_spread: Annotated[float, Interval(1)] = 1.0
    num_kept: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.kernel.is_adjusted:
            raise ValueError(
                f"annealed importance sampling needs an adjusted kernel, got {self.kernel!r}: an unadjusted one does "
                "not leave the densities invariant and biases log Z; use MALA() or HMC()"
            )
        if self.num_kept > self.num_particles:
            raise ValueError(f"num_kept must be at most num_particles={self.num_particles}, got {self.num_kept}")

    def check_error(self) -> None:
        """Check that a standard error can be estimated, before anything runs.

        Raises:
            ValueError: a single replicate.
        """
        if self.num_replicates < 2:
            raise ValueError(f"a standard error needs at least 2 replicates, got num_replicates={self.num_replicates}")

    @property
    def adaptation(self) -> RobbinsMonro:
        """Rule by which the step size of a pilot adapts on each density, starting from that of the density before."""
        # With these gains the first step changes the step size by a factor of at most e^0.57, the fourth by e^0.23: four
        # steps follow the change from density to density without chasing the noise of the last acceptance rate.
        return RobbinsMonro(self.kernel.target_acceptance, gain=1.0, decay=0.5)
