"""The other side of a diffusion sampler's log Z: ends of walks, moved on by adjusted chains, and walks back from them."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from drl_density.mcmc import HMC, DualAveraging, Tuner, take_steps
from drl_density.partition_function.annealing.plan import spread_or_one
from drl_density.partition_function.one_sided.other_side import (
    EARLY_SHARE,
    STEP_SPREAD,
    Mixed,
    OtherSideSettings,
    chosen_draws,
    compare,
    with_reasons,
)
from drl_density.partition_function.one_sided.unvisited import unvisited
from drl_density.partition_function.target_bases.contract import GivenBase
from drl_density.weights import Estimate, LogPartitionEstimate, OtherSide

NUM_LEAPFROG, TARGET_ACCEPTANCE, FIRST_STEP_SIZE = 5, 0.8, 0.2
"""Leapfrog steps of a transition, the acceptance that its step size adapts to, and the first step size in units of the
draws' standard deviations."""


class Walker(Protocol):
    """A sampler whose walks can be taken in both directions."""

    event_shape: torch.Size
    is_sequence: bool

    def log_density(self, y: Tensor, /) -> Tensor:
        """Unnormalised log density of the target at rows ``(n, *event)``, ``(n,)``."""
        ...

    def reverse(self, draws: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Log weights ``(n,)`` of walks back from draws ``(n, *event)``."""
        ...

    def sample_reference(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Starts of walks as points of the target ``(n, *event)``."""
        ...

    def log_reference_at(self, x: Tensor, /) -> Tensor:
        """Log density of the starts at points of the target ``(n, *event)``, ``(n,)``."""
        ...


def walks_backwards(
    sampler: Walker,
    ends: Tensor,
    estimate: LogPartitionEstimate,
    sizes: OtherSideSettings,
    *,
    generator: torch.Generator | None = None,
) -> OtherSide:
    """Check log Z of a sampler from the other side.

    Args:
        sampler: the sampler.
        ends: ends of walks ``(replicate, walk, *event)``.
        estimate: log Z of their weights.
        sizes: sizes of the check.

    >>> from drl_density.diffusion_sampler import DiffusionSampler, DiffusionSamplerSettings
    >>> sampler = DiffusionSampler(lambda x: -0.5 * (x**2).sum(-1), (2,), DiffusionSamplerSettings().shares())
    >>> sampler.log_partition(num_samples=200, generator=torch.Generator().manual_seed(0)).other_side.overlap
    1.0
    """
    num_draws = sizes.draws_of(ends.shape[1], len(ends))
    start = chosen_draws(ends, estimate.log_weights, num_draws, generator=generator)
    mixed = _mixed(sampler, start, max(4, sizes.num_mixing_steps // NUM_LEAPFROG), generator)

    def upward(rows: Tensor) -> Tensor:
        with torch.no_grad():
            return sampler.reverse(rows, generator=generator)

    point = Estimate(estimate.log_z, estimate.larger_error)
    found = compare(
        point, estimate.log_weights, mixed, upward, sampler.log_density, pareto_k=estimate.pareto_k
    )
    if sampler.is_sequence or not found.is_sound:
        return found
    shape = sampler.event_shape

    def log_prob(x: Tensor) -> Tensor:
        return sampler.log_reference_at(x.reshape(len(x), *shape))

    def draw(num_rows: int, source: torch.Generator | None) -> Tensor:
        return sampler.sample_reference(num_rows, generator=source).reshape(num_rows, -1)

    reasons = unvisited(
        lambda x: sampler.log_density(x.reshape(len(x), *shape)),
        GivenBase(log_prob, draw, torch.Size([shape.numel()])),
        mixed.late.reshape(len(ends), num_draws, -1),
        estimate.log_z,
        kernel=HMC(num_leapfrog=NUM_LEAPFROG),
        num_swept=sizes.num_swept,
        generator=generator,
    )
    return with_reasons(found, *reasons)


def _mixed(sampler: Walker, start: Tensor, num_steps: int, generator: torch.Generator | None) -> Mixed:
    """Draws moved on by Hamiltonian chains, whose step size adapts before the early draws are kept."""
    kernel = HMC(num_leapfrog=NUM_LEAPFROG, jitter=0.0).with_scale(spread_or_one(start))
    tuner = Tuner(DualAveraging(TARGET_ACCEPTANCE), FIRST_STEP_SIZE)
    num_early = max(1, round(EARLY_SHARE * num_steps))
    state = kernel.init(start, sampler.log_density)
    early = take_steps(
        kernel, state, sampler.log_density, num_steps=num_early, step_size=tuner, generator=generator
    ).state
    tuner.freeze()
    late = take_steps(
        kernel,
        early,
        sampler.log_density,
        num_steps=num_steps - num_early,
        step_size=2 * float(tuner.current),
        spread=2 * STEP_SPREAD,
        generator=generator,
    ).state
    return Mixed(start, early.position, late.position)
