"""Bases fitted one after another to discarded draws of a target, until log Z stays where it is."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from drl_density.log_weights import carried_weights
from drl_density.mcmc import MALA, LogDensity, RandomWalk
from drl_density.partition_function.annealing.bridges import place_and_plan
from drl_density.partition_function.annealing.path import Base, evaluated
from drl_density.partition_function.annealing.reverse import reverse_anneal
from drl_density.partition_function.annealing.run import anneal
from drl_density.partition_function.bridge import ReplicatedBridge, bridged
from drl_density.partition_function.target_bases.contract import KeptBase
from drl_density.partition_function.target_bases.defended import DefendedBase
from drl_density.partition_function.target_bases.fitted_base import fit_base
from drl_density.partition_function.target_bases.local_kernel import LocalMALA, LocalRandomWalk
from drl_density.partition_function.targets.prepare import PreparedTarget
from drl_density.partition_function.two_sided.settings import SandwichSettings
from drl_density.partition_function.two_sided.walks import Rounds, Route
from drl_density.weights import Estimate, combine_replicates, log_mean_exp, resample, weight_ess

MOVED = 0.2
"""Multiple of the tolerance, beyond two joint errors, by which rounds may differ and still count as settled."""
PAIR_ERROR, ROUND_ERROR = 0.6, 0.4
"""Multiples of the tolerance above which the error of the difference of two rounds, and of one round, hides a movement."""
LEAST_ROUNDS, LEAST_EASY_ROUNDS = 3, 2
"""Rounds that have to agree, and those of a target whose first fitted base fits."""
EASY_OVERLAP = 0.6
"""Overlap of both directions from the first fitted base at which a target is easy."""
MOST_GROWTH = 4
"""Multiple of ``num_particles`` up to which rounds grow whose error would hide a movement."""
LEAST_MOST_PARTICLES, GROWTH_MARGIN = 1024, 1.2
"""Particles up to which such rounds grow in any case, and the factor on what the error calls for, as it is known roughly."""
NUM_WEIGHED, LEAST_EFFICIENCY = 4096, 0.5
"""Draws of a kept base that are weighed, and their effective share from which it may serve without a further fit."""
EVEN_SHARE = 0.3
"""Effective share of the paths of every replicate from which a round's draws are chosen among the ends of its own paths."""
START_SHARE = 0.1
"""Share of the given base, or of N(0, I), in a pilot that begins at the modes that a search has found."""
FIRST_PARTICLES = 128
"""Particles per replicate with which a target without levels begins, where ``num_particles`` allows."""


def place_route(
    base: Base, log_density: LogDensity, settings: SandwichSettings, *, generator: torch.Generator | None
) -> Route:
    """A route from a base to a target, its bridges and step sizes found on discarded pilots.

    With a fitted base MALA becomes :class:`LocalMALA`, which uses the base's local covariance, and a random walk likewise.
    """
    if isinstance(settings.kernel, MALA | RandomWalk) and isinstance(base, DefendedBase):
        moves = max(1, settings.num_transitions // 2)  # each transition of a local kernel makes two moves
        local = LocalMALA(base) if isinstance(settings.kernel, MALA) else LocalRandomWalk(base)
        settings = dataclasses.replace(settings, kernel=local, num_transitions=moves)
    ais, plain = settings.annealing(), settings.annealing(resample_below=None)
    path, plan = place_and_plan(base, log_density, ais, share=settings.conditional_ess, generator=generator)

    def downward(num_particles: int, generator: torch.Generator | None) -> Tensor:
        own = dataclasses.replace(plain, num_particles=num_particles)
        return anneal(path, plan, own, generator=generator).log_weights

    def upward(draws: Tensor, generator: torch.Generator | None) -> Tensor:
        rows = reverse_anneal(path, plan, plain, draws.flatten(0, 1), generator=generator)
        return rows.reshape(draws.shape[:2])

    return Route(path, plan, settings, downward, upward)


def fit_rounds(
    prepared: PreparedTarget,
    settings: SandwichSettings,
    *,
    kept: KeptBase | None = None,
    most_rounds: int | None = None,
    generator: torch.Generator | None,
) -> tuple[Route, Rounds]:
    """Fit one base after another to discarded draws until log Z stays where it is.

    Where the kept base describes the target so well that its draws have even weights, and a round from it agrees with their
    mean weight, no further base is fitted. Otherwise the pilot goes from the given base, or from N(0, I), and from the kept
    base where there is one; each round from the base fitted to the draws before. Runs of all rounds are discarded, so that
    the choice of a base does not bias the final run. The pilot and the first round are small; each round after one that
    leaves log Z unsettled is larger, up to ``settings.num_particles``, and up to four times as many, at least 1,024, where
    the error alone leaves it unsettled.

    Args:
        prepared: target.
        settings: sizes.
        kept: components at the modes that a search has found, of which every base keeps a share.
        most_rounds: largest number of rounds; that of ``settings``, less the pilot, when not given.

    Returns:
        The route of the last round, for walks of its own, and the estimates of all rounds.
    """
    log_density, given = prepared.log_density, prepared.base
    own = dataclasses.replace(settings, num_particles=first_particles(settings))
    at_once = None if kept is None else _settled_by_kept(prepared, own, kept, generator)
    if at_once is not None:
        return at_once
    start: Base = prepared.start
    if kept is not None:
        start = DefendedBase((kept, start), (1 - START_SHARE, START_SHARE), kept.local)
    route = place_route(start, log_density, own, generator=generator)
    run = route.run(generator=generator)
    pilot = combine_replicates(log_mean_exp(run.log_weights, 1))
    base = fit_base(route.draws(run, generator=generator), given=given, kept=kept)
    found: list[Estimate] = []
    least = LEAST_ROUNDS
    for index in range(most_rounds or settings.most_rounds - 1):
        route = place_route(base, log_density, own, generator=generator)
        forward, draws = _forward_and_draws(route, generator)
        bridge = bridged(forward, route.upward(draws, generator))
        if bridge is None:
            found.append(Estimate((found or [pilot])[-1].log_z, math.inf))
        else:
            found.append(Estimate(bridge.log_z, bridge.standard_error))
        if index == 0 and bridge is not None and is_easy(bridge, pilot, settings.tolerance):
            least = LEAST_EASY_ROUNDS
        if movement(found, settings.tolerance, least=least) is None:
            break
        base = fit_base(draws, given=given, kept=kept)
        if least == LEAST_ROUNDS or len(found) >= least:
            own = dataclasses.replace(own, num_particles=_grown(own.num_particles, found, settings))
    return route, Rounds(tuple(found), movement(found, settings.tolerance, least=least))


def _settled_by_kept(
    prepared: PreparedTarget, settings: SandwichSettings, kept: KeptBase, generator: torch.Generator | None
) -> tuple[Route, Rounds] | None:
    """The route from a kept base whose draws have even weights, where one round from it agrees with their mean weight."""
    log_density = prepared.log_density
    rows = kept.draw(NUM_WEIGHED, generator)
    weights = carried_weights(torch.zeros(len(rows)).double(), evaluated(log_density, rows), evaluated(kept.log_prob, rows))
    efficiency = float(weight_ess(weights)) / len(rows)
    if not efficiency >= LEAST_EFFICIENCY:  # not a number where no draw has density
        return None
    importance = Estimate(float(log_mean_exp(weights)), math.sqrt((1 / efficiency - 1) / len(rows)))
    count = settings.num_replicates * settings.num_particles
    chosen = resample(weights, count, generator=generator)
    # Resampling returns sorted indices, which a random order shuffles.
    draws = rows[chosen[torch.rand(count, generator=generator).argsort()]].unflatten(0, (settings.num_replicates, -1))
    base = fit_base(draws, given=prepared.base, kept=kept, is_kept_enough=True)
    route = place_route(base, log_density, settings, generator=generator)
    forward, ends = _forward_and_draws(route, generator)
    bridge = bridged(forward, route.upward(ends, generator))
    if bridge is None or bridge.overlap < EASY_OVERLAP:
        return None
    found = (importance, Estimate(bridge.log_z, bridge.standard_error))
    is_settled = movement(found, settings.tolerance, least=len(found)) is None
    return (route, Rounds(found)) if is_settled else None


def _forward_and_draws(route: Route, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Log weights of a walk without resampling, and draws of the target: from its own end where weights are even enough."""
    plain = anneal(route.path, route.plan, route.settings.annealing(resample_below=None), generator=generator)
    shares = torch.stack([weight_ess(row) for row in plain.log_weights]) / plain.log_weights.shape[1]
    run = plain if float(shares.min()) >= EVEN_SHARE else route.run(generator=generator)
    return plain.log_weights, route.draws(run, generator=generator)


def first_particles(settings: SandwichSettings) -> int:
    """Particles per replicate of the pilot: a quarter of all, at least 128 where there are so many."""
    return min(settings.num_particles, max(FIRST_PARTICLES, settings.num_particles // 4))


def is_easy(bridge: ReplicatedBridge, pilot: Estimate, tolerance: float) -> bool:
    """Whether the first fitted base already fits, so that one further round suffices.

    Both directions see most of the paths, the error is small, and the pilot, which shares no fitted base with them, agrees.
    """
    error = math.hypot(bridge.standard_error, pilot.standard_error)
    agrees = abs(bridge.log_z - pilot.log_z) <= 3 * error + MOVED * tolerance
    return bridge.overlap >= EASY_OVERLAP and bridge.standard_error <= ROUND_ERROR * tolerance and agrees


def movement(estimates: Sequence[Estimate], tolerance: float, *, least: int = 3) -> str | None:
    """Why log Z cannot be called settled, by the last rounds; ``None`` where it can.

    Every pair of the last ``least`` rounds has to agree, with an error of the difference that would show a movement of the
    tolerance. Four rounds that rise or fall one after another count as a trend, and a slow one is seen only so.

    Args:
        estimates: estimate of every round.
        tolerance: movement that must not stay hidden, nats.
        least: number of rounds that have to agree.

    >>> movement([Estimate(0.0, 0.01)] * 3, 0.05), movement([Estimate(0.0, 0.01)] * 2, 0.05)
    (None, 'only 2 rounds of fitted bases, where 3 have to agree')
    """
    if len(estimates) < least:
        return f"only {len(estimates)} rounds of fitted bases, where {least} have to agree"
    pairs = list(itertools.combinations(estimates[-least:], 2))
    error = max(math.hypot(a.standard_error, b.standard_error) for a, b in pairs)
    if max(_significant(a, b) for a, b in pairs) > MOVED * tolerance or _is_trend(estimates[-4:], MOVED * tolerance):
        return "log Z still moves from one fitted base to the next"
    if error > PAIR_ERROR * tolerance:
        return (
            f"rounds of fitted bases are known within {error:.2g} nats, where {PAIR_ERROR * tolerance:.2g} would show "
            "whether log Z still moves"
        )
    if max(abs(a.log_z - b.log_z) + math.hypot(a.standard_error, b.standard_error) for a, b in pairs) > tolerance:
        return "log Z may still move by more than the tolerance from one fitted base to the next"
    return None


def _significant(first: Estimate, second: Estimate) -> float:
    """Nats by which two estimates differ beyond two joint errors; negative for none."""
    return abs(first.log_z - second.log_z) - 2 * math.hypot(first.standard_error, second.standard_error)


def _is_trend(last: Sequence[Estimate], moved: float) -> bool:
    """Whether four estimates rise or fall one after another, by more than ``moved`` and 1.5 joint errors in all."""
    steps = [after.log_z - before.log_z for before, after in itertools.pairwise(last)]
    total = abs(last[-1].log_z - last[0].log_z)
    error = math.hypot(last[0].standard_error, last[-1].standard_error)
    is_steady = len(steps) == 3 and (all(step > 0 for step in steps) or all(step < 0 for step in steps))
    return is_steady and total > max(moved, 1.5 * error)


def _grown(size: int, found: Sequence[Estimate], settings: SandwichSettings) -> int:
    """Particles of the next round: twice as many up to ``num_particles``, and beyond only as its error calls for."""
    needed = (found[-1].standard_error / (ROUND_ERROR * settings.tolerance)) ** 2
    if size < settings.num_particles:
        return min(settings.num_particles, math.ceil(min(4.0, max(2.0, needed)) * size))
    most = max(MOST_GROWTH * settings.num_particles, LEAST_MOST_PARTICLES)
    return math.ceil(min(float(most), max(1.0, GROWTH_MARGIN * needed) * size))
