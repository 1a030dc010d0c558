"""Walks between a base and a target in both directions: the raw material of a sandwich."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.mcmc import LogDensity, take_steps
from drl_density.partition_function.annealing.path import AnnealingPath
from drl_density.partition_function.annealing.plan import AISPlan
from drl_density.partition_function.annealing.progress import Progress, Watch
from drl_density.partition_function.annealing.run import AnnealingRun, anneal, join_runs
from drl_density.partition_function.equilibrium import EquilibriumEstimates, equilibrium_estimates
from drl_density.partition_function.tails.report import TailReport
from drl_density.partition_function.two_sided.estimates import Estimates
from drl_density.partition_function.two_sided.settings import SandwichSettings
from drl_density.weights import Estimate, log_mean_exp, resample

PATHS_IN_A_GROUP = 16
"""Forward paths whose mean weight makes one term of a target's lower bound."""


@dataclass(frozen=True)
class PathFigures:
    """Figures of the annealing run on each of its K densities after the base.

    Attributes:
        levels: continuous level, or annealing, of each density ``(K,)``.
        ess_shares: effective share of the particles before resampling, averaged over replicates ``(K,)``.
        acceptance_rates: mean acceptance of the kernel ``(K,)``.
        overlap: share of density i's draws that density j explains, the base first ``(K + 1, K + 1)``.
    """

    levels: tuple[float, ...]
    ess_shares: tuple[float, ...]
    acceptance_rates: tuple[float, ...]
    overlap: Tensor


@dataclass(frozen=True)
class Route:
    """A way to the target with everything about it fixed by discarded pilots.

    Attributes:
        path: annealing densities from the base to the target.
        plan: step sizes and scales on these densities.
        settings: sizes of the walks.
        downward: ``downward(num_particles, generator)``, log weights ``(replicate, num_particles)`` of walks from the base
            to the target without resampling.
        upward: ``upward(draws, generator)``, log weights ``(replicate, particle)`` of walks from draws
            ``(replicate, particle, *event)`` of the target back to the base.
        origin: what the walks begin at, in words.
    """

    path: AnnealingPath
    plan: AISPlan
    settings: SandwichSettings
    downward: Callable[[int, torch.Generator | None], Tensor]
    upward: Callable[[Tensor, torch.Generator | None], Tensor]
    origin: str = "noise"

    @property
    def target(self) -> LogDensity:
        """Unnormalised log density of the target."""
        return self.path.log_densities[-1]

    def run(self, *, generator: torch.Generator | None, watch: Watch | None = None) -> AnnealingRun:
        """A walk of all particles from the base to the target, with resampling."""
        return anneal(self.path, self.plan, self.settings.annealing(), generator=generator, watch=watch)

    def mixed(self, start: Tensor, num_steps: int, *, generator: torch.Generator | None) -> Tensor:
        """Positions after adjusted steps at the target from ``start`` ``(replicate, particle, *event)``."""
        kernel = self.settings.kernel.with_scale(self.plan.scales[-1])
        ais = self.settings.annealing()
        parts = []
        for rows in start.flatten(0, 1).split(ais.max_rows):
            taken = take_steps(
                kernel,
                kernel.init(rows, self.target),
                self.target,
                num_steps=num_steps,
                step_size=self.plan.step_sizes[-1],
                spread=ais.step_spread,
                generator=generator,
            )
            parts.append(taken.state.position)
        return torch.cat(parts).reshape(start.shape)

    def draws(self, run: AnnealingRun, *, generator: torch.Generator | None) -> Tensor:
        """Draws of the target ``(replicate, particle, *event)``: a run's particles, resampled by weight, then moved."""
        start = end_draws(run, generator=generator)
        return self.mixed(start, self.settings.num_mixing_steps, generator=generator)


@dataclass(frozen=True)
class Rounds:
    """log Z with one fitted base after another.

    Attributes:
        estimates: estimate of every round.
        unsettled: why log Z cannot be called settled; ``None`` where the last rounds agree.
    """

    estimates: tuple[Estimate, ...]
    unsettled: str | None = None


@dataclass(frozen=True)
class Walks:
    """Everything that was walked for one sandwich; all estimates are functions of it.

    Attributes:
        run: annealing run with resampling.
        forward: log weights of paths from the base to the target ``(replicate, particle)``.
        reverse: log weights of paths back from draws that began at the base ``(replicate, particle)``.
        equilibrium: estimates from draws of all annealing densities.
        reverse_from_data: log weights of paths back from chains that began at rows of data, where rows were given.
        reverse_early: log weights of paths back from draws that mixed a quarter as long, for a target without levels.
        rounds: fitted bases of a target without levels.
        others: estimates by further estimators, each with runs of its own.
        draws: draws of the target from which the reverse paths began, ``(replicate, particle, *event)``.
        tails: decay and reach of the tails of a target without levels.
    """

    run: AnnealingRun
    forward: Tensor
    reverse: Tensor
    equilibrium: EquilibriumEstimates
    reverse_from_data: Tensor | None = None
    reverse_early: Tensor | None = None
    rounds: Rounds | None = None
    others: Estimates = field(default_factory=dict)
    draws: Tensor | None = None
    tails: TailReport | None = None


def end_draws(run: AnnealingRun, *, generator: torch.Generator | None) -> Tensor:
    """Particles of every replicate resampled by their weights, ``(replicate, particle, *event)``."""
    kept = []
    for weights, particles in zip(run.log_weights, run.particles, strict=True):
        kept.append(particles[resample(weights, len(particles), generator=generator)])
    return torch.stack(kept)


def take_walks(
    route: Route,
    *,
    data: Tensor | None = None,
    rounds: Rounds | None = None,
    earlier: Walks | None = None,
    generator: torch.Generator | None = None,
    watch: Watch | None = None,
) -> Walks:
    """Walk a route in both directions, from the base and, where rows are given, from data.

    Args:
        route: densities, plan and walks.
        data: rows ``(n, *event)`` from which a second set of chains starts.
        rounds: fitted bases that led to the route; draws then mix four times as long, and the estimate from draws that
            took a quarter of these steps shows whether that was long enough.
        earlier: independent walks along the same route, with which the new ones are pooled. Their equilibrium draws remain.
        watch: called with the progress after every density of the annealing run.
    """
    settings = route.settings
    run = route.run(generator=generator, watch=watch)
    if watch is not None:
        watch(Progress("paths in both directions"))
    forward = route.downward(settings.num_particles, generator)
    from_noise, from_data = end_draws(run, generator=generator), None
    if data is not None:
        chosen = torch.randint(len(data), forward.shape, generator=generator)
        from_data = data.to(from_noise)[chosen]
    from_noise = route.mixed(from_noise, settings.num_mixing_steps, generator=generator)
    if from_data is not None:
        from_data = route.mixed(from_data, settings.num_mixing_steps, generator=generator)
    reverse, reverse_early = route.upward(from_noise, generator), None
    reverse_from_data = None if from_data is None else route.upward(from_data, generator)
    if rounds is not None:
        reverse_early = reverse
        from_noise = route.mixed(from_noise, 3 * settings.num_mixing_steps, generator=generator)
        reverse = route.upward(from_noise, generator)
    equilibrium = (
        equilibrium_estimates(route.path, run.kept, generator=generator) if earlier is None else earlier.equilibrium
    )
    found = Walks(run, forward, reverse, equilibrium, reverse_from_data, reverse_early, rounds, draws=from_noise)
    return found if earlier is None else _pooled(earlier, found)


def _pooled(first: Walks, second: Walks) -> Walks:
    """The replicates of both, which took the same route."""
    return dataclasses.replace(
        first,
        run=join_runs((first.run, second.run)),
        forward=torch.cat([first.forward, second.forward]),
        reverse=torch.cat([first.reverse, second.reverse]),
        reverse_from_data=_joined(first.reverse_from_data, second.reverse_from_data),
        reverse_early=_joined(first.reverse_early, second.reverse_early),
        draws=_joined(first.draws, second.draws),
    )


def _joined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])


def grouped(weights: Tensor) -> Tensor:
    """Log mean weights of groups of 16 paths ``(replicate, group)``, or of all paths where they are fewer than 32.

    >>> import torch
    >>> grouped(torch.zeros(2, 40)).shape, grouped(torch.zeros(2, 5)).shape
    (torch.Size([2, 2]), torch.Size([2, 1]))
    """
    size = PATHS_IN_A_GROUP if weights.shape[1] >= 2 * PATHS_IN_A_GROUP else weights.shape[1]
    count = weights.shape[1] // size
    return log_mean_exp(weights[:, : count * size].unflatten(1, (count, size)))


def median_of_alive(weights: Tensor) -> float:
    """Median log weight of the paths that are alive plus the log of their share; paths behind a wall are not lost ones."""
    is_alive = weights.isfinite()
    return float(weights[is_alive].median()) + math.log(float(is_alive.double().mean()))
