"""Sizes of the computation that normalises a fitted density and fills its pool of draws."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NormalizingSizes"]


NUM_PILOT = 256
"""Chains to tune step sizes on: an acceptance rate over 256 chains has a standard error of 0.03 or less."""

LEAST_PILOT = 32
"""Pilot chains of a network over images at least, which keeps that error below 0.09."""

MOST_PER_LEVEL, MOST_DENSITIES = 8, 400
"""Densities on the annealing path: 8 per level, fewer where a long sequence of levels is a path by itself."""


@dataclass(frozen=True)
class NormalizingSizes:
    """Sizes of the final annealing and of the pool of draws.

    Attributes:
        num_particles: Particles of each annealing replicate.
        num_pilot_particles: Particles that tune the annealing and are thrown away.
        steps_per_level: Intermediate densities of the annealing for each noise level.
        num_pool_draws: Draws that are kept with the density.
        num_pool_pilot: Chains that tune the sampler of these draws and are thrown away.
    """

    num_particles: int
    num_pilot_particles: int
    steps_per_level: int
    num_pool_draws: int
    num_pool_pilot: int

    @classmethod
    def choose(
        cls, num_levels: int, num_particles: int, num_pool_draws: int, *, is_over_images: bool
    ) -> NormalizingSizes:
        """The sizes for so many levels, particles and draws.

        The annealing takes 8 densities a level, fewer where 50 levels or more would exceed 400 in all. Pilots have 256
        chains; networks over images, which are expensive to evaluate, take twice what is kept, from 32 to 256.

        >>> NormalizingSizes.choose(10, 16, 64, is_over_images=True)
        NormalizingSizes(num_particles=16, num_pilot_particles=32, steps_per_level=8, num_pool_draws=64, num_pool_pilot=128)
        """

        def pilot(num_kept: int) -> int:
            return min(NUM_PILOT, max(LEAST_PILOT, 2 * num_kept)) if is_over_images else NUM_PILOT

        return cls(
            num_particles=num_particles,
            num_pilot_particles=pilot(num_particles),
            steps_per_level=max(1, min(MOST_PER_LEVEL, MOST_DENSITIES // num_levels)),
            num_pool_draws=num_pool_draws,
            num_pool_pilot=pilot(num_pool_draws),
        )
