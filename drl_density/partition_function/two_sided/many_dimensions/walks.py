"""Everything that is walked for the sandwich of a sequence in many dimensions."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.errors import NumericalError
from drl_density.model import EnergySequence
from drl_density.partition_function.annealing.path import check_integrable, sequence_path
from drl_density.partition_function.annealing.plan import plan_annealing
from drl_density.partition_function.annealing.progress import Progress, Watch, weighed
from drl_density.partition_function.annealing.run import AnnealingRun, anneal
from drl_density.partition_function.annealing.settings import AISSettings
from drl_density.partition_function.equilibrium import EquilibriumEstimates, equilibrium_estimates
from drl_density.partition_function.sequence_paths.particles import (
    OnStep,
    ParticleRun,
    PathWeights,
    noised_path,
    particles_down,
    paths_down,
    paths_up,
)
from drl_density.partition_function.sequence_paths.plan import SequencePlan, plan_paths
from drl_density.partition_function.two_sided.settings import SandwichSettings

LEAST_FEATURES = 48
"""Coordinates from which a sequence counts as one of many dimensions."""
STEPS_PER_LEVEL = 30
"""Steps of a path per level, unless the settings give another number."""
PARTICLES_PER_PATH, LEAST_PATHS = 8, 8
"""Particles of the settings for each path of a replicate, and least number of its paths."""
CHAIN_FACTOR = 4
"""Chains at level 0 take so many times the mixing steps of the settings."""
NUM_SEGMENT_ROWS = 64
"""Rows of data that are walked without any chain before."""
ANNEALED_SHARE, ANNEALED_PER_LEVEL, MOST_ANNEALED, ANNEALED_TRANSITIONS = 4, 2, 48, 2
"""Paths for each annealed particle; densities of the annealing per level, and at most; kernel steps on each."""


@dataclass(frozen=True, eq=False)
class NoiseAnnealing:
    """Annealing along the noise levels with few particles: printed beside the paths, and a lower bound.

    Attributes:
        run: the annealing run.
        settings: its sizes.
        levels: level of each of its densities.
        equilibrium: estimates from its draws of all densities; ``None`` where neighbouring densities share no mass.
    """

    run: AnnealingRun
    settings: AISSettings
    levels: tuple[float, ...]
    equilibrium: EquilibriumEstimates | None


@dataclass(frozen=True, eq=False)
class SequenceWalks:
    """Everything that was walked for one sandwich; all estimates are functions of it.

    Attributes:
        plan: grid, kernels and chains.
        forward: paths from noise down to level 0.
        resampled: particles from noise down to level 0, resampled on the way.
        conditional: the same around one retained path per replicate.
        reverse: paths back from chains that began at the particles.
        reverse_from_data: paths back from chains that began at noised rows of data, where rows were given.
        reverse_from_rows: paths back from noised rows of data themselves, where rows were given.
        draws: states from which ``reverse`` began, ``(replicate, path, *event)``.
        acceptance: mean acceptance of the chains, the smaller one where some began at particles and some at rows.
        annealing: annealing along the noise levels with few particles.
    """

    plan: SequencePlan
    forward: PathWeights
    resampled: ParticleRun
    conditional: ParticleRun
    reverse: PathWeights
    reverse_from_data: PathWeights | None
    reverse_from_rows: PathWeights | None
    draws: Tensor
    acceptance: float
    annealing: NoiseAnnealing


def has_many_dimensions(model: EnergySequence) -> bool:
    """Whether a sequence has 48 coordinates or more, where annealing along its levels collapses.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> has_many_dimensions(GaussianMixtureSequence.example(dim=3).model)
    False
    """
    return model.event_shape.numel() >= LEAST_FEATURES


def paths_per_replicate(settings: SandwichSettings) -> int:
    """Paths of each replicate: an eighth of the particles, since each path is a weighted draw by itself.

    >>> paths_per_replicate(SandwichSettings(num_particles=256))
    32
    """
    return max(LEAST_PATHS, math.ceil(settings.num_particles / PARTICLES_PER_PATH))


def walk_sequence(
    model: EnergySequence,
    *,
    data: Tensor | None = None,
    settings: SandwichSettings,
    generator: torch.Generator | None = None,
    watch: Watch | None = None,
) -> SequenceWalks:
    """Walk a sequence of many dimensions along its noise levels in both directions.

    Args:
        model: sequence whose level 0 is the target.
        data: clean rows ``(n, *event)`` in model space; half of them plan, the others are walked from.
        settings: sizes; a path of a replicate for every 8 particles.
        watch: called with the progress after every step.

    Raises:
        NumericalError: an improper model, or weights that are not finite.
    """
    check_integrable(model)
    shape = (settings.num_replicates, paths_per_replicate(settings))
    steps_per_level = settings.path_steps_per_level or STEPS_PER_LEVEL

    plan = plan_paths(
        model, kernel=settings.kernel, num_steps=model.num_levels * steps_per_level, data=data, generator=generator
    )
    kernels, num_mixing = plan.kernels, CHAIN_FACTOR * settings.num_mixing_steps
    forward = paths_down(kernels, shape, generator=generator, on_step=_watched(watch, "paths down"))
    resampled = particles_down(kernels, shape, generator=generator, on_step=_watched(watch, "particles down"))
    if watch is not None:
        watch(Progress("chains at level 0"))
    moved = plan.chains.moved(resampled.draws(generator=generator), num_mixing, generator=generator)
    reverse = paths_up(kernels, moved.states, generator=generator)
    acceptance, retained = moved.acceptance, moved.states[:, 0]
    reverse_from_data = reverse_from_rows = None
    if plan.rows is not None:
        rows = plan.starts(plan.rows, shape, generator=generator)
        few = plan.starts(plan.rows, (shape[0], math.ceil(NUM_SEGMENT_ROWS / shape[0])), generator=generator)
        reverse_from_rows = paths_up(kernels, few, generator=generator)
        from_data = plan.chains.moved(rows, num_mixing, generator=generator)
        reverse_from_data = paths_up(kernels, from_data.states, generator=generator)
        acceptance, retained = min(acceptance, from_data.acceptance), from_data.states[:, 0]
    conditional = particles_down(
        kernels,
        shape,
        retained=noised_path(kernels, retained, generator=generator),
        generator=generator,
        on_step=_watched(watch, "particles down around a row"),
    )
    return SequenceWalks(
        plan=plan,
        forward=forward,
        resampled=resampled,
        conditional=conditional,
        reverse=reverse,
        reverse_from_data=reverse_from_data,
        reverse_from_rows=reverse_from_rows,
        draws=moved.states,
        acceptance=acceptance,
        annealing=_annealed(model, settings, shape[1], generator),
    )


def _watched(watch: Watch | None, stage: str) -> OnStep | None:
    """What reports the progress of a stage with the estimate from its weights."""
    if watch is None:
        return None

    def on_step(done: int, total: int, weights: Tensor) -> None:
        watch(weighed(stage, done, total, weights))

    return on_step


def _annealed(
    model: EnergySequence, settings: SandwichSettings, num_paths: int, generator: torch.Generator | None
) -> NoiseAnnealing:
    few = dataclasses.replace(
        settings, num_particles=max(2, num_paths // ANNEALED_SHARE), num_transitions=ANNEALED_TRANSITIONS
    ).annealing()
    steps_per_level = max(1, min(ANNEALED_PER_LEVEL, MOST_ANNEALED // model.num_levels))
    path = sequence_path(model, steps_per_level=steps_per_level)
    run = anneal(path, plan_annealing(path, few, generator=generator), few, generator=generator)
    try:
        equilibrium = equilibrium_estimates(path, run.kept, generator=generator)
    except NumericalError:
        # Few draws of so few densities often share no mass in many dimensions. The estimate is printed and decides nothing,
        # so its absence must not cost the result.
        equilibrium = None
    return NoiseAnnealing(run, few, path.levels, equilibrium)
