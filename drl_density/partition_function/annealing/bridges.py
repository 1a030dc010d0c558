"""Geometric bridges to a target, placed by a pilot whose particles are thrown away."""

from __future__ import annotations


import torch
from torch import Tensor

from drl_density.errors import NumericalError
from drl_density.mcmc import LogDensity, Tuner, take_steps
from drl_density.partition_function.annealing.path import AnnealingPath, Base, bridge, evaluated, geometric_path
from drl_density.partition_function.annealing.plan import spread_or_one
from drl_density.partition_function.annealing.settings import AISSettings
from drl_density.weights import resample, weight_ess


def place_bridges(
    base: Base,
    log_density: LogDensity,
    settings: AISSettings,
    *,
    share: float = 0.9,
    most: int = 2000,
    generator: torch.Generator | None = None,
) -> AnnealingPath:
    """A geometric path whose bridges a discarded pilot places at equal conditional ESS.

    Args:
        base: normalised distribution with exact draws.
        log_density: unnormalised target.
        settings: of the run to come; its pilot's size and kernel are used.
        share: conditional ESS of each step as a share of the pilot's particles.
        most: bridges allowed.
        generator: source of randomness.

    Raises:
        NumericalError: if more than ``most`` bridges would be needed.

    >>> import pyro.distributions as dist
    >>> from drl_density.partition_function import AISSettings
    >>> base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    >>> path = place_bridges(base, lambda x: -200 * (x**2).sum(-1), AISSettings(num_pilot_particles=64))
    >>> path.levels[0] < 0.1, path.levels[-1]
    (True, 1.0)
    """
    annealings, beta = [], 0.0
    x = geometric_path(base, log_density, num_bridges=1).draw(settings.num_pilot_particles, generator)
    step_size = 1.0
    while beta < 1:
        gain = evaluated(log_density, x) - evaluated(base.log_prob, x)

        def conditional_ess(step: float, gain: Tensor = gain) -> float:
            return float(weight_ess(step * gain)) / len(gain)

        low, high = 0.0, 1.0 - beta
        if conditional_ess(high) < share:
            for _ in range(40):
                middle = 0.5 * (low + high)
                low, high = (middle, high) if conditional_ess(middle) >= share else (low, middle)
            high = low
        beta = 1.0 if beta + high >= 1 - 1e-9 else beta + high
        annealings.append(beta)
        if len(annealings) > most or high <= 0:
            raise NumericalError(
                f"placing bridges stopped at annealing {beta:.3g} after {len(annealings)} bridges: base and target are "
                "too far apart, or the target is not finite where the base has mass; give a base nearer to the target"
            )
        x = x[resample(high * gain, len(x), generator=generator)]
        between = bridge(base, log_density, beta)
        tuner, kernel = Tuner(settings.adaptation, step_size), settings.kernel.with_scale(spread_or_one(x))
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
    bridges = tuple(bridge(base, log_density, value) for value in annealings)
    return AnnealingPath(base, bridges, geometric_path(base, log_density, num_bridges=1).draw, tuple(annealings))
