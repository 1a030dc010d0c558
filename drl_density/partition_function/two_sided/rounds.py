"""Bases fitted one after another to discarded draws of a target, until log Z stays where it is."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pyro.distributions as dist
import torch
from torch import Tensor

from drl_density.mcmc import MALA, LogDensity
from drl_density.partition_function.annealing.bridges import place_bridges
from drl_density.partition_function.annealing.path import Base, base_draws
from drl_density.partition_function.annealing.plan import plan_annealing
from drl_density.partition_function.annealing.reverse import reverse_anneal
from drl_density.partition_function.annealing.run import anneal
from drl_density.partition_function.bridge import bennett_by_replicates
from drl_density.partition_function.target_bases.contract import GivenBase
from drl_density.partition_function.target_bases.defended import DefendedBase
from drl_density.partition_function.target_bases.fitted_base import fit_base
from drl_density.partition_function.target_bases.local_kernel import LocalMALA
from drl_density.partition_function.targets import WideBase
from drl_density.partition_function.two_sided.settings import SandwichSettings
from drl_density.partition_function.two_sided.walks import Rounds, Route
from drl_density.weights import Estimate

SETTLED = 0.02
"""Nats beyond two joint errors by which three rounds may differ and still count as settled."""


def place_route(
    base: Base, log_density: LogDensity, settings: SandwichSettings, *, generator: torch.Generator | None
) -> Route:
    """A route from a base to a target, its bridges and step sizes found on discarded pilots.

    With MALA and a fitted base the kernel becomes :class:`LocalMALA`, which uses the base's local covariance.
    """
    if isinstance(settings.kernel, MALA) and isinstance(base, DefendedBase):
        moves = max(1, settings.num_transitions // 2)  # each transition of the local kernel makes two moves
        settings = dataclasses.replace(settings, kernel=LocalMALA(base), num_transitions=moves)
    ais, plain = settings.annealing(), settings.annealing(resample_below=None)
    path = place_bridges(base, log_density, ais, share=settings.conditional_ess, generator=generator)
    plan = plan_annealing(path, ais, generator=generator)

    def downward(num_particles: int, generator: torch.Generator | None) -> Tensor:
        own = dataclasses.replace(plain, num_particles=num_particles)
        return anneal(path, plan, own, generator=generator).log_weights

    def upward(draws: Tensor, generator: torch.Generator | None) -> Tensor:
        rows = reverse_anneal(path, plan, plain, draws.flatten(0, 1), generator=generator)
        return rows.reshape(draws.shape[:2])

    return Route(path, plan, settings, downward, upward)


def fit_rounds(
    log_density: LogDensity,
    num_features: int,
    *,
    given: GivenBase | None,
    settings: SandwichSettings,
    generator: torch.Generator | None,
) -> tuple[DefendedBase, Rounds]:
    """Fit one base after another to discarded draws until three rounds agree on log Z.

    The first round goes from the given base, or from N(0, I); each later one from the base fitted to the draws before.
    Runs of all rounds are discarded, so that the choice of a base does not bias the final run.
    """
    start = given or flat_base(dist.Normal(torch.zeros(num_features), 1.0).to_event(1))
    route = place_route(start, log_density, settings, generator=generator)
    base = fit_base(route.draws(route.run(generator=generator), generator=generator), given=given)
    found: list[Estimate] = []
    few = max(2, settings.num_particles // 4)  # a rough estimate is enough to see whether log Z settles
    for _ in range(settings.most_rounds - 1):
        route = place_route(base, log_density, settings, generator=generator)
        draws = route.draws(route.run(generator=generator), generator=generator)
        reverse = route.upward(draws[:, :few], generator)
        bridge = bennett_by_replicates(route.downward(few, generator), reverse)
        found.append(Estimate(bridge.log_z, bridge.standard_error))
        base = fit_base(draws, given=given)
        if is_settled(found):
            break
    return base, Rounds(tuple(found), is_settled(found))


def is_settled(estimates: list[Estimate]) -> bool:
    """Whether the last three estimates agree within 0.02 nats beyond two joint standard errors.

    >>> is_settled([Estimate(0.0, 0.01)] * 3), is_settled([Estimate(0.0, 0.01)] * 2)
    (True, False)
    """
    last = estimates[-3:]
    gaps = [
        abs(a.log_z - b.log_z) - 2 * math.hypot(a.standard_error, b.standard_error)
        for a, b in itertools.combinations(last, 2)
    ]
    return len(last) == 3 and max(gaps) < SETTLED


def flat_base(base: WideBase) -> GivenBase:
    """A base over flattened points ``(n, d)`` in place of its own event shape."""
    shape = base.event_shape
    draw = base_draws(base)
    return GivenBase(
        lambda x: base.log_prob(x.reshape(-1, *shape)),
        lambda count, generator: draw(count, generator).reshape(count, shape.numel()),
        torch.Size((shape.numel(),)),
    )
