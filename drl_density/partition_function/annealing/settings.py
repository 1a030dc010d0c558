"""Sizes and rules of an annealing run."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from drl_density.mcmc import MALA, Kernel
from drl_density.mcmc.kernel import StepSize, spread_step_size


@dataclass(frozen=True)
class AISSettings:
    """How an annealing run is carried out.

    Attributes:
        num_particles: particles per replicate.
        num_replicates: independent replicates; their spread gives the standard error.
        num_transitions: kernel steps on every density of the path.
        num_pilot_particles: particles of the discarded pilot.
        kernel: an adjusted kernel.
        resample_below: resample a replicate when its weight ESS falls below this share, None for plain AIS.
        max_rows: rows evaluated at once.
        step_spread: at each transition every particle's step size is divided by a draw, log-uniform between 1 and this,
            for targets whose scale differs from place to place; 1 for none.
        num_kept: draws of every density that each replicate keeps.

    Raises:
        ValueError: an unadjusted kernel, counts that are not positive, a spread below 1, or more draws kept than there
            are particles.

    >>> AISSettings(num_particles=64, num_replicates=4).spread_step(0.5, 64, None)
    0.5
    """

    num_particles: int = 256
    num_replicates: int = 8
    num_transitions: int = 2
    num_pilot_particles: int = 256
    kernel: Kernel = field(default_factory=MALA)
    resample_below: float | None = 0.5
    max_rows: int = 8192
    step_spread: float = 1.0
    num_kept: int = 0

    def __post_init__(self) -> None:
        if not self.kernel.is_adjusted:
            raise ValueError(
                f"annealed importance sampling needs an adjusted kernel, got {self.kernel!r}: an unadjusted one does "
                "not leave the densities invariant and biases log Z; use MALA() or HMC()"
            )
        if min(self.num_particles, self.num_replicates, self.num_transitions, self.num_pilot_particles) < 1:
            raise ValueError(f"counts must be positive, got {self}")
        if self.step_spread < 1 or not 0 <= self.num_kept <= self.num_particles:
            raise ValueError(
                f"need step_spread >= 1 and num_kept from 0 to num_particles, got {self.step_spread}, {self.num_kept}"
            )

    def spread_step(self, step_size: float, num_rows: int, generator: torch.Generator | None) -> StepSize:
        """The step sizes of one transition.

        Args:
            step_size: the plan's.
            num_rows: particles.
            generator: source of randomness.
        """
        return spread_step_size(step_size, self.step_spread, num_rows, generator)
