"""A walk of weighted particles from a normalised base to the target, with everything about it fixed beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.errors import NumericalError
from drl_density.log_weights import carried_weights
from drl_density.mcmc import ChainState, take_steps
from drl_density.partition_function.annealing.path import AnnealingPath
from drl_density.partition_function.annealing.plan import AISPlan, lost_at
from drl_density.partition_function.annealing.progress import Watch, weighed
from drl_density.partition_function.annealing.settings import AISSettings
from drl_density.partition_function.chunks import chunk_sizes
from drl_density.weights import PathSummary, log_mean_exp, resample, resample_poor, weight_ess


@dataclass(frozen=True)
class AnnealingRun:
    """Raw outcome of :func:`anneal`.

    Attributes:
        log_weights: final log weights ``(replicate, particle)``, float64. After resampling each particle carries the mean
            weight of its replicate from before.
        particles: final states ``(replicate, particle, *event)``.
        log_z_by_density: log-mean-exp of the weights after each density, ``(density, replicate)``.
        ess_by_density: effective share of the particles that are alive, before resampling, ``(density, replicate)``.
        acceptance_rates: mean acceptance on each density.
        kept: draws of each density, resampled by their weights, ``(replicate, density, num_kept, *event)``.
    """

    log_weights: Tensor
    particles: Tensor
    log_z_by_density: Tensor
    ess_by_density: Tensor
    acceptance_rates: tuple[float, ...]
    kept: Tensor

    def summary(self, settings: AISSettings) -> PathSummary:
        """How the run went along its path, for the record of its estimate."""
        return PathSummary(
            num_densities=len(self.acceptance_rates),
            num_transitions=settings.num_transitions,
            acceptance_rate=sum(self.acceptance_rates) / len(self.acceptance_rates),
            least_ess_share=float(self.ess_by_density.min()),
            is_resampled=settings.resample_below is not None,
        )


def anneal(
    path: AnnealingPath,
    plan: AISPlan,
    settings: AISSettings,
    *,
    generator: torch.Generator | None = None,
    watch: Watch | None = None,
) -> AnnealingRun:
    """Walk weighted particles along a path with every step size and scale fixed by a plan.

    Args:
        path: densities from a base with exact draws to the target.
        plan: result of :func:`plan_annealing` on the same path.
        watch: called with a :class:`~drl_density.partition_function.Progress` after every density.

    Raises:
        NumericalError: every particle of a replicate lost its weight.

    >>> import pyro.distributions as dist
    >>> from drl_density.partition_function import AISSettings, geometric_path, plan_annealing
    >>> base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    >>> path = geometric_path(base, lambda x: -2 * (x**2).sum(-1), num_bridges=5)
    >>> settings = AISSettings(num_particles=16, num_replicates=2, num_pilot_particles=16)
    >>> anneal(path, plan_annealing(path, settings), settings).log_weights.shape
    torch.Size([2, 16])
    """
    runs = [
        _Walk(path, plan, settings, generator, watch).run(count)
        for count in chunk_sizes(settings.num_replicates, max(1, settings.max_rows // settings.num_particles))
    ]
    return join_runs(runs)


def join_runs(runs: Sequence[AnnealingRun]) -> AnnealingRun:
    """The replicates of several runs along one path; acceptance rates are means over all replicates."""
    counts = [len(run.log_weights) for run in runs]
    by_density = zip(*(run.acceptance_rates for run in runs), strict=True)
    rates = [sum(rate * count for rate, count in zip(values, counts, strict=True)) / sum(counts) for values in by_density]
    return AnnealingRun(
        log_weights=torch.cat([run.log_weights for run in runs]),
        particles=torch.cat([run.particles for run in runs]),
        log_z_by_density=torch.cat([run.log_z_by_density for run in runs], 1),
        ess_by_density=torch.cat([run.ess_by_density for run in runs], 1),
        acceptance_rates=tuple(rates),
        kept=torch.cat([run.kept for run in runs]),
    )


@dataclass(frozen=True)
class _Walk:
    """One walk of some replicates along a path."""

    path: AnnealingPath
    plan: AISPlan
    settings: AISSettings
    generator: torch.Generator | None
    watch: Watch | None

    def run(self, num_replicates: int) -> AnnealingRun:
        """Walk ``num_replicates`` replicates over all densities."""
        path, plan, settings, generator = self.path, self.plan, self.settings, self.generator
        shape = (num_replicates, settings.num_particles)
        x = path.draw(num_replicates * settings.num_particles, generator)
        previous = path.base.log_prob(x).double().cpu()
        weights = torch.zeros(shape, dtype=torch.float64)
        log_z, ess, rates, kept = [], [], [], []
        for index, log_density in enumerate(path.log_densities):
            kernel = settings.kernel.with_scale(plan.scales[index])
            state = kernel.init(x, log_density)
            weights = carried_weights(weights, state.log_density.double().cpu().reshape(shape), previous.reshape(shape))
            log_z.append(log_mean_exp(weights, dim=1))
            share = torch.stack([weight_ess(row) for row in weights]) / settings.num_particles
            alive = (weights > -math.inf).double().mean(1)
            ess.append(share / alive)
            if not bool(torch.isfinite(log_z[-1]).all()):
                raise NumericalError(f"every particle of a replicate {lost_at(index, float(alive.mean()))}")
            if self.watch is not None:
                self.watch(weighed("annealing", index + 1, len(path.log_densities), weights))
            is_last = index == len(path.log_densities) - 1
            if settings.resample_below is not None and not is_last:
                chosen, weights = resample_poor(weights, share < settings.resample_below, generator=generator)
                state = ChainState(*(part[chosen] for part in state))
            state, acceptance, _ = take_steps(
                kernel,
                state,
                log_density,
                num_steps=settings.num_transitions,
                step_size=plan.step_sizes[index],
                spread=settings.step_spread,
                generator=generator,
            )
            rates.append(float(acceptance.mean()))
            x, previous = state.position, state.log_density.double().cpu()
            kept.append(_keep(x.reshape(shape + x.shape[1:]), weights, settings.num_kept, generator))
        particles = x.reshape(shape + x.shape[1:])
        return AnnealingRun(
            weights, particles, torch.stack(log_z), torch.stack(ess), tuple(rates), torch.stack(kept, 1)
        )


def _keep(particles: Tensor, weights: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Particles of each replicate, drawn by their weights, ``(replicate, count, *event)``."""
    if not count:
        return particles[:, :0]
    chosen = [resample(row, count, generator=generator) for row in weights]
    return torch.stack([rows[index] for rows, index in zip(particles, chosen, strict=True)])
