"""Long chains of one level or of recovery conditionals in bounded memory, and the modes that they visit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.errors import DataError
from drl_density.mcmc import MALA, ChainResult, DualAveraging, Kernel, Recording, run_chain
from drl_density.model import EnergySequence
from drl_density.samplers import sample_progressive

MOST_KEPT, MOST_NUMBERS = 1000, 20_000_000
"""Draws kept of each chain, and numbers kept in all: 160 MB in float64."""
RESOLVED = 1000
"""Steps kept without thinning, which shows autocorrelation times of up to a hundred steps."""
CHAINS_PER_CONDITIONAL = 4
"""Chains of one recovery conditional: two from data and two from noise, the fewest that show a spread of each."""


@dataclass(frozen=True)
class ChainTarget:
    """A density for long chains, and their starting points.

    Attributes:
        log_density: unnormalised log density of states ``(chains, *event)``.
        initial: starting points ``(chains, *event)``, those from data first.
        starts: "data" or "noise" for each chain.
        conditional: index of each chain's conditioning state; all 0 for a marginal density.
        scale: scale of the kernel, for each dimension or for all.
        reference: rows ``(n, d)`` that the chains' states should resemble.
    """

    log_density: Callable[[Tensor], Tensor]
    initial: Tensor
    starts: list[str]
    conditional: Tensor
    scale: Tensor
    reference: Tensor

    @property
    def superchains(self) -> list[str]:
        """Label of each chain's superchain: a quarter of the chains of each kind of start."""
        half = len(self.starts) // 2
        size = max(1, half // 4)
        return [f"{start} {(index % half) // size}" for index, start in enumerate(self.starts)]


def marginal_target(
    model: EnergySequence, u: Tensor, level: float, num_chains: int, generator: torch.Generator
) -> ChainTarget:
    """The density p_level, half of the chains started at noised rows and half at progressive draws."""
    half = num_chains // 2
    rows = model.schedule.diffuse(u, level, generator=generator) if level else u
    noise = sample_progressive(model.truncate(level) if level else model, half, generator=generator).draws
    chosen = rows[torch.randperm(len(rows), generator=generator)[:half]]
    return ChainTarget(
        log_density=lambda x: model.log_density(x, level),
        initial=torch.cat([chosen, noise]),
        starts=["data"] * half + ["noise"] * half,
        conditional=torch.zeros(2 * half, dtype=torch.int64),
        scale=model.score(rows[:512], level).square().mean(0).rsqrt(),
        reference=rows,
    )


def recovery_target(
    model: EnergySequence, u: Tensor, level: float, num_chains: int, generator: torch.Generator
) -> ChainTarget:
    """The conditionals p(x_level | x_{level+1}) of states noised from rows.

    Of each four chains, two start at the row's own x_level, an exact draw if the model is right. The other two start at
    the scaled noisier state.
    """
    count, pairs = num_chains // CHAINS_PER_CONDITIONAL, CHAINS_PER_CONDITIONAL // 2
    noisier = min(level + 1, model.num_levels)
    x = model.schedule.diffuse(u, level, generator=generator) if level else u
    chosen = torch.randperm(len(x), generator=generator)[:count]
    own = x[chosen]
    recovery = model.recovery(level, noisier=noisier)
    noise = normal_draws(own.shape, own, generator)
    x_noisier = recovery.step_alpha * own + recovery.step_sigma * noise
    conditional = torch.arange(count).repeat(2 * pairs)
    target = recovery.condition(x_noisier[conditional])
    others = torch.ones(len(x), dtype=torch.bool)
    others[chosen] = len(x) < 2 * count
    return ChainTarget(
        log_density=target.unnormalized_log_prob,
        initial=torch.cat([own.repeat(pairs, 1), (recovery.step_alpha * x_noisier).repeat(pairs, 1)]),
        starts=["data"] * (pairs * count) + ["noise"] * (pairs * count),
        conditional=conditional,
        scale=torch.full((1,), recovery.scale, dtype=own.dtype),
        reference=x[others],
    )


@dataclass(frozen=True)
class LongRun:
    """Draws and statistics of long chains.

    Attributes:
        result: kept draws and statistics, evenly thinned.
        resolved: unthinned draws of one stretch ``(step, chain, d)``, for autocorrelation that thinning hides.
        thin: number of steps between kept draws.
        gradients: gradient evaluations of one chain.
    """

    result: ChainResult
    resolved: Tensor
    thin: int
    gradients: int


def run_long(target: ChainTarget, kernel: Kernel | None, num_steps: int, generator: torch.Generator) -> LongRun:
    """Run adjusted chains of ``num_steps`` steps and keep at most 1,000 draws of each, whatever the length.

    Raises:
        DataError: an unadjusted kernel, whose chains follow another density.
    """
    kernel = MALA() if kernel is None else kernel
    if not kernel.is_adjusted:
        raise DataError("long chains need an adjusted kernel (MALA or HMC): an unadjusted one follows another density")
    if kernel.scale is None:
        kernel = kernel.with_scale(target.scale)
    most_kept = max(10, min(MOST_KEPT, MOST_NUMBERS // target.initial.numel()))
    thin = max(1, math.ceil(num_steps / most_kept))
    warmup = min(500, max(20, num_steps // 10))
    settings: dict[str, Any] = {"generator": generator, "step_size": 0.8}
    adapt = {"num_warmup": warmup, "adaptation": DualAveraging(kernel.target_acceptance)}
    if thin == 1:
        run = run_chain(kernel, target.log_density, target.initial, num_steps=num_steps, **settings, **adapt)
        return LongRun(_on_cpu(run), run.draws.cpu(), 1, num_steps * kernel.gradients_per_step)
    first = run_chain(
        kernel,
        target.log_density,
        target.initial,
        num_steps=min(RESOLVED, most_kept),
        **settings,
        **adapt,
    )
    settings["step_size"] = first.step_size
    run = run_chain(
        kernel,
        target.log_density,
        first.final_state.position,
        num_steps=num_steps,
        recording=Recording(thin=thin),
        **settings,
    )
    return LongRun(_on_cpu(run), first.draws.cpu(), thin, num_steps * kernel.gradients_per_step)


def _on_cpu(run: ChainResult) -> ChainResult:
    stats = {name: values.cpu() for name, values in run.stats.items()}
    return dataclasses.replace(run, draws=run.draws.cpu(), stats=stats)


def centered(draws: Tensor, conditional: Tensor) -> Tensor:
    """Draws ``(draw, chain, d)`` minus the mean over the chains of the same conditional, so that all chains compare."""
    if int(conditional.max()) == 0:
        return draws
    out = draws.clone()
    for index in range(int(conditional.max()) + 1):
        own = (conditional == index).nonzero().flatten()
        out[:, own] -= draws[:, own].mean((0, 1))
    return out


@dataclass(frozen=True)
class ModeOccupancy:
    """Shares of chains and data in each mode of the data.

    Attributes:
        data: share of rows in each mode ``(mode,)``.
        chains: share of kept draws in each mode ``(mode,)``.
        p_value: chi-square test of rows against the chains' ends, one count for each chain; 1 with a single mode.
        switches: changes of mode for each kept draw and chain.
    """

    data: np.ndarray
    chains: np.ndarray
    p_value: float
    switches: float


def mode_occupancy(reference: Tensor, draws: Tensor, independent: Tensor, *, most_modes: int = 6) -> ModeOccupancy:
    """Count the modes of the reference rows, and how often chains are in each.

    Modes are the components of a Gaussian mixture on at most six principal axes, their number chosen by BIC.

    Args:
        reference: rows ``(n, d)`` of data.
        draws: kept draws ``(draw, chain, d)`` of the chains.
        independent: indices of chains whose ends are independent of each other.
        most_modes: largest number of modes to try.
    """
    from scipy import stats
    from sklearn.mixture import GaussianMixture

    rows = reference.double().numpy()[:2000]
    center = rows.mean(0)
    axes = np.linalg.svd(rows - center, full_matrices=False)[2][:6].T
    flat = (rows - center) @ axes
    fitted = [
        GaussianMixture(k, covariance_type="full", reg_covar=1e-3, random_state=0).fit(flat)
        for k in range(1, most_modes + 1)
        if 20 * k <= len(flat)
    ]
    best = min(fitted, key=lambda mixture: mixture.bic(flat)) if fitted else None
    if best is None or best.n_components == 1:
        return ModeOccupancy(np.ones(1), np.ones(1), 1.0, 0.0)
    visited = best.predict((draws.double().flatten(0, 1).numpy() - center) @ axes).reshape(draws.shape[:2])
    shares = [np.bincount(x.ravel(), minlength=best.n_components) / x.size for x in (best.predict(flat), visited)]
    ends = np.bincount(visited[-1][independent.numpy()], minlength=best.n_components)
    counts = np.stack([np.bincount(best.predict(flat), minlength=best.n_components), ends])
    # The stub of scipy describes the result as a bare tuple.
    p_value: Any = stats.chi2_contingency(counts[:, counts.sum(0) > 0])[1]
    return ModeOccupancy(shares[0], shares[1], float(p_value), float((visited[1:] != visited[:-1]).mean()))
