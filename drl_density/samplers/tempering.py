"""Parallel tempering over the noise levels: chains on every level of a ladder, which exchange states by adjusted moves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.devices import normal_draws, uniform_draws
from drl_density.mcmc import MALA, ChainState, DualAveraging, Kernel, Tuner, init_state, take_steps
from drl_density.mcmc.kernel import choose, require_adjusted, row_sum_of_squares
from drl_density.model import EnergySequence
from drl_density.records.brief import brief
from drl_density.records.fields import Interval, PositiveInt, check_fields
from drl_density.records.given import given_or_default
from drl_density.samplers.progressive import sample_progressive
from drl_density.shapes import per_row


@dataclass(frozen=True)
class TemperingSettings:
    """Lengths of a run of replica exchange and of its pilot runs.

    Attributes:
        num_sweeps: sweeps after the pilots. A sweep is ``steps_per_sweep`` kernel steps at every level and one round of
            swaps.
        num_pilot_sweeps: sweeps of each of the two pilots, whose draws are discarded.
        steps_per_sweep: kernel steps between two rounds of swaps.
        num_pilot_levels: number of rungs of the first pilot's ladder, evenly spaced in level.
        most_kept: largest number of draws kept of each ladder, evenly thinned.
        kernel: an adjusted kernel, such as ``MALA()`` or ``HMC()``.

    Raises:
        ValueError: an unadjusted kernel, or a number outside its range.
    """

    num_sweeps: PositiveInt = 500
    num_pilot_sweeps: PositiveInt = 60
    steps_per_sweep: PositiveInt = 2
    num_pilot_levels: Annotated[int, Interval(2)] = 16
    most_kept: PositiveInt = 1000
    kernel: Kernel = field(default_factory=MALA)

    def __post_init__(self) -> None:
        check_fields(self)
        require_adjusted(self.kernel, "parallel tempering")


@dataclass(frozen=True, eq=False)
class TemperedChains:
    """Outcome of :func:`run_tempering`.

    Attributes:
        draws: states of the lowest rung in model space, ``(draw, ladder, *event)``; ladders are independent.
        log_densities: log density F of the draws, ``(draw, ladder)``.
        levels: noise levels of the rungs, the cleanest first; the last is T, refreshed by exact draws of N(0, I).
        swap_rates: mean acceptance of swaps between neighbouring rungs, ``(rungs - 1,)``.
        restarts: number of states per ladder that started at T and reached the lowest rung.
        acceptance_rates: mean acceptance of the kernel on each rung, ``(rungs,)``.
        num_gradients: gradient evaluations of one ladder over all its rungs, pilots included.
    """

    draws: Tensor
    log_densities: Tensor
    levels: tuple[float, ...]
    swap_rates: Tensor
    restarts: Tensor
    acceptance_rates: Tensor
    num_gradients: int

    __repr__ = brief

    @property
    def barrier(self) -> float:
        """Communication barrier of the ladder: the sum of the rejection rates of its swaps."""
        return float((1 - self.swap_rates).sum())


@dataclass(frozen=True)
class Ladder:
    """Rungs of a tempering run.

    Attributes:
        levels: noise levels of the rungs, the cleanest first.
        scales: diagonal scale of the kernel on each rung, ``(rungs, *event)``.
        step_sizes: step size of the kernel on each rung, ``(rungs,)``.
        ratios: factor r of the swap of each rung with the next noisier one, ``(rungs - 1,)``.
    """

    levels: tuple[float, ...]
    scales: Tensor
    step_sizes: Tensor
    ratios: Tensor


@dataclass(frozen=True)
class _Sweeps:
    """Outcome of a run of sweeps: last state, kept draws, and rates."""

    state: ChainState
    draws: list[Tensor]
    log_densities: list[Tensor]
    swap_rates: Tensor
    acceptance_rates: Tensor
    restarts: Tensor
    step_sizes: Tensor


@outside_inference_mode
def run_tempering(
    model: EnergySequence,
    num_ladders: int,
    *,
    level: float = 0.0,
    initial: Tensor | None = None,
    settings: TemperingSettings | None = None,
    generator: torch.Generator | None = None,
) -> TemperedChains:
    r"""Runs chains of one level that move between its modes by exchanging states with noisier levels.

    Neighbouring rungs a (cleaner) and b swap by the volume-preserving map :math:`x_a' = x_b / r, x_b' = r x_a`, accepted
    with probability :math:`\min(1, \exp(F_a(x_a') + F_b(x_b') - F_a(x_a) - F_b(x_b)))`, so every level keeps its own
    density. The factor r is 1 or :math:`\alpha_b / \alpha_a`, which maps modes onto modes; each pair uses the one that a
    pilot accepted more often. Even and odd pairs alternate. A first pilot on an even ladder measures rejection rates; then
    the rungs are placed so that every pair rejects equally often.

    Args:
        num_ladders: number of independent ladders; each gives a sequence of dependent draws, so this is no ``num_samples``.
        level: level whose density is sampled.
        initial: states of that level to start at, ``(num_ladders, *event)``, noised for the other rungs; progressive draws
            by default.

    Raises:
        ValueError: a level at or above T, fewer than two ladders, or starting points of another shape.

    Source: Syed, Bouchard-Cote, Deligiannidis and Doucet 2022 (non-reversible parallel tempering), with noise levels
    instead of temperatures.
    """
    settings = given_or_default(settings, TemperingSettings)
    if num_ladders < 2 or settings.num_sweeps < 2 or not 0 <= level < model.num_levels:
        raise ValueError(
            f"need at least 2 ladders, 2 sweeps and a level in [0, {model.num_levels}), got {num_ladders} ladders, "
            f"{settings.num_sweeps} sweeps and level {level}"
        )
    if initial is None:
        below = model.truncate(level) if level else model
        initial = sample_progressive(below, num_ladders, generator=generator).draws
    if initial.shape != (num_ladders, *model.event_shape):
        raise ValueError(
            f"expected starting points of shape {(num_ladders, *model.event_shape)}, got {tuple(initial.shape)}"
        )
    rungs = torch.linspace(level, model.num_levels, settings.num_pilot_levels, dtype=torch.float64).tolist()
    ladder, x = _first_ladder(model, rungs, initial, generator)
    ladder, sweeps, first = _pilot(model, ladder, x, settings, generator)
    rungs = _even_rejections(ladder.levels, sweeps.swap_rates)
    ladder, x = _first_ladder(model, rungs, sweeps.state.position[:num_ladders], generator)
    ladder, sweeps, second = _pilot(model, ladder, x, settings, generator)
    thin = max(1, math.ceil(settings.num_sweeps / settings.most_kept))
    run = _sweep(model, ladder, sweeps.state.position, settings, generator, num_sweeps=settings.num_sweeps, thin=thin)
    return TemperedChains(
        draws=torch.stack(run.draws),
        log_densities=torch.stack(run.log_densities),
        levels=ladder.levels,
        swap_rates=run.swap_rates,
        restarts=run.restarts,
        acceptance_rates=run.acceptance_rates,
        num_gradients=first + second + _per_sweep(settings) * settings.num_sweeps * len(ladder.levels),
    )


def _first_ladder(
    model: EnergySequence, levels: list[float], bottom: Tensor, generator: torch.Generator | None
) -> tuple[Ladder, Tensor]:
    """A ladder with scales from the noised starting points, and its states ``(rungs * ladders, *event)``."""
    states, scales = [], []
    for level in levels[:-1]:
        a, s = (
            (float(value) for value in model.schedule.step_between(levels[0], level)) if level > levels[0] else (1, 0)
        )
        noise = normal_draws(bottom.shape, bottom, generator)
        states.append(a * bottom + s * noise)
        scales.append(model.score(states[-1], level).square().mean(0).rsqrt())
    states.append(normal_draws(bottom.shape, bottom, generator))
    scales.append(torch.ones_like(scales[0]))
    start = torch.full((len(levels),), 0.8, dtype=torch.float64)
    ones = torch.ones(len(levels) - 1, dtype=torch.float64)
    return Ladder(tuple(levels), torch.stack(scales), start, ones), torch.cat(states)


def _pilot(
    model: EnergySequence, ladder: Ladder, x: Tensor, settings: TemperingSettings, generator: torch.Generator | None
) -> tuple[Ladder, _Sweeps, int]:
    """Adapts step sizes, then measures swap rates of both ratios with frozen steps, and keeps each pair's better one."""
    count = max(2, settings.num_pilot_sweeps // 3)  # two at least, so that even and odd pairs are both tried
    adaptation = DualAveraging(settings.kernel.target_acceptance)
    adapted = _sweep(model, ladder, x, settings, generator, num_sweeps=count, adaptation=adaptation)
    ladder = dataclasses.replace(ladder, step_sizes=adapted.step_sizes)
    plain = _sweep(model, ladder, adapted.state.position, settings, generator, num_sweeps=count)
    alpha = model.schedule.alpha_at(torch.tensor(ladder.levels, dtype=torch.float64))
    ladder = dataclasses.replace(ladder, ratios=alpha[1:] / alpha[:-1])
    laid = _sweep(model, ladder, plain.state.position, settings, generator, num_sweeps=count)
    is_plain = plain.swap_rates > laid.swap_rates
    ladder = dataclasses.replace(ladder, ratios=torch.where(is_plain, 1.0, ladder.ratios))
    best = dataclasses.replace(laid, swap_rates=torch.maximum(plain.swap_rates, laid.swap_rates))
    return ladder, best, 3 * count * _per_sweep(settings) * len(ladder.levels)


def _per_sweep(settings: TemperingSettings) -> int:
    """Gradient evaluations of one rung in one sweep."""
    return settings.steps_per_sweep * settings.kernel.gradients_per_step + 1


def _even_rejections(levels: tuple[float, ...], swap_rates: Tensor) -> list[float]:
    """Rungs between the same ends at which the cumulative rejection rate rises evenly, about 0.4 per pair."""
    # Syed et al. 2022, section 5.3: the round-trip rate is best at a rejection rate of 1/2; 0.4 leaves room for error.
    rejection = (1 - swap_rates).double()
    total = torch.cat([torch.zeros(1, dtype=torch.float64), (rejection + 1e-3).cumsum(0)])
    number = max(2, math.ceil(float(total[-1]) / 0.4))
    wanted = torch.linspace(0, float(total[-1]), number + 1, dtype=torch.float64)[1:-1]
    places = torch.searchsorted(total, wanted)
    nodes = torch.tensor(levels, dtype=torch.float64)
    share = (wanted - total[places - 1]) / (total[places] - total[places - 1])
    inner = nodes[places - 1] + share * (nodes[places] - nodes[places - 1])
    return [levels[0], *inner.tolist(), levels[-1]]


def _sweep(
    model: EnergySequence,
    ladder: Ladder,
    x: Tensor,
    settings: TemperingSettings,
    generator: torch.Generator | None,
    *,
    num_sweeps: int,
    thin: int = 1,
    adaptation: DualAveraging | None = None,
) -> _Sweeps:
    """Sweeps of kernel steps and swaps from states ``(rungs * ladders, *event)``, in the order of the rungs."""
    rungs = len(ladder.levels)
    num_ladders = len(x) // rungs
    density = _joint_log_density(model, ladder.levels, num_ladders)
    kernel = settings.kernel.with_scale(ladder.scales.repeat_interleave(num_ladders, 0))
    tuner = Tuner(adaptation, ladder.step_sizes, groups=rungs)
    state = kernel.init(x, density)
    comes_from_top = torch.zeros(rungs, num_ladders, dtype=torch.bool, device=x.device)
    restarts = torch.zeros(num_ladders, dtype=torch.int64, device=x.device)
    accepted, tried = torch.zeros(rungs - 1, dtype=torch.float64), torch.zeros(rungs - 1, dtype=torch.float64)
    acceptance = torch.zeros(rungs, dtype=torch.float64)
    draws, log_densities = [], []
    for sweep in range(num_sweeps):
        state, rates, _ = take_steps(
            kernel, state, density, num_steps=settings.steps_per_sweep, step_size=tuner, generator=generator
        )
        acceptance += rates.reshape(rungs, num_ladders).mean(1).double().cpu() / num_sweeps
        state = _refresh_top(state, num_ladders, generator)
        comes_from_top[-1] = True
        lower = torch.arange(sweep % 2, rungs - 1, 2)
        state, is_swapped, probability = swap_neighbours(state, density, ladder, lower, generator)
        accepted[lower] += probability.mean(1).double().cpu()
        tried[lower] += 1
        for row, rung in enumerate(lower.tolist()):
            here, above = comes_from_top[rung].clone(), comes_from_top[rung + 1].clone()
            comes_from_top[rung] = torch.where(is_swapped[row], above, here)
            comes_from_top[rung + 1] = torch.where(is_swapped[row], here, above)
        restarts += comes_from_top[0]
        comes_from_top[0] = False
        if sweep % thin == thin - 1:
            draws.append(state.position[:num_ladders].clone())  # a view would keep every rung
            log_densities.append(state.log_density[:num_ladders].clone())
    tuner.freeze()
    step_sizes = torch.as_tensor(tuner.current)
    return _Sweeps(state, draws, log_densities, accepted / tried, acceptance, restarts, step_sizes)


def _joint_log_density(
    model: EnergySequence, levels: tuple[float, ...], num_ladders: int
) -> Callable[[Tensor], Tensor]:
    """Log density of every row at its own rung; the last rung is N(0, I)."""
    per_row = torch.tensor(levels[:-1], dtype=torch.float64).repeat_interleave(num_ladders)
    log_snr = model.schedule.log_snr_at(per_row)

    def log_density(x: Tensor) -> Tensor:
        below = model.log_density_at(x[: len(per_row)], log_snr)
        return torch.cat([below, -0.5 * row_sum_of_squares(x[len(per_row) :])])

    return log_density


def _refresh_top(state: ChainState, num_ladders: int, generator: torch.Generator | None) -> ChainState:
    """Replaces the states at level T by exact draws of N(0, I)."""
    x = state.position
    fresh = normal_draws(x[-num_ladders:].shape, x, generator)
    kept = slice(0, len(x) - num_ladders)
    return ChainState(
        torch.cat([x[kept], fresh]),
        torch.cat([state.log_density[kept], -0.5 * row_sum_of_squares(fresh)]),
        torch.cat([state.gradient[kept], -fresh]),
    )


def swap_neighbours(
    state: ChainState,
    log_density: Callable[[Tensor], Tensor],
    ladder: Ladder,
    lower: Tensor,
    generator: torch.Generator | None,
) -> tuple[ChainState, Tensor, Tensor]:
    """Proposes to swap rungs ``lower`` with the next noisier ones.

    Returns the state, and for each pair and ladder whether it was swapped and with which probability, ``(pairs, ladders)``.
    """
    rungs = len(ladder.levels)
    x = state.position.unflatten(0, (rungs, -1))
    num_ladders, upper = x.shape[1], lower + 1
    ratios = per_row(ladder.ratios[lower].to(x), x)
    proposed = x.clone()
    proposed[lower], proposed[upper] = x[upper] / ratios, x[lower] * ratios
    new = init_state(proposed.flatten(0, 1), log_density)
    change = (new.log_density - state.log_density).reshape(rungs, num_ladders)
    log_ratio = change[lower] + change[upper]
    log_ratio = torch.where(log_ratio.isnan(), -torch.inf, log_ratio)
    probability = log_ratio.exp().minimum(torch.ones_like(log_ratio))
    uniform = uniform_draws(probability.shape, x, generator)
    is_swapped = uniform < probability
    taken = torch.zeros(rungs, num_ladders, dtype=torch.bool, device=x.device)
    taken[lower], taken[upper] = is_swapped, is_swapped
    return choose(taken.flatten(), new, state), is_swapped, probability
