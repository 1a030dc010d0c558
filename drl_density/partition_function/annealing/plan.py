"""Step sizes and scales of an annealing run, tuned on a pilot whose particles are thrown away."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.errors import NumericalError
from drl_density.log_weights import carried_weights
from drl_density.mcmc import Tuner, take_steps
from drl_density.partition_function.annealing.path import AnnealingPath, evaluated
from drl_density.partition_function.annealing.settings import AISSettings
from drl_density.records.brief import brief
from drl_density.shapes import spread
from drl_density.weights import resample, weight_ess


@dataclass(frozen=True, eq=False)
class AISPlan:
    """Step size and diagonal scale for each density of a path, fixed by a pilot.

    Attributes:
        step_sizes: tuned step size on every density.
        scales: standard deviations ``(*event)`` of the pilot's particles on every density.
        acceptance_rates: mean acceptance of the pilot's last step on every density.
    """

    step_sizes: tuple[float, ...]
    scales: tuple[Tensor, ...]
    acceptance_rates: tuple[float, ...]

    __repr__ = brief


def spread_or_one(x: Tensor) -> Tensor:
    """Standard deviation of every coordinate of rows ``x``, 1 where a coordinate does not vary, or for a single row."""
    found = spread(x)
    return torch.where(found > 0, found, torch.ones_like(found))


def lost_at(index: int, share_alive: float = 0.0) -> str:
    """The end of a message about particles whose weights are all zero.

    Args:
        index: index of the density in its path.
        share_alive: share of all particles of the run with a weight above zero.

    >>> lost_at(3).partition(":")[0]
    'lost its weight at density 3 of the path, where 0 of all particles are alive'
    """
    return (
        f"lost its weight at density {index} of the path, where {share_alive:.2g} of all particles are alive: use more "
        "particles, a base whose mass lies where the target has density, or a target that states its support"
    )


@outside_inference_mode
def plan_annealing(
    path: AnnealingPath, settings: AISSettings, *, generator: torch.Generator | None = None, num_tuning: int = 4
) -> AISPlan:
    """Tune step sizes and diagonal scales on a pilot whose particles are discarded.

    On each density the scale is the particles' standard deviation. The step size starts from the density before and
    follows the acceptance by Robbins-Monro steps.

    Args:
        path: densities from a base with exact draws to the target.
        settings: sizes of the run to come; the size of its pilot, its kernel and its spread of step sizes are used.
        num_tuning: smallest number of kernel steps on every density.

    Raises:
        NumericalError: every particle of the pilot lost its weight.

    >>> import pyro.distributions as dist
    >>> from drl_density.partition_function import AISSettings, geometric_path
    >>> base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    >>> path = geometric_path(base, lambda x: -2 * (x**2).sum(-1), num_bridges=5)
    >>> len(plan_annealing(path, AISSettings(num_pilot_particles=16)).step_sizes)
    5
    """
    x = path.draw(settings.num_pilot_particles, generator)
    step_size, steps, scales, rates = 1.0, [], [], []
    weights = torch.zeros(len(x), dtype=torch.float64)
    previous = path.base.log_prob(x).double().cpu()
    for index, log_density in enumerate(path.log_densities):
        current = evaluated(log_density, x)
        weights = carried_weights(weights, current, previous)
        if not bool((weights > -math.inf).any()):
            raise NumericalError(f"every particle of the pilot {lost_at(index)}")
        if not weight_ess(weights) >= 0.5 * len(x):
            x = x[resample(weights, len(x), generator=generator)]
            weights = torch.zeros_like(weights)
        scale = spread_or_one(x)
        tuner, kernel = Tuner(settings.adaptation, step_size), settings.kernel.with_scale(scale)
        state, _, last = take_steps(
            kernel,
            kernel.init(x, log_density),
            log_density,
            num_steps=max(num_tuning, settings.num_transitions),
            step_size=tuner,
            spread=settings.step_spread,
            generator=generator,
        )
        x, previous = state.position, state.log_density.double().cpu()
        step_size = float(tuner.current)
        steps.append(step_size)
        scales.append(scale)
        rates.append(float(last.acceptance_probability.mean()))
    return AISPlan(tuple(steps), tuple(scales), tuple(rates))
