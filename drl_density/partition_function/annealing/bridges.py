"""Geometric bridges to a target, placed by a pilot whose particles are thrown away."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.errors import NumericalError
from drl_density.log_weights import carried_weights
from drl_density.mcmc import LogDensity, Tuner, take_steps
from drl_density.partition_function.annealing.path import AnnealingPath, Base, bridge, evaluated, geometric_path
from drl_density.partition_function.annealing.plan import AISPlan, spread_or_one
from drl_density.partition_function.annealing.settings import AISSettings
from drl_density.weights import resample, weight_ess

SHORTEST_STEP = 1e-30
"""Rise of the annealing below which bridges are given up."""


@outside_inference_mode
def place_bridges(
    base: Base,
    log_density: LogDensity,
    settings: AISSettings,
    *,
    share: float = 0.9,
    most: int = 2000,
    generator: torch.Generator | None = None,
) -> AnnealingPath:
    """A geometric path with bridges at equal conditional effective sample size, placed on a discarded pilot.

    See :func:`place_and_plan` for step sizes and scales from the same pilot.

    Args:
        base: normalised distribution with exact draws.
        log_density: unnormalised log density of the target.
        settings: sizes of the run to come; the size of its pilot, its kernel and its spread of step sizes are used.
        share: conditional effective sample size of each step, as a share of the pilot's particles.
        most: largest number of bridges.

    Raises:
        NumericalError: more than ``most`` bridges would be needed, or the target has no density where the base has mass.

    Source: Zhou, Johansen and Aston 2016 (conditional effective sample size).

    >>> import pyro.distributions as dist
    >>> from drl_density.partition_function import AISSettings
    >>> base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    >>> path = place_bridges(base, lambda x: -200 * (x**2).sum(-1), AISSettings(num_pilot_particles=64))
    >>> path.levels[0] < 0.1, path.levels[-1]
    (True, 1.0)
    """
    return place_and_plan(base, log_density, settings, share=share, most=most, generator=generator)[0]


@outside_inference_mode
def place_and_plan(
    base: Base,
    log_density: LogDensity,
    settings: AISSettings,
    *,
    share: float = 0.9,
    most: int = 2000,
    generator: torch.Generator | None = None,
) -> tuple[AnnealingPath, AISPlan]:
    """The path of :func:`place_bridges`, and the step sizes and scales to which the same pilot came on it.

    Args and errors are those of :func:`place_bridges`.
    """
    annealings, beta = [], 0.0
    steps, scales, rates = [], [], []
    x = geometric_path(base, log_density, num_bridges=1).draw(settings.num_pilot_particles, generator)
    step_size = 1.0
    while beta < 1:
        gain = carried_weights(torch.zeros(len(x)).double(), evaluated(log_density, x), evaluated(base.log_prob, x))
        alive = gain[gain > -math.inf]
        step = _longest_step(alive, 1.0 - beta, share) if len(alive) else 0.0
        beta = 1.0 if beta + step >= 1 - 1e-9 else beta + step
        annealings.append(beta)
        if len(annealings) > most or step <= 0:
            raise NumericalError(
                f"placing bridges stopped at annealing {beta:.3g} after {len(annealings)} bridges, with {len(alive)} of "
                f"{len(x)} particles where the target has density: base and target are too far apart; give a base nearer to "
                "the target, or more particles where few are left"
            )
        x = x[resample(step * gain, len(x), generator=generator)]
        between = bridge(base, log_density, beta)
        scales.append(spread_or_one(x))
        tuner, kernel = Tuner(settings.adaptation, step_size), settings.kernel.with_scale(scales[-1])
        taken = take_steps(
            kernel,
            kernel.init(x, between),
            between,
            num_steps=max(4, settings.num_transitions),
            step_size=tuner,
            spread=settings.step_spread,
            generator=generator,
        )
        x, step_size = taken.state.position, float(tuner.current)
        steps.append(step_size)
        rates.append(float(taken.last_step.acceptance_probability.mean()))
    bridges = tuple(bridge(base, log_density, value) for value in annealings)
    path = AnnealingPath(base, bridges, geometric_path(base, log_density, num_bridges=1).draw, tuple(annealings))
    return path, AISPlan(tuple(steps), tuple(scales), tuple(rates))


def _longest_step(gain: Tensor, longest: float, share: float) -> float:
    """Longest rise of the annealing, up to ``longest``, that keeps the conditional effective share of the particles.

    Args:
        gain: log target less log base of the particles alive, equally weighted, ``(particle,)``.
    """

    def conditional_share(step: float) -> float:
        return float(weight_ess(step * gain)) / len(gain)

    if conditional_share(longest) >= share:
        return longest
    low, high = 0.0, longest
    # Bisection to a relative accuracy, since the first step towards a target of width 1e-6 is about 1e-12 long.
    while high - low > 1e-9 * high and high > SHORTEST_STEP:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if conditional_share(middle) >= share else (low, middle)
    return low
