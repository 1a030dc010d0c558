"""The sandwich of a bounded network on a base: in one step between draws of the base and draws of level 0.

A path from the base :math:`b` to :math:`F_0 = \\log b + g` has the weight :math:`\\exp g` in both directions, so neither
direction evaluates b. Chains that serve the upper side take independent proposals from b, which cross to any mode, and
adjusted steps of the kernel. Two annealing runs look for mass where b draws nothing: one from b in even shares of g, one
along the noise levels.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from drl_density.mcmc import Independence, take_steps
from drl_density.model import EnergySequence
from drl_density.partition_function.annealing.path import sequence_path
from drl_density.partition_function.annealing.plan import plan_annealing
from drl_density.partition_function.annealing.progress import Progress, Watch
from drl_density.partition_function.annealing.run import anneal
from drl_density.partition_function.equilibrium import equilibrium_estimates
from drl_density.partition_function.importance import (
    LEAST_EVEN_EFFICIENCY,
    base_draws,
    base_path,
    has_weighted_base,
    importance_efficiency,
    importance_sampling,
    proposals_per_draw,
    resampled_draws,
    tilts,
)
from drl_density.partition_function.two_sided.estimates import Estimator
from drl_density.partition_function.two_sided.settings import SandwichSettings
from drl_density.partition_function.two_sided.walks import Route, Walks
from drl_density.weights import Estimate, LogPartitionEstimate, assess_weights

NUM_BRIDGES = 6
"""Densities between the base and level 0 for the annealing run that checks the single step, at an efficiency of 0.1."""

ANNEALED_SHARE, NOISE_SHARE = 4, 8
"""Particles of the single step for each particle of the annealing from the base, and along the noise levels."""

STEPS_PER_LEVEL, NUM_TRANSITIONS = 2, 2
"""Densities for each noise level of the annealing along them, and kernel steps on each."""

LEAST_SUFFICIENT_EFFICIENCY = 0.5
"""Importance efficiency from which independent proposals alone move chains that begin at rows of data."""

OFTEN, SELDOM = (5, 5), (25, 1)
"""Independent proposals in a row, and the kernel steps after them, below and from that efficiency."""


def importance_estimate(
    model: EnergySequence, *, generator: torch.Generator | None = None
) -> LogPartitionEstimate | None:
    """log Z of level 0 by importance sampling from the base, or None without a bounded network on a base."""
    return importance_sampling(model, generator=generator) if has_weighted_base(model) else None


def walk_from_base(
    model: EnergySequence,
    importance: LogPartitionEstimate,
    *,
    data: Tensor | None = None,
    settings: SandwichSettings,
    generator: torch.Generator | None = None,
    watch: Watch | None = None,
) -> tuple[Route, Walks]:
    """Walk between the base and level 0 in both directions.

    Args:
        model: sequence with a bounded network on a base.
        importance: importance sampling from the base, whose efficiency says how many draws are resampled.
        data: rows ``(n, *event)`` in model space from which a second set of chains starts.
        settings: sizes; the annealing runs take a quarter and an eighth of the particles.
        watch: called with the progress of the annealing run from the base.
    """
    smaller = dataclasses.replace(settings, num_particles=max(2, settings.num_particles // ANNEALED_SHARE))
    efficiency = importance_efficiency(importance.log_weights)
    path, ais = base_path(model, num_bridges=bridges_for(efficiency)), smaller.annealing()
    # As along noise levels, 0 is the target, and the base is on the other side.
    path = dataclasses.replace(path, levels=tuple(1 - share for share in path.levels))
    plan = plan_annealing(path, ais, generator=generator)
    shape = (settings.num_replicates, settings.num_particles)

    def downward(num_particles: int, generator: torch.Generator | None) -> Tensor:
        weights = tilts(model, base_draws(model, settings.num_replicates * num_particles, 0.0, generator), 0.0)
        return weights.reshape(settings.num_replicates, num_particles)

    def upward(draws: Tensor, generator: torch.Generator | None) -> Tensor:
        return tilts(model, draws.flatten(0, 1), 0.0).reshape(draws.shape[:2])

    def mixed(start: Tensor) -> Tensor:
        moves = SELDOM if efficiency >= LEAST_SUFFICIENT_EFFICIENCY else OFTEN
        return _mixed(route, model, start, settings.num_mixing_steps, moves, generator)

    route = Route(path, plan, smaller, downward, upward, origin="the reference")
    run = route.run(generator=generator, watch=watch)
    if watch is not None:
        watch(Progress("paths in both directions"))
    count = shape[1] * proposals_per_draw(efficiency)
    starts = [
        resampled_draws(model, shape[1], num_proposals=count, generator=generator)[0]
        for _ in range(settings.num_replicates)
    ]
    start = torch.stack(starts)
    reverse_from_data = None
    if data is not None:
        from_data = data.to(start)[torch.randint(len(data), shape, generator=generator)]
        reverse_from_data = upward(mixed(from_data), generator)
    forward = downward(settings.num_particles * steps_for(efficiency), generator)
    draws = mixed(start)
    walks = Walks(
        run=run,
        forward=forward,
        reverse=upward(draws, generator),
        equilibrium=equilibrium_estimates(path, run.kept, generator=generator),
        reverse_from_data=reverse_from_data,
        others={
            Estimator.IMPORTANCE: with_error(importance),
            Estimator.NOISE: _annealed_along_noise(model, settings, generator),
        },
        draws=draws,
    )
    return route, walks


def bridges_for(efficiency: float) -> int:
    """Densities of the annealing that checks the single step: each bridge is as easy as at an efficiency of 0.1.

    For normally distributed log weights the efficiency is exp(-variance), and K bridges divide the variance by K squared.

    >>> [bridges_for(efficiency) for efficiency in (1.0, 0.1, 0.05, 0.01)]
    [6, 6, 7, 9]
    """
    variances = math.log(min(efficiency, LEAST_EVEN_EFFICIENCY)) / math.log(LEAST_EVEN_EFFICIENCY)
    return math.ceil(NUM_BRIDGES * math.sqrt(variances))


def steps_for(efficiency: float) -> int:
    """Steps from the base for each particle, so many that they are worth as much as at an efficiency of 0.1.

    >>> [steps_for(efficiency) for efficiency in (1.0, 0.1, 0.05, 0.01)]
    [1, 1, 2, 10]
    """
    return math.ceil(max(1.0, LEAST_EVEN_EFFICIENCY / efficiency))


def with_error(estimate: LogPartitionEstimate) -> Estimate:
    """The value of an estimate, with the larger of its two errors."""
    return Estimate(estimate.log_z, estimate.larger_error)


def _mixed(
    route: Route,
    model: EnergySequence,
    start: Tensor,
    num_steps: int,
    moves: tuple[int, int],
    generator: torch.Generator | None,
) -> Tensor:
    """Positions after ``num_steps`` independent proposals from the base, with steps of the kernel in between.

    Independent proposals cross to any mode. Chains at rows where the tilt is high refuse most of them, and leave by steps of
    the kernel.

    Args:
        moves: proposals in a row, and kernel steps after them.
    """

    def weight(rows: Tensor) -> Tensor:
        return tilts(model, rows, 0.0).to(rows.device)

    far = Independence(lambda count, source: base_draws(model, count, 0.0, source))
    x, (num_proposals, num_kernel_steps) = start.flatten(0, 1), moves
    for first in range(0, num_steps, num_proposals):
        number = min(num_proposals, num_steps - first)
        taken = take_steps(far, far.init(x, weight), weight, num_steps=number, step_size=1.0, generator=generator)
        x = route.mixed(taken.state.position[None], num_kernel_steps, generator=generator)[0]
    return x.reshape(start.shape)


def _annealed_along_noise(
    model: EnergySequence, settings: SandwichSettings, generator: torch.Generator | None
) -> Estimate:
    """log Z by annealing along the noise levels, with few particles."""
    few = dataclasses.replace(
        settings,
        num_particles=max(2, settings.num_particles // NOISE_SHARE),
        num_transitions=NUM_TRANSITIONS,
        num_kept=0,
    ).annealing()
    path = sequence_path(model, steps_per_level=STEPS_PER_LEVEL)
    run = anneal(path, plan_annealing(path, few, generator=generator), few, generator=generator)
    return with_error(assess_weights(run.log_weights, bias="lower", path=run.summary(few)))
