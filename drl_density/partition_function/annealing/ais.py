r"""Annealed importance sampling with adjusted chains along a path of unnormalised densities.

Particles start as exact draws of a normalised base and walk over densities f_0 (the base), f_1, ..., f_N (the target),
with a few adjusted kernel steps on each. The log weight :math:`\sum_n \log f_{n+1}(x_n) - \log f_n(x_n)` makes
:math:`\frac1M\sum_m w_m` an unbiased estimate of Z, so its logarithm is a stochastic lower bound of log Z. Step sizes
and scales come from a pilot run whose particles are thrown away: adapting on the particles that are weighted would
break unbiasedness.

Source: Neal 2001; Jarzynski 1997; Del Moral, Doucet and Jasra 2006 for the resampled form.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from drl_density.errors import NumericalError
from drl_density.mcmc import MALA, ChainState, Kernel
from drl_density.mcmc.kernel import StepSize, spread_step_size
from drl_density.partition_function.annealing.annealing_path import AnnealingPath, LogDensity, bridge, geometric_path
from drl_density.partition_function.annealing.progress import Watch, weighed
from drl_density.weights import LogPartitionEstimate, judge_estimate, log_mean_exp, resample, weight_ess


@dataclass(frozen=True)
class AISSettings:
    """How an annealing run is carried out.

    Attributes:
        num_particles: particles per replicate.
        num_replicates: independent replicates; their spread gives the standard error.
        num_transitions: kernel steps on every density of the path.
        num_pilot_particles: particles of the discarded pilot.
        kernel: an adjusted kernel.
        resample_below: resample a replicate when its weight ESS falls below this share, None for plain AIS.
        max_rows: rows evaluated at once.
        step_spread: at each transition every particle's step size is divided by a draw, log-uniform between 1 and this,
            for targets whose scale differs from place to place; 1 for none.
        num_kept: draws of every density that each replicate keeps.

    Raises:
        ValueError: an unadjusted kernel, counts that are not positive, a spread below 1, or more draws kept than there
            are particles.

    >>> AISSettings(num_particles=64, num_replicates=4).spread_step(0.5, 64, None)
    0.5
    """

    num_particles: int = 256
    num_replicates: int = 8
    num_transitions: int = 2
    num_pilot_particles: int = 256
    kernel: Kernel = field(default_factory=MALA)
    resample_below: float | None = 0.5
    max_rows: int = 8192
    step_spread: float = 1.0
    num_kept: int = 0

    def __post_init__(self) -> None:
        if not self.kernel.is_adjusted:
            raise ValueError(
                f"annealed importance sampling needs an adjusted kernel, got {self.kernel!r}: an unadjusted one does "
                "not leave the densities invariant and biases log Z; use MALA() or HMC()"
            )
        if min(self.num_particles, self.num_replicates, self.num_transitions, self.num_pilot_particles) < 1:
            raise ValueError(f"counts must be positive, got {self}")
        if self.step_spread < 1 or not 0 <= self.num_kept <= self.num_particles:
            raise ValueError(
                f"need step_spread >= 1 and num_kept from 0 to num_particles, got {self.step_spread}, {self.num_kept}"
            )

    def spread_step(self, step_size: float, num_rows: int, generator: torch.Generator | None) -> StepSize:
        """The step sizes of one transition.

        Args:
            step_size: the plan's.
            num_rows: particles.
            generator: source of randomness.
        """
        return spread_step_size(step_size, self.step_spread, num_rows, generator)


@dataclass(frozen=True)
class AISPlan:
    """Step size and diagonal scale for each density of a path, fixed by a pilot.

    Attributes:
        step_sizes: one per density.
        scales: standard deviations of the pilot's particles ``(*event)``, one per density.
        acceptance_rates: of the pilot, one per density.
    """

    step_sizes: tuple[float, ...]
    scales: tuple[Tensor, ...]
    acceptance_rates: tuple[float, ...]


@dataclass(frozen=True)
class AnnealingRun:
    """Raw outcome of :func:`anneal`.

    Attributes:
        log_weights: final log weights ``(replicate, particle)``, float64. With resampling each replicate's past is
            folded in as a common value.
        particles: final states ``(replicate, particle, *event)``.
        log_z_by_density: log-mean-exp so far after each density, ``(density, replicate)``.
        ess_by_density: weight ESS share before resampling, ``(density, replicate)``.
        acceptance_rates: mean acceptance on each density.
        kept: draws of each density, resampled by their weights, ``(replicate, density, num_kept, *event)``.
    """

    log_weights: Tensor
    particles: Tensor
    log_z_by_density: Tensor
    ess_by_density: Tensor
    acceptance_rates: tuple[float, ...]
    kept: Tensor


def _spread(x: Tensor) -> Tensor:
    spread = x.std(0)
    return torch.where(spread > 0, spread, torch.ones_like(spread))


def plan_annealing(
    path: AnnealingPath, settings: AISSettings, *, generator: torch.Generator | None = None, num_tuning: int = 4
) -> AISPlan:
    """Tune step sizes and diagonal scales on a pilot whose particles are discarded.

    On each density the scale is the particles' standard deviation and the step size follows the acceptance by
    Robbins-Monro moves, beginning from the value of the density before.

    Args:
        path: from a base with exact draws to the target.
        settings: of the run to come; its pilot's size and kernel are used.
        generator: source of randomness.
        num_tuning: least moves on every density.

    >>> import pyro.distributions as dist
    >>> base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    >>> path = geometric_path(base, lambda x: -2 * (x**2).sum(-1), num_bridges=5)
    >>> len(plan_annealing(path, AISSettings(num_pilot_particles=16)).step_sizes)
    5
    """
    kernel = settings.kernel
    x = path.draw(settings.num_pilot_particles, generator)
    step_size, steps, scales, rates = 1.0, [], [], []
    weights = torch.zeros(len(x), dtype=torch.float64)
    previous = path.base.log_prob(x).double().cpu()
    for log_density in path.log_densities:
        current = _evaluate(log_density, x)
        weights = weights + current - previous
        if weight_ess(weights) < 0.5 * len(x):
            x = x[resample(weights, len(x), generator=generator)]
            weights = torch.zeros_like(weights)
        scale = _spread(x)
        tuned = dataclasses.replace(kernel, scale=scale)
        state = tuned.init(x, log_density)
        for index in range(max(num_tuning, settings.num_transitions)):
            state, info = tuned.step(state, log_density, settings.spread_step(step_size, len(x), generator), generator)
            rate = float(info.acceptance_probability.mean())
            step_size *= math.exp((rate - kernel.target_acceptance) / (1 + 0.5 * index))
        x, previous = state.position, state.log_density.double().cpu()
        steps.append(step_size)
        scales.append(scale)
        rates.append(rate)
    return AISPlan(tuple(steps), tuple(scales), tuple(rates))


def place_bridges(
    base: Any,
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
    >>> base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    >>> path = place_bridges(base, lambda x: -200 * (x**2).sum(-1), AISSettings(num_pilot_particles=64))
    >>> path.levels[0] < 0.1, path.levels[-1]
    (True, 1.0)
    """
    annealings, beta = [], 0.0
    x = geometric_path(base, log_density, num_bridges=1).draw(settings.num_pilot_particles, generator)
    step_size = 1.0
    while beta < 1:
        gain = _evaluate(log_density, x) - _evaluate(base.log_prob, x)

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
        kernel = dataclasses.replace(settings.kernel, scale=_spread(x))
        state = kernel.init(x, between)
        for index in range(max(4, settings.num_transitions)):
            state, info = kernel.step(state, between, settings.spread_step(step_size, len(x), generator), generator)
            rate = float(info.acceptance_probability.mean())
            step_size *= math.exp((rate - settings.kernel.target_acceptance) / (1 + 0.5 * index))
        x = state.position
    bridges = tuple(bridge(base, log_density, value) for value in annealings)
    return AnnealingPath(base, bridges, geometric_path(base, log_density, num_bridges=1).draw, tuple(annealings))


_JOINED = (("log_weights", 0), ("particles", 0), ("log_z_by_density", 1), ("ess_by_density", 1), ("kept", 0))


def anneal(
    path: AnnealingPath,
    plan: AISPlan,
    settings: AISSettings,
    *,
    generator: torch.Generator | None = None,
    watch: Watch | None = None,
) -> AnnealingRun:
    """Walk weighted particles along the path with everything fixed by ``plan``; ``watch`` is told after every density.

    Args:
        path: from a base with exact draws to the target.
        plan: of :func:`plan_annealing` on the same path.
        settings: sizes of the run.
        generator: source of randomness.
        watch: told after every density.

    >>> import pyro.distributions as dist
    >>> base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    >>> path = geometric_path(base, lambda x: -2 * (x**2).sum(-1), num_bridges=5)
    >>> settings = AISSettings(num_particles=16, num_replicates=2, num_pilot_particles=16)
    >>> anneal(path, plan_annealing(path, settings), settings).log_weights.shape
    torch.Size([2, 16])
    """
    runs = [
        _anneal_rows(path, plan, settings, (count, generator, watch))
        for count in _chunks(settings.num_replicates, max(1, settings.max_rows // settings.num_particles))
    ]
    joined = {name: torch.cat([getattr(run, name) for run in runs], axis) for name, axis in _JOINED}
    rates = tuple(sum(values) / len(values) for values in zip(*(run.acceptance_rates for run in runs), strict=True))
    return AnnealingRun(**joined, acceptance_rates=rates)


def reverse_anneal(
    path: AnnealingPath,
    plan: AISPlan,
    settings: AISSettings,
    draws: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Walk draws of the target back to the base; log weights in the sense of the forward walk.

    With exact draws E[1/w] = 1/Z, so minus the log-mean-exp of minus the weights is a stochastic upper bound of log Z;
    with draws from elsewhere it is one only as far as they are draws of the target.

    Args:
        path: as of the forward walk, whose kernels are reversible.
        plan: as of the forward walk.
        settings: as of the forward walk; resampling plays no part here.
        draws: ``(n, *event)``, taken for draws of the target.
        generator: source of randomness.

    Returns:
        float64 log weights ``(n,)``.

    Source: Grosse, Ghahramani and Adams 2015 (bidirectional Monte Carlo).

    >>> import pyro.distributions as dist
    >>> base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    >>> path = geometric_path(base, lambda x: -2 * (x**2).sum(-1), num_bridges=5)
    >>> settings = AISSettings(num_pilot_particles=16)
    >>> reverse_anneal(path, plan_annealing(path, settings), settings, torch.randn(8, 1) / 2).shape
    torch.Size([8])
    """
    return torch.cat([_reverse_rows(path, plan, settings, rows, generator) for rows in draws.split(settings.max_rows)])


def _reverse_rows(
    path: AnnealingPath, plan: AISPlan, settings: AISSettings, x: Tensor, generator: torch.Generator | None
) -> Tensor:
    weights = torch.zeros(len(x), dtype=torch.float64)
    last = len(path.log_densities) - 1
    for index in range(last, -1, -1):
        log_density = path.log_densities[index]
        kernel = dataclasses.replace(settings.kernel, scale=plan.scales[index])
        state = kernel.init(x, log_density)
        for _ in range(settings.num_transitions):
            step_size = settings.spread_step(plan.step_sizes[index], len(x), generator)
            state, _ = kernel.step(state, log_density, step_size, generator)
        x = state.position
        below = path.log_densities[index - 1] if index else path.base.log_prob
        weights = weights + state.log_density.double().cpu() - _evaluate(below, x)
    return weights


def annealing_log_likelihood(
    path: AnnealingPath,
    plan: AISPlan,
    settings: AISSettings,
    x: Tensor,
    *,
    num_chains: int = 8,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Log-likelihood of rows under the annealing sampler itself, which errs low, ``(n,)``, float64.

    It is another density than the target: that of an annealed particle, without resampling. The mean over chains of
    f(x) / w is unbiased for it, with w the weight of a reverse walk from x.

    Args:
        path: as of the forward walk.
        plan: as of the forward walk.
        settings: as of the forward walk; resampling plays no part here.
        x: rows ``(n, *event)``.
        num_chains: reverse walks from each row.
        generator: source of randomness.

    Source: Burda, Grosse and Salakhutdinov 2015 (RAISE).

    >>> import pyro.distributions as dist
    >>> base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    >>> path = geometric_path(base, lambda x: -2 * (x**2).sum(-1), num_bridges=5)
    >>> settings = AISSettings(num_pilot_particles=16)
    >>> annealing_log_likelihood(path, plan_annealing(path, settings), settings, torch.zeros(3, 1)).shape
    torch.Size([3])
    """
    rows = x.repeat_interleave(num_chains, 0)
    weights = reverse_anneal(path, plan, settings, rows, generator=generator).reshape(len(x), num_chains)
    return _evaluate(path.log_densities[-1], x) + log_mean_exp(-weights, 1)


def annealed_importance_sampling(
    path: AnnealingPath,
    *,
    settings: AISSettings | None = None,
    plan: AISPlan | None = None,
    generator: torch.Generator | None = None,
) -> LogPartitionEstimate:
    """Estimate log Z of the path's target: a stochastic lower bound with its standard error and a verdict.

    Args:
        path: from :func:`sequence_path` or :func:`geometric_path`.
        settings: sizes of the run.
        plan: frozen step sizes and scales; tuned on a discarded pilot when None.
        generator: source of randomness.

    Raises:
        NumericalError: if every particle of a replicate lost its weight.

    >>> import pyro.distributions as dist
    >>> base = dist.Normal(torch.zeros(2), 2.0).to_event(1)
    >>> path = geometric_path(base, lambda x: -0.5 * (x**2).sum(-1) + 3.0, num_bridges=20)
    >>> estimate = annealed_importance_sampling(path, generator=torch.Generator().manual_seed(0))
    >>> abs(estimate.log_z - (3.0 + math.log(2 * math.pi))) < 5 * estimate.standard_error
    True
    """
    settings = AISSettings() if settings is None else settings
    plan = plan_annealing(path, settings, generator=generator) if plan is None else plan
    run = anneal(path, plan, settings, generator=generator)
    details = {
        "num_densities": len(path.log_densities),
        "num_transitions": settings.num_transitions,
        "mean_acceptance_rate": sum(run.acceptance_rates) / len(run.acceptance_rates),
        "least_ess_share": float(run.ess_by_density.min()),
        "is_resampled": settings.resample_below is not None,
    }
    return judge_estimate(run.log_weights, bias="lower", details=details)


def _anneal_rows(
    path: AnnealingPath, plan: AISPlan, settings: AISSettings, job: tuple[int, torch.Generator | None, Watch | None]
) -> AnnealingRun:
    num_replicates, generator, watch = job
    shape = (num_replicates, settings.num_particles)
    x = path.draw(num_replicates * settings.num_particles, generator)
    previous = path.base.log_prob(x).double().cpu()
    weights = torch.zeros(shape, dtype=torch.float64)
    log_z, ess, rates, kept = [], [], [], []
    for index, log_density in enumerate(path.log_densities):
        kernel = dataclasses.replace(settings.kernel, scale=plan.scales[index])
        state = kernel.init(x, log_density)
        weights = weights + (state.log_density.double().cpu() - previous).reshape(shape)
        log_z.append(log_mean_exp(weights, dim=1))
        ess.append(torch.stack([weight_ess(row) for row in weights]) / settings.num_particles)
        if not bool(torch.isfinite(log_z[-1]).all()):
            raise NumericalError(f"every particle lost its weight at density {index} of the path")
        if watch is not None:
            watch(weighed("annealing", index + 1, len(path.log_densities), weights))
        is_last = index == len(path.log_densities) - 1
        if settings.resample_below is not None and not is_last:
            state, weights = _resample_poor(state, weights, ess[-1] < settings.resample_below, generator)
        rate = 0.0
        for _ in range(settings.num_transitions):
            step_size = settings.spread_step(plan.step_sizes[index], len(x), generator)
            state, info = kernel.step(state, log_density, step_size, generator)
            rate += float(info.acceptance_probability.mean()) / settings.num_transitions
        rates.append(rate)
        x, previous = state.position, state.log_density.double().cpu()
        kept.append(_keep(x.reshape(shape + x.shape[1:]), weights, settings.num_kept, generator))
    particles = x.reshape(shape + x.shape[1:])
    return AnnealingRun(weights, particles, torch.stack(log_z), torch.stack(ess), tuple(rates), torch.stack(kept, 1))


def _keep(particles: Tensor, weights: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """``count`` particles of each replicate by their weights, ``(replicate, count, *event)``."""
    if not count:
        return particles[:, :0]
    chosen = [resample(row, count, generator=generator) for row in weights]
    return torch.stack([rows[index] for rows, index in zip(particles, chosen, strict=True)])


def _resample_poor(
    state: ChainState, weights: Tensor, is_poor: Tensor, generator: torch.Generator | None
) -> tuple[ChainState, Tensor]:
    """Resample the replicates marked poor; their weights become the replicate's mean weight."""
    if not bool(is_poor.any()):
        return state, weights
    num_particles = weights.shape[1]
    chosen = torch.arange(weights.numel()).reshape(weights.shape)
    weights = weights.clone()
    for replicate in is_poor.nonzero().flatten().tolist():
        row = weights[replicate]
        chosen[replicate] = replicate * num_particles + resample(row, num_particles, generator=generator)
        weights[replicate] = log_mean_exp(row, dim=0)
    index = chosen.flatten()
    return ChainState(state.position[index], state.log_density[index], state.gradient[index]), weights


def _evaluate(log_density: LogDensity, x: Tensor) -> Tensor:
    with torch.no_grad():
        return log_density(x).double().cpu()


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]
