"""The sandwich of any unnormalised distribution."""

from __future__ import annotations

import dataclasses
import math
import time

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.errors import NumericalError, Verdict
from drl_density.mcmc import RandomWalk
from drl_density.model import EnergySequence
from drl_density.partition_function.mode_search.search import NUM_SWEPT, Found, search_modes
from drl_density.partition_function.tails.examine import examine_tails, screen_tails
from drl_density.partition_function.target_bases.contract import KeptBase
from drl_density.partition_function.target_bases.defended import DefendedBase
from drl_density.partition_function.targets.contract import Target, WideBase
from drl_density.partition_function.targets.prepare import PreparedTarget, prepare_target
from drl_density.partition_function.two_sided.record import (
    Sandwich,
    assemble,
    missing_paths,
    unfinished,
    warn_if_unusable,
)
from drl_density.partition_function.two_sided.rounds import fit_rounds
from drl_density.partition_function.two_sided.sequence import sequence_sandwich
from drl_density.partition_function.two_sided.settings import SandwichSettings
from drl_density.partition_function.two_sided.walks import Rounds, Route, Walks, take_walks
from drl_density.records.given import given_or_default

TARGET_STEP_SPREAD = 10.0
"""Range of step sizes on a target without levels: its scale may differ from place to place by about that factor."""

MOST_PILOT_PARTICLES = 256
"""Particles of each pilot of the search for modes, where a replicate has so many."""
SWEPT_PER_PARTICLE = 8192
"""Largest number of points of the search's sweep for each particle of a replicate, so that small runs stay short."""
NUM_SCREENED = 128
"""Points of each of two groups by which a target is screened for an infinite integral."""
LEAST_EFFICIENCY = 0.1
"""Effective share of draws from components at one mode from which bases keep a share of them."""
HOPELESS_ROUNDS, HOPELESS_PARTICLES, HOPELESS_STEPS, HOPELESS_ESS = 1, 64, 20, 0.9
"""Rounds, particles per replicate, mixing steps and conditional effective share at most where the search has shown that
log Z stays unknown."""
WORTHWHILE = 4
"""Multiple of the largest number of paths beyond which no batches are added; the record states what the tolerance takes."""


@outside_inference_mode
def sandwich(
    target: Target | EnergySequence,
    *,
    base: WideBase | None = None,
    data: Tensor | None = None,
    starts: Tensor | None = None,
    seed: int | None = None,
    tolerance: float | None = None,
    settings: SandwichSettings | None = None,
) -> Sandwich:
    """Two-sided interval of log Z of any unnormalised distribution.

    Warns with :class:`~drl_density.errors.UnreliableEstimateWarning` when the verdict is ``UNRELIABLE``, ``UNKNOWN`` or
    ``IMPROPER``.

    Args:
        target: distribution with ``unnormalized_log_prob`` or ``log_prob``, or an :class:`EnergySequence`, whose own noise
            levels are then the path. Its log density is evaluated in float64 where it takes float64. Values of minus
            infinity and NaN count as density zero, and it need not have a gradient. A support other than all reals is
            mapped onto them by ``biject_to``.
        base: normalised distribution over the target's support, of its event shape and at least as wide; N(0, I) over the
            reals that are mapped onto the support when not given. The first pilot begins there. The base of the run itself
            is fitted to pilot draws, which are then thrown away, and keeps a share of the given one.
        data: rows ``(n, *event)`` known to lie where the target has mass; a second set of chains starts there.
        starts: points ``(n, *event)`` of the support where modes are expected; the search for modes climbs from each.
        tolerance: half width of the 95 % interval to reach, nats; that of ``settings`` when not given. Batches of paths are
            added until the interval is so narrow, or the record's ``advice`` says why not and what it would take. Along a
            sequence it only says what counts as a large error.

    Returns:
        :class:`Sandwich` with ``log_z``, ``lower``, ``upper`` and ``verdict``. A target whose integral is infinite is
        ``IMPROPER`` before anything is walked. Where no walk can be completed, it is ``UNKNOWN``, and ``log_z`` is NaN.

    Raises:
        ValueError: base, data or starts of another event shape; a target with batch shape, with a support that the reals
            cannot be mapped onto, or without density at any point tried; values that are not one number for each point.
        NumericalError: a base without draws inside the target's support, or a sequence along which weights are lost.

    >>> import pyro.distributions as dist
    >>> target = dist.Normal(torch.zeros(2), 0.5).to_event(1)
    >>> small = SandwichSettings(num_particles=64, num_replicates=4)
    >>> result = sandwich(target, base=dist.Normal(torch.zeros(2), 1.0).to_event(1), seed=1, settings=small)
    >>> result.lower < 0 < result.upper
    True
    """
    settings = given_or_default(settings, SandwichSettings)
    if tolerance is not None:
        settings = dataclasses.replace(settings, tolerance=tolerance)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    if isinstance(target, EnergySequence):
        return sequence_sandwich(target, data=data, settings=settings, generator=generator)
    prepared = prepare_target(target, base=base, data=data, generator=generator)
    settings = _settings_for(prepared, settings)
    tolerance = settings.tolerance
    infinite = screen_tails(
        prepared.log_density.uncounted(),
        prepared.start.draw(2 * NUM_SCREENED, generator).reshape(2, NUM_SCREENED, prepared.num_features),
        hold=prepared.hold,
    )
    if infinite is not None:
        advice = f"the integral is infinite: {infinite}"
        return warn_if_unusable(unfinished(prepared, Verdict.IMPROPER, advice, tolerance=tolerance, tails=infinite))
    found = search_modes(
        prepared.log_density.uncounted(),
        prepared.start,
        data=prepared.data,
        starts=None if starts is None else _flat_hints(starts, prepared),
        num_particles=min(MOST_PILOT_PARTICLES, settings.num_particles),
        kernel=settings.kernel,
        has_gradient=prepared.has_gradient,
        num_swept=_num_swept(settings),
        generator=generator,
    )
    is_hopeless = found.record.is_hopeless
    settings = _shortened(settings) if is_hopeless else settings
    most = HOPELESS_ROUNDS if is_hopeless else None
    try:
        route, rounds = fit_rounds(
            prepared, settings, kept=_worth_keeping(found), most_rounds=most, generator=generator
        )
        walks, seconds = _walk_to_tolerance(route, prepared.data, rounds, settings, generator)
        walks = _with_tails(walks, prepared, route, generator=generator)
        result = assemble(route, walks, prepared=prepared, search=found.record, seconds=seconds)
    except NumericalError as error:  # walks that cannot be completed are a verdict on the target, not a fault of the call
        advice = f"no walk to the target could be completed: {error}"
        result = unfinished(prepared, Verdict.UNKNOWN, advice, tolerance=tolerance, search=found.record)
    return warn_if_unusable(result)


def _shortened(settings: SandwichSettings) -> SandwichSettings:
    """Settings of a run whose verdict is unknown already, as much is unseen: a rough number, soon."""
    return dataclasses.replace(
        settings,
        num_particles=min(HOPELESS_PARTICLES, settings.num_particles),
        num_mixing_steps=min(HOPELESS_STEPS, settings.num_mixing_steps),
        conditional_ess=min(HOPELESS_ESS, settings.conditional_ess),
        most_batches=1,
    )


def _num_swept(settings: SandwichSettings) -> int:
    """Points of the search's sweep."""
    if settings.num_swept is not None:
        return settings.num_swept
    return min(NUM_SWEPT, SWEPT_PER_PARTICLE * settings.num_particles)


def _worth_keeping(found: Found) -> KeptBase | None:
    """Components that every base keeps a share of: those of several modes, or of one whose mass they hold.

    Gaussians at optima of one shell, ridge or funnel hold little of its mass. The fitted bases find it from the given one
    alone, and a share of such Gaussians would only make every evaluation slower.
    """
    record = found.record
    is_poor = record.has_gradient and len(record.modes) == 1 and record.efficiency < LEAST_EFFICIENCY
    return None if is_poor else found.components


def _flat_hints(starts: Tensor, prepared: PreparedTarget) -> Tensor:
    """Hints as flat rows ``(n, d)``."""
    shape = prepared.coordinates.event_shape
    if starts.shape[1:] != shape or not len(starts):
        raise ValueError(f"starts must be points of shape {('n', *shape)}, got shape {tuple(starts.shape)}")
    rows = prepared.coordinates.to_flat(starts.double())
    if not bool(prepared.log_density(rows).isfinite().all()):
        raise ValueError("starts must lie where the target has density, and some do not: leave them out")
    return rows


def _with_tails(
    walks: Walks, prepared: PreparedTarget, route: Route, *, generator: torch.Generator | None
) -> Walks:
    """The walks with what moved draws say about the tails of the target; points far out are not counted."""
    if walks.draws is None:
        return walks
    log_density, base = prepared.log_density.uncounted(), route.path.base
    chart = base.chart if isinstance(base, DefendedBase) else None
    tails = examine_tails(log_density, walks.draws, chart=chart, hold=prepared.hold, generator=generator)
    return dataclasses.replace(walks, tails=tails)


def _walk_to_tolerance(
    route: Route, data: Tensor | None, rounds: Rounds, settings: SandwichSettings, generator: torch.Generator | None
) -> tuple[Walks, float]:
    """Batches of walks until the interval is as narrow as the tolerance, and the time that they took.

    Whether to continue depends on the width alone, never on the value, so that stopping does not choose among values. Where
    the rounds are unsettled a narrower interval is no better, and one batch is all.
    """
    began = time.perf_counter()
    walks = take_walks(route, data=data, rounds=rounds, generator=generator)
    batch, most = walks.forward.numel(), settings.most_batches * settings.num_replicates * settings.num_particles
    missing = 0 if rounds.unsettled else missing_paths(walks, settings.tolerance)
    while missing and walks.forward.numel() + missing <= WORTHWHILE * most:
        have = walks.forward.numel()
        further = min(math.ceil(min(missing, 3 * have) / batch), math.ceil((most - have) / batch))
        if not further:
            break
        for _ in range(further):
            walks = take_walks(route, data=data, rounds=rounds, earlier=walks, generator=generator)
        missing = missing_paths(walks, settings.tolerance)
    return walks, time.perf_counter() - began


def _settings_for(prepared: PreparedTarget, settings: SandwichSettings) -> SandwichSettings:
    """Settings with a spread of step sizes, and a kernel that needs no gradient where the target has none."""
    needs_gradient = settings.kernel.gradients_per_step > 0
    kernel = settings.kernel if prepared.has_gradient or not needs_gradient else RandomWalk()
    return dataclasses.replace(settings, kernel=kernel, step_spread=settings.step_spread or TARGET_STEP_SPREAD)
