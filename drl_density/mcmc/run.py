"""The loops around a kernel: ``take_steps`` runs bare transitions, ``run_chain`` adds warm-up, recording and thinning."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from drl_density.autograd import outside_inference_mode
from drl_density.errors import DivergenceWarning
from drl_density.mcmc.kernel import ChainState, Kernel, LogDensity, StepInfo, StepSize, spread_step_size
from drl_density.mcmc.step_size import StepSizeRule, Tuner
from drl_density.records.brief import brief
from drl_density.records.fields import PositiveInt, Share, check_fields


class StepsTaken(NamedTuple):
    """Outcome of :func:`take_steps`.

    Attributes:
        state: states of the chains after the last step.
        acceptance_rate: mean acceptance probability of each chain ``(chains,)``; NaN if no step was taken.
        last_step: what the last step did; NaN and False if no step was taken.
    """

    state: ChainState
    acceptance_rate: Tensor
    last_step: StepInfo


@outside_inference_mode
def take_steps(
    kernel: Kernel,
    state: ChainState,
    log_density: LogDensity,
    *,
    num_steps: int,
    step_size: StepSize | Tuner,
    spread: float = 1.0,
    generator: torch.Generator | None = None,
    on_step: Callable[[ChainState, StepInfo], None] | None = None,
) -> StepsTaken:
    """Runs ``num_steps`` transitions of all chains; every loop over kernel steps in this package is this one.

    Args:
        kernel: transition of the chains, such as ``MALA()``.
        state: states to start from, evaluated at ``log_density``.
        log_density: maps positions ``(chains, *event)`` to ``(chains,)``.
        num_steps: number of transitions; 0 returns the state as it is.
        step_size: a number, one per chain ``(chains,)``, or a tuner that adapts to every step.
        spread: at least 1; before each transition every chain's step size is divided by a draw, log-uniform between 1 and
            this.
        on_step: called after each step with the new state and what the step did.

    >>> from drl_density.mcmc import MALA
    >>> state = MALA().init(torch.zeros(8, 2), lambda x: -0.5 * (x**2).sum(-1))
    >>> taken = take_steps(MALA(), state, lambda x: -0.5 * (x**2).sum(-1), num_steps=5, step_size=0.9)
    >>> taken.state.position.shape, taken.acceptance_rate.shape
    (torch.Size([8, 2]), torch.Size([8]))
    """
    num_chains = len(state.position)
    total = torch.zeros_like(state.log_density)
    if not num_steps:
        nothing, never = torch.full_like(total, torch.nan), torch.zeros_like(total, dtype=torch.bool)
        return StepsTaken(state, nothing, StepInfo(nothing, never, never, nothing, nothing))
    info: StepInfo | None = None
    for _ in range(num_steps):
        sizes = step_size.step_sizes(num_chains) if isinstance(step_size, Tuner) else step_size
        sizes = spread_step_size(sizes, spread, num_chains, generator)
        state, info = kernel.step(state, log_density, sizes, generator)
        total = total + info.acceptance_probability
        if isinstance(step_size, Tuner):
            step_size.update(info.acceptance_probability)
        if on_step is not None:
            on_step(state, info)
    assert info is not None  # num_steps is positive
    return StepsTaken(state, total / num_steps, info)


@dataclass(frozen=True)
class ChainStep:
    """What the callback of :func:`run_chain` receives after each step.

    Attributes:
        index: number of the step, counted from 0 and including warm-up.
        is_warmup: whether the step belongs to the discarded warm-up.
        state: state of all chains after the step.
        info: acceptance, divergence and energies of the step.

    >>> from drl_density.mcmc import MALA
    >>> seen, start = [], torch.zeros(3)
    >>> recording = Recording(on_step=lambda step: seen.append(step.index))
    >>> result = run_chain(MALA(), lambda x: -(x**2), start, num_steps=3, step_size=0.9, recording=recording)
    >>> seen
    [0, 1, 2]
    """

    index: int
    is_warmup: bool
    state: ChainState
    info: StepInfo


@dataclass(frozen=True, eq=False)
class Recording:
    """What :func:`run_chain` keeps and reports.

    Attributes:
        thin: every thin-th step after warm-up is kept.
        keep_draws: whether to keep positions; with False only statistics are kept.
        on_step: called with a :class:`ChainStep` after every step, warm-up included.
        groups: group index of each chain ``(chains,)``. Chains of one group share an adapted step size, and each group
            adapts separately. With None all chains share one step size.
        max_diverging_share: share of diverging kept steps above which a warning is issued.

    >>> from drl_density.mcmc import MALA
    >>> recording, start = Recording(thin=5), torch.zeros(3)
    >>> run_chain(MALA(), lambda x: -(x**2), start, num_steps=20, step_size=0.9, recording=recording).draws.shape
    torch.Size([4, 3])
    """

    thin: PositiveInt = 1
    keep_draws: bool = True
    progress: bool = False
    on_step: Callable[[ChainStep], None] | None = None
    groups: Tensor | None = None
    # One diverging step in a hundred is common while chains settle; more than that says the step size is too large.
    max_diverging_share: Share = 0.01

    def __post_init__(self) -> None:
        check_fields(self)

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class ChainResult:
    """Draws and statistics of :func:`run_chain`.

    Attributes:
        draws: kept positions ``(draw, chains, *event)``; empty when they were not kept.
        stats: ``acceptance_rate, step_size, lp, energy_error, energy, diverging``, each ``(draw, chains)``, under the
            names that ArviZ uses. ``energy`` is the Hamiltonian, not the energy of the model.
        final_state: states of the chains after the last step.
        step_size: the frozen step size, a number or one per group.
        mean_squared_jump: mean squared distance per step after warm-up and element of the event.

    >>> from drl_density.mcmc import MALA
    >>> result = run_chain(MALA(), lambda x: -0.5 * x**2, torch.zeros(3), num_steps=20, step_size=0.9)
    >>> result.stats["acceptance_rate"].shape
    torch.Size([20, 3])
    """

    draws: Tensor
    stats: dict[str, Tensor]
    final_state: ChainState
    step_size: StepSize
    mean_squared_jump: float

    __repr__ = brief


@outside_inference_mode
def run_chain(
    kernel: Kernel,
    log_density: LogDensity,
    initial: Tensor,
    *,
    num_steps: int,
    step_size: StepSize,
    num_warmup: int = 0,
    adaptation: StepSizeRule[Any] | None = None,
    recording: Recording | None = None,
    generator: torch.Generator | None = None,
) -> ChainResult:
    """Run many chains in parallel, with warm-up, step-size adaptation and recording.

    Args:
        kernel: transition of the chains, such as ``MALA()``.
        log_density: maps ``(chains, *event)`` to ``(chains,)``.
        initial: starting points ``(chains, *event)``.
        num_steps: number of steps after warm-up.
        step_size: a number, one per chain, or one per group of ``recording.groups``.
        num_warmup: number of discarded steps, during which the step size adapts; it is frozen after them.
        adaptation: :class:`DualAveraging` or :class:`RobbinsMonro`; None keeps ``step_size``.
        recording: what to keep and report.

    Raises:
        ValueError: counts that are not positive, or starting points of zero density.

    >>> from drl_density.mcmc import MALA
    >>> result = run_chain(MALA(), lambda x: -0.5 * (x**2).sum(-1), torch.zeros(8, 2), num_steps=20, step_size=0.9)
    >>> result.draws.shape
    torch.Size([20, 8, 2])
    """
    recording = Recording() if recording is None else recording
    if num_steps < 1 or num_warmup < 0:
        raise ValueError(f"need num_steps >= 1 and num_warmup >= 0, got {num_steps} and {num_warmup}")
    state = kernel.init(initial, log_density)
    if not bool(torch.isfinite(state.log_density).all()):
        bad = int((~torch.isfinite(state.log_density)).sum())
        raise ValueError(f"{bad} of {len(initial)} starting points have no finite log density; start elsewhere")
    tuner = Tuner(adaptation if num_warmup else None, step_size, groups=recording.groups)
    with tqdm(total=num_warmup + num_steps, unit="step", disable=not recording.progress) as bar:
        recorder = _Recorder(recording, num_warmup, bar)
        if num_warmup:
            state = take_steps(
                kernel,
                state,
                log_density,
                num_steps=num_warmup,
                step_size=tuner,
                generator=generator,
                on_step=recorder.warm_up,
            ).state
            tuner.freeze()
        recorder.begin(state, tuner.step_sizes(len(initial)))
        state = take_steps(
            kernel,
            state,
            log_density,
            num_steps=num_steps,
            step_size=recorder.step_size,
            generator=generator,
            on_step=recorder.record,
        ).state
    stats = recorder.stats()
    _warn_of_divergence(stats, recording.max_diverging_share)
    draws = torch.stack(recorder.draws) if recorder.draws else initial.new_empty((0, *initial.shape))
    return ChainResult(draws, stats, state, tuner.current, float(recorder.jump) / num_steps)


class _Recorder:
    """Keeps draws and statistics of the steps after warm-up, and passes every step on to the caller's callback."""

    def __init__(self, recording: Recording, num_warmup: int, bar: tqdm[NoReturn]) -> None:
        self.recording, self.num_warmup, self.bar = recording, num_warmup, bar
        self.index = 0
        self.jump: Tensor | float = 0.0
        self.step_size: StepSize = math.nan
        self.previous = torch.empty(0)
        self.draws: list[Tensor] = []
        self.records: list[tuple[Tensor, ...]] = []

    def begin(self, state: ChainState, step_size: StepSize) -> None:
        """Start recording at ``state``, with the frozen step size."""
        self.previous, self.step_size = state.position, step_size

    def warm_up(self, state: ChainState, info: StepInfo) -> None:
        """Report one step of the warm-up."""
        self._report(state, info, is_warmup=True)

    def record(self, state: ChainState, info: StepInfo) -> None:
        """Keep one step, if it is not thinned out, and report it."""
        thin = self.recording.thin
        if (self.index - self.num_warmup) % thin == thin - 1:
            self.records.append(_record(state, info, self.step_size))
            if self.recording.keep_draws:
                self.draws.append(state.position)
        self.jump = self.jump + (state.position - self.previous).square().mean()
        self.previous = state.position
        self._report(state, info, is_warmup=False)

    def stats(self) -> dict[str, Tensor]:
        """Statistics of the kept steps by name, each ``(draw, chains)``."""
        names = ("acceptance_rate", "step_size", "lp", "energy_error", "energy", "diverging")
        return {name: torch.stack(values) for name, values in zip(names, zip(*self.records, strict=True), strict=False)}

    def _report(self, state: ChainState, info: StepInfo, *, is_warmup: bool) -> None:
        if self.recording.on_step is not None:
            self.recording.on_step(ChainStep(self.index, is_warmup, state, info))
        self.index += 1
        self.bar.update()


def _record(state: ChainState, info: StepInfo, step_size: StepSize) -> tuple[Tensor, ...]:
    size = torch.as_tensor(step_size).to(state.log_density).expand(state.log_density.shape)
    return info.acceptance_probability, size, state.log_density, info.energy_error, info.energy, info.is_diverging


def _warn_of_divergence(stats: dict[str, Tensor], largest: float) -> None:
    share = float(stats["diverging"].double().mean()) if stats else 0.0
    if share > largest:
        warnings.warn(
            f"{share:.1%} of the kept steps diverged; use a smaller step size or start nearer to the mass",
            DivergenceWarning,
            stacklevel=3,
        )
