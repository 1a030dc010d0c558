"""Normalising a sequence: its log Z, the plan of its sampler, and a pool of its draws."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.density.data_units import to_data_units
from drl_density.density.settings.normalizing_sizes import NormalizingSizes
from drl_density.model import EnergySequence
from drl_density.partition_function import AISSettings, OtherSideSettings, annealed_importance_sampling, sequence_path
from drl_density.partition_function.importance import checked_importance_sampling
from drl_density.samplers import LevelZeroPlan, plan_level_zero, sample_level_zero
from drl_density.transforms import DataTransform
from drl_density.weights import LogPartitionEstimate, assess_weights

LEAST_WEIGHTS = 16
"""Log weights of a replicate that a reference alone, all of whose weights are 1, is recorded with."""
NUM_MIXING_STEPS = 100
"""Steps of the chains that check annealing along the noise sequence from the other side; evaluate() takes more."""


@dataclass(frozen=True)
class Normalized:
    """What turns a sequence of energies into a density that can be scored and drawn from.

    Attributes:
        estimate: log Z of level 0 in model space, with its error and verdict.
        plan: how level 0 is drawn from, with what that takes.
        pool: draws in data units ``(n, d)``, float64.
        excess: nats by which annealing finds more than importance sampling, beyond both errors; 0 where nothing was
            compared.
    """

    estimate: LogPartitionEstimate
    plan: LevelZeroPlan
    pool: Tensor
    excess: float = 0.0


def normalize(
    model: EnergySequence,
    transform: DataTransform,
    sizes: NormalizingSizes,
    *,
    num_samples: int | None = None,
    estimate: LogPartitionEstimate | None = None,
    generator: torch.Generator | None = None,
) -> Normalized:
    """Estimate log Z, plan how level 0 is drawn from, and draw the pool.

    Args:
        model: the sequence in model space, frozen.
        transform: the map from data rows ``(n, d)`` to model space.
        sizes: sizes of the annealing, of the pool, and of what tunes them.
        num_samples: draws of the base that estimate log Z by importance sampling, checked by annealing from the base; None
            anneals along the noise sequence.
        estimate: log Z where it is known already.
    """
    excess = 0.0
    if model.is_base_alone:
        estimate = assess_weights(torch.zeros(2, LEAST_WEIGHTS, dtype=torch.float64), bias="none-known")
        estimate = dataclasses.replace(estimate, advice="the reference is normalised: log Z is 0 exactly")
    elif estimate is not None:
        pass
    elif num_samples is not None:
        estimate, excess = checked_importance_sampling(model, num_samples=num_samples, generator=generator)
    else:
        annealing = AISSettings(num_particles=sizes.num_particles, num_pilot_particles=sizes.num_pilot_particles)
        path = sequence_path(model, steps_per_level=sizes.steps_per_level)
        check = OtherSideSettings(num_mixing_steps=NUM_MIXING_STEPS)
        estimate = annealed_importance_sampling(path, settings=annealing, other_side=check, generator=generator)
    plan = plan_level_zero(model, generator=generator, num_pilot=sizes.num_pool_pilot)
    draws = sample_level_zero(model, sizes.num_pool_draws, plan=plan, generator=generator).draws
    return Normalized(estimate, plan, to_data_units(transform, draws), excess)
