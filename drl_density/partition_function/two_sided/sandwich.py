"""The sandwich of any unnormalised distribution."""

from __future__ import annotations

import dataclasses
import math
import time

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.model import EnergySequence
from drl_density.partition_function.targets import Target, WideBase, log_density_over_reals
from drl_density.partition_function.two_sided.record import Sandwich, assemble, missing_paths, warn_if_unusable
from drl_density.partition_function.two_sided.rounds import fit_rounds, flat_base
from drl_density.partition_function.two_sided.sequence import sequence_sandwich
from drl_density.partition_function.two_sided.settings import SandwichSettings
from drl_density.partition_function.two_sided.walks import Rounds, Route, Walks, take_walks

TARGET_STEP_SPREAD = 10.0
"""Range of step sizes on a target without levels: its scale may differ from place to place by about that factor."""

WORTHWHILE = 4
"""Multiple of the largest number of paths beyond which a tolerance is given up; the record says what it takes."""


@outside_inference_mode
def sandwich(
    target: Target | EnergySequence,
    *,
    base: WideBase | None = None,
    data: Tensor | None = None,
    seed: int | None = None,
    tolerance: float | None = None,
    settings: SandwichSettings | None = None,
) -> Sandwich:
    """Two-sided interval of log Z of any unnormalised distribution.

    Warns with :class:`~drl_density.errors.UnreliableEstimateWarning` when the verdict is ``UNRELIABLE`` or ``UNKNOWN``.

    Args:
        target: distribution with ``unnormalized_log_prob`` or ``log_prob`` over all reals, or an :class:`EnergySequence`,
            whose own noise levels are then the path.
        base: normalised distribution of the target's event shape, at least as wide as the target; N(0, I) when not given.
            The first pilot begins there. The base of the run itself is fitted to pilot draws, which are then thrown away,
            and keeps a share of the given one.
        data: rows ``(n, *event)`` known to lie where the target has mass; a second set of chains starts there.
        tolerance: half width of the 95 % interval to reach, nats; that of ``settings`` when not given. Batches of paths are
            added until the interval is so narrow, or the record's ``advice`` says why not and what it would take. Along a
            sequence it only says what counts as a large error.

    Returns:
        :class:`Sandwich` with ``log_z``, ``lower``, ``upper`` and ``verdict``.

    Raises:
        ValueError: base and target of different event shapes, or a target with batch shape or bounded support.
        NumericalError: bridges that cannot be placed, or lost weights.

    >>> import pyro.distributions as dist
    >>> target = dist.Normal(torch.zeros(2), 0.5).to_event(1)
    >>> small = SandwichSettings(num_particles=64, num_replicates=4)
    >>> result = sandwich(target, base=dist.Normal(torch.zeros(2), 1.0).to_event(1), seed=0, settings=small)
    >>> -0.2 < result.log_z < 0.2
    True
    """
    settings = settings or SandwichSettings()
    if tolerance is not None:
        settings = dataclasses.replace(settings, tolerance=tolerance)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    if isinstance(target, EnergySequence):
        return sequence_sandwich(target, data=data, settings=settings, generator=generator)
    unnormalized = log_density_over_reals(target)
    shape = target.event_shape
    if base is not None and base.event_shape != shape:
        raise ValueError(f"base and target must have one event shape, got {tuple(base.event_shape)} and {tuple(shape)}")

    def log_density(x: Tensor) -> Tensor:
        return unnormalized(x.reshape(-1, *shape))

    given = None if base is None else flat_base(base)
    settings = dataclasses.replace(settings, step_spread=settings.step_spread or TARGET_STEP_SPREAD)
    route, rounds = fit_rounds(log_density, shape.numel(), given=given, settings=settings, generator=generator)
    rows = None if data is None else data.flatten(1)
    walks, seconds = _walk_to_tolerance(route, rows, rounds, settings, generator)
    return warn_if_unusable(assemble(route, walks, seconds=seconds))


def _walk_to_tolerance(
    route: Route, data: Tensor | None, rounds: Rounds, settings: SandwichSettings, generator: torch.Generator | None
) -> tuple[Walks, float]:
    """Batches of walks until the interval is as narrow as the tolerance, and the time that they took.

    Whether to go on depends on the width alone, never on the value, so that stopping does not choose among values. Where
    the rounds are unsettled a narrower interval is no better, and one batch is all.
    """
    began = time.perf_counter()
    walks = take_walks(route, data=data, rounds=rounds, generator=generator)
    batch, most = walks.forward.numel(), settings.most_batches * settings.num_replicates * settings.num_particles
    missing = 0 if rounds.unsettled else missing_paths(walks, settings.tolerance)
    while missing and walks.forward.numel() + missing <= WORTHWHILE * most:
        have = walks.forward.numel()
        further = min(math.ceil(min(missing, 3 * have) / batch), (most - have) // batch)
        if not further:
            break
        for _ in range(further):
            walks = take_walks(route, data=data, rounds=rounds, earlier=walks, generator=generator)
        missing = missing_paths(walks, settings.tolerance)
    return walks, time.perf_counter() - began
