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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from drl_density.errors import NumericalError
from drl_density.mcmc import MALA, ChainState, Kernel
from drl_density.model import EnergySequence
from drl_density.weights import LogPartitionEstimate, judge_estimate, log_mean_exp, resample, weight_ess

LogDensity = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class AnnealingPath:
    """Densities from a normalised base to a target.

    Attributes:
        base: a Pyro or torch distribution with ``log_prob`` whose draws are exact.
        log_densities: unnormalised log densities after the base, the target last; each maps rows to ``(rows,)``.
        draw: ``draw(num_rows, generator)`` exact base draws ``(num_rows, *event)``.
        levels: continuous level of each density where the path is that of a sequence, else its index.
    """

    base: Any
    log_densities: tuple[LogDensity, ...]
    draw: Callable[[int, torch.Generator | None], Tensor]
    levels: tuple[float, ...]


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
    """

    num_particles: int = 256
    num_replicates: int = 8
    num_transitions: int = 2
    num_pilot_particles: int = 256
    kernel: Kernel = field(default_factory=MALA)
    resample_below: float | None = 0.5
    max_rows: int = 8192

    def __post_init__(self) -> None:
        if not self.kernel.is_adjusted:
            raise ValueError(
                f"annealed importance sampling needs an adjusted kernel, got {self.kernel!r}: an unadjusted one does "
                "not leave the densities invariant and biases log Z; use MALA() or HMC()"
            )
        if min(self.num_particles, self.num_replicates, self.num_transitions, self.num_pilot_particles) < 1:
            raise ValueError(f"counts must be positive, got {self}")


@dataclass(frozen=True)
class AISPlan:
    """Step size and diagonal scale for each density of a path, fixed by a pilot."""

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
    """

    log_weights: Tensor
    particles: Tensor
    log_z_by_density: Tensor
    ess_by_density: Tensor
    acceptance_rates: tuple[float, ...]


def sequence_path(model: EnergySequence, *, level: float = 0.0, steps_per_level: int = 4) -> AnnealingPath:
    """The noise sequence itself as a path: N(0, I), then F at continuous levels from T down to ``level``.

    Args:
        model: the sequence.
        level: where the path ends.
        steps_per_level: densities per unit of level.
    """
    num_steps = max(1, math.ceil((model.num_levels - level) * steps_per_level))
    levels = torch.linspace(model.num_levels, level, num_steps + 1, dtype=torch.float64).tolist()
    levels[-1] = level
    log_snrs = [model.schedule.log_snr_at(value) for value in levels]

    def at(log_snr: Tensor) -> LogDensity:
        return lambda x: model.log_density_at(x, log_snr)

    like = torch.empty(0, dtype=model.dtype, device=model.device)
    return AnnealingPath(
        model.top, tuple(at(value) for value in log_snrs), _normal_draws(model.event_shape, like), tuple(levels)
    )


def geometric_path(base: Any, log_density: LogDensity, *, num_bridges: int = 100) -> AnnealingPath:
    """Geometric bridges (1 - a) log base + a log target with annealing a rising evenly to 1.

    Args:
        base: a normalised distribution that can be sampled exactly; its event shape is the target's.
        log_density: the unnormalised target.
        num_bridges: densities after the base.
    """

    def draw(num_rows: int, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return base.sample((num_rows,))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            return base.sample((num_rows,))

    annealings = [(index + 1) / num_bridges for index in range(num_bridges)]
    return AnnealingPath(
        base, tuple(_bridge(base, log_density, value) for value in annealings), draw, tuple(annealings)
    )


def _bridge(base: Any, log_density: LogDensity, annealing: float) -> LogDensity:
    if annealing == 1:
        return log_density
    return lambda x: (1 - annealing) * base.log_prob(x) + annealing * log_density(x)


def _spread(x: Tensor) -> Tensor:
    spread = x.std(0)
    return torch.where(spread > 0, spread, torch.ones_like(spread))


def plan_annealing(
    path: AnnealingPath, settings: AISSettings, *, generator: torch.Generator | None = None, num_tuning: int = 4
) -> AISPlan:
    """Tune step sizes and diagonal scales on a pilot whose particles are discarded.

    On each density the scale is the particles' standard deviation and the step size follows the acceptance by
    Robbins-Monro moves, beginning from the value of the density before.
    """
    kernel = settings.kernel
    x = path.draw(settings.num_pilot_particles, generator)
    step_size, steps, scales, rates = 1.0, [], [], []
    weights = torch.zeros(len(x), dtype=torch.float64)
    previous = path.base.log_prob(x).double()
    for log_density in path.log_densities:
        current = _evaluate(log_density, x).double()
        weights = weights + current - previous
        if weight_ess(weights) < 0.5 * len(x):
            x = x[resample(weights, len(x), generator=generator)]
            weights = torch.zeros_like(weights)
        scale = _spread(x)
        tuned = dataclasses.replace(kernel, scale=scale)
        state = tuned.init(x, log_density)
        for index in range(max(num_tuning, settings.num_transitions)):
            state, info = tuned.step(state, log_density, step_size, generator)
            rate = float(info.acceptance_probability.mean())
            step_size *= math.exp((rate - kernel.target_acceptance) / (1 + 0.5 * index))
        x, previous = state.position, state.log_density.double()
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

    Raises:
        NumericalError: if more than ``most`` bridges would be needed.
    """
    annealings, beta = [], 0.0
    x = geometric_path(base, log_density, num_bridges=1).draw(settings.num_pilot_particles, generator)
    step_size = 1.0
    while beta < 1:
        gain = _evaluate(log_density, x).double() - _evaluate(base.log_prob, x).double()

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
        bridge = _bridge(base, log_density, beta)
        kernel = dataclasses.replace(settings.kernel, scale=_spread(x))
        state = kernel.init(x, bridge)
        for index in range(max(4, settings.num_transitions)):
            state, info = kernel.step(state, bridge, step_size, generator)
            rate = float(info.acceptance_probability.mean())
            step_size *= math.exp((rate - settings.kernel.target_acceptance) / (1 + 0.5 * index))
        x = state.position
    bridges = tuple(_bridge(base, log_density, value) for value in annealings)
    return AnnealingPath(base, bridges, geometric_path(base, log_density, num_bridges=1).draw, tuple(annealings))


def anneal(
    path: AnnealingPath, plan: AISPlan, settings: AISSettings, *, generator: torch.Generator | None = None
) -> AnnealingRun:
    """Walk weighted particles along the path with everything fixed by ``plan``."""
    runs = [
        _anneal_rows(path, plan, settings, (count, generator))
        for count in _chunks(settings.num_replicates, max(1, settings.max_rows // settings.num_particles))
    ]
    joined = {
        name: torch.cat([getattr(run, name) for run in runs], axis)
        for name, axis in (("log_weights", 0), ("particles", 0), ("log_z_by_density", 1), ("ess_by_density", 1))
    }
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

    Returns:
        float64 log weights ``(n,)``.

    Source: Grosse, Ghahramani and Adams 2015 (bidirectional Monte Carlo).
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
            state, _ = kernel.step(state, log_density, plan.step_sizes[index], generator)
        x = state.position
        below = path.log_densities[index - 1] if index else path.base.log_prob
        weights = weights + state.log_density.double() - _evaluate(below, x).double()
    return weights


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
    >>> abs(estimate.value - (3.0 + math.log(2 * math.pi))) < 5 * estimate.standard_error
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
    path: AnnealingPath, plan: AISPlan, settings: AISSettings, job: tuple[int, torch.Generator | None]
) -> AnnealingRun:
    num_replicates, generator = job
    shape = (num_replicates, settings.num_particles)
    x = path.draw(num_replicates * settings.num_particles, generator)
    previous = path.base.log_prob(x).double()
    weights = torch.zeros(shape, dtype=torch.float64)
    log_z, ess, rates = [], [], []
    for index, log_density in enumerate(path.log_densities):
        kernel = dataclasses.replace(settings.kernel, scale=plan.scales[index])
        state = kernel.init(x, log_density)
        weights = weights + (state.log_density.double() - previous).reshape(shape)
        log_z.append(log_mean_exp(weights, dim=1))
        ess.append(torch.stack([weight_ess(row) for row in weights]) / settings.num_particles)
        if not bool(torch.isfinite(log_z[-1]).all()):
            raise NumericalError(f"every particle lost its weight at density {index} of the path")
        is_last = index == len(path.log_densities) - 1
        if settings.resample_below is not None and not is_last:
            state, weights = _resample_poor(state, weights, ess[-1] < settings.resample_below, generator)
        rate = 0.0
        for _ in range(settings.num_transitions):
            state, info = kernel.step(state, log_density, plan.step_sizes[index], generator)
            rate += float(info.acceptance_probability.mean()) / settings.num_transitions
        rates.append(rate)
        x, previous = state.position, state.log_density.double()
    return AnnealingRun(weights, x.reshape(shape + x.shape[1:]), torch.stack(log_z), torch.stack(ess), tuple(rates))


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
        return log_density(x)


def _normal_draws(event_shape: Sequence[int], like: Tensor) -> Callable[[int, torch.Generator | None], Tensor]:
    def draw(num_rows: int, generator: torch.Generator | None) -> Tensor:
        return torch.randn(num_rows, *event_shape, generator=generator, dtype=like.dtype, device=like.device)

    return draw


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]
