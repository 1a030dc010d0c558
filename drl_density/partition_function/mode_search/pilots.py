"""Small annealing runs from bases of several widths."""

from __future__ import annotations

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.mcmc import Kernel, LogDensity, Tuner, take_steps
from drl_density.partition_function.annealing.path import base_draws, bridge, evaluated
from drl_density.partition_function.annealing.plan import spread_or_one
from drl_density.partition_function.annealing.settings import AISSettings
from drl_density.partition_function.mode_search.shape import Shape
from drl_density.partition_function.target_bases.contract import FlatBase, GivenBase
from drl_density.weights import resample, weight_ess

CONDITIONAL_ESS = 0.6
"""Conditional effective share of the particles at which a pilot's bridges are placed: coarse, since nothing is estimated."""
MOST_BRIDGES, NUM_STEPS = 400, 3
"""Bridges after which a pilot gives up, and kernel steps on each."""
STEP_SPREAD = 10.0
"""Range of the step sizes, as on a target without levels."""


def widened(base: FlatBase, center: Tensor, factor: float) -> GivenBase:
    """The base stretched about a center ``(d,)``."""
    volume = base.event_shape.numel() * torch.tensor(factor).double().log()
    return GivenBase(
        lambda x: base.log_prob(center + (x - center) / factor) - volume.to(x),
        lambda count, generator: center + factor * (base.draw(count, generator) - center),
        base.event_shape,
    )


def in_units(base: FlatBase, log_density: LogDensity, unit: Shape) -> tuple[GivenBase, LogDensity]:
    """A base and a target in the coordinates in which a shape is round; the base loses its constant."""
    moved = GivenBase(
        lambda z: base.log_prob(unit.color(z)),
        lambda count, source: unit.whiten(base.draw(count, source)),
        base.event_shape,
    )
    return moved, lambda z: log_density(unit.color(z))


@outside_inference_mode
def run_pilot(
    base: FlatBase, log_density: LogDensity, *, num_particles: int, kernel: Kernel, generator: torch.Generator | None
) -> Tensor | None:
    """Particles ``(num_particles, d)`` annealed from a base to the target, or ``None`` where no bridge could be placed.

    Args:
        base: normalised base with exact draws.
        log_density: maps rows ``(n, d)`` to ``(n,)``.
        num_particles: number of particles.
        kernel: adjusted kernel of every step.
    """
    settings = AISSettings(num_particles=num_particles, num_pilot_particles=num_particles, kernel=kernel)
    x, annealing, step_size = base_draws(base)(num_particles, generator), 0.0, 1.0
    for _ in range(MOST_BRIDGES):
        gain = evaluated(log_density, x) - evaluated(base.log_prob, x)
        # A particle without density in target or base is left out; infinity would leave no weight to the others.
        gain = torch.where(gain.isfinite(), gain, -torch.inf)
        if not bool(gain.isfinite().any()):
            return None
        step = _longest_step(gain, 1 - annealing)
        if not step > 0:
            return None
        is_last = annealing + step > 1 - 1e-9
        annealing = 1.0 if is_last else annealing + step
        x = x[resample(step * gain, num_particles, generator=generator)]
        between = bridge(base, log_density, annealing)
        tuner, scaled = Tuner(settings.adaptation, step_size), kernel.with_scale(spread_or_one(x))
        taken = take_steps(
            scaled,
            scaled.init(x, between),
            between,
            num_steps=NUM_STEPS,
            step_size=tuner,
            spread=STEP_SPREAD,
            generator=generator,
        )
        x, step_size = taken.state.position, float(tuner.current)
        if is_last:
            return x
    return None


def _longest_step(gain: Tensor, longest: float) -> float:
    """Longest rise of the annealing that keeps the conditional effective share of the particles of finite weight."""
    alive = gain[gain.isfinite()]
    low, high = 0.0, longest
    if float(weight_ess(longest * alive)) >= CONDITIONAL_ESS * len(alive):
        return longest
    for _ in range(30):
        middle = 0.5 * (low + high)
        is_enough = float(weight_ess(middle * alive)) >= CONDITIONAL_ESS * len(alive)
        low, high = (middle, high) if is_enough else (low, middle)
    return low
