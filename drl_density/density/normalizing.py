"""Normalising a sequence: its log Z, the step sizes of its sampler, and a pool of its draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.density.data_units import to_data_units
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.model import EnergySequence
from drl_density.partition_function import AISSettings, annealed_importance_sampling, sequence_path
from drl_density.samplers import ProgressivePlan, plan_progressive, sample_progressive
from drl_density.transforms import DataTransform
from drl_density.weights import LogPartitionEstimate

NUM_PILOT = 256
"""Chains to tune step sizes on: an acceptance rate over 256 chains has a standard error of 0.03 or less."""
LEAST_PILOT = 32
"""Pilot chains of an image network at least, which keeps that error below 0.09."""
MOST_PER_LEVEL, MOST_DENSITIES = 8, 400
"""Densities on the annealing path: 8 per level, fewer when a long sequence of levels is a path by itself."""


@dataclass(frozen=True)
class Normalized:
    """What turns a sequence of energies into a density that can be scored and drawn from.

    Attributes:
        estimate: log Z of level 0 in model space, with its error and verdict.
        plan: step sizes of the progressive sampler.
        pool: draws in data units ``(n, d)``, float64.
    """

    estimate: LogPartitionEstimate
    plan: ProgressivePlan
    pool: Tensor


def normalize(
    model: EnergySequence,
    transform: DataTransform,
    settings: FitSettings,
    *,
    generator: torch.Generator | None = None,
) -> Normalized:
    """Estimate log Z by annealing, tune the progressive sampler, and draw the pool.

    Args:
        model: the sequence in model space, frozen.
        transform: the map from data rows ``(n, d)`` to model space.
        settings: resolved settings of the fit, which hold the sizes.
    """
    annealing, per_level = final_annealing(settings)
    path = sequence_path(model, steps_per_level=per_level)
    estimate = annealed_importance_sampling(path, settings=annealing, generator=generator)
    pilot = num_pilot(settings, settings.num_pool_draws)
    plan = plan_progressive(model, generator=generator, num_pilot=pilot)
    draws = sample_progressive(model, settings.num_pool_draws, plan=plan, generator=generator).draws
    return Normalized(estimate, plan, to_data_units(transform, draws))


def final_annealing(settings: FitSettings) -> tuple[AISSettings, int]:
    """Sizes of the annealing run that normalises a fitted density, and its number of densities per level.

    Raises:
        ValueError: settings that have not been resolved.
    """
    if settings.num_levels is None:
        raise ValueError("expected resolved settings, in which the number of levels is known")
    pilot = num_pilot(settings, settings.num_particles)
    annealing = AISSettings(num_particles=settings.num_particles, num_pilot_particles=pilot)
    return annealing, max(1, min(MOST_PER_LEVEL, MOST_DENSITIES // settings.num_levels))


def num_pilot(settings: FitSettings, num_kept: int) -> int:
    """Number of chains to tune on and discard: 256; for image networks at most twice ``num_kept``, and at least 32."""
    return min(NUM_PILOT, max(LEAST_PILOT, 2 * num_kept)) if settings.is_over_images else NUM_PILOT
