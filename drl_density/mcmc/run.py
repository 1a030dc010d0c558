"""``run_chain``: the loop around a kernel, with warm-up, recording, thinning and progress."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from drl_density.errors import DivergenceWarning
from drl_density.mcmc.adaptation import DualAveraging
from drl_density.mcmc.kernel import ChainState, Kernel, LogDensity, StepInfo, StepSize


class ChainStep(NamedTuple):
    """What a callback receives after each step: its index, whether it is warm-up, the state and the information.

    Attributes:
        index: of the step, warm-up included.
        is_warmup: whether it is thrown away.
        state: after the step.
        info: what the step did.

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


@dataclass(frozen=True)
class Recording:
    """What is kept and who is told.

    Attributes:
        thin: keep every thin-th step after warm-up.
        keep_draws: False keeps statistics only.
        progress: show a progress bar.
        on_step: called after every step.
        groups: index of each chain's group ``(chains,)``; chains of one group share an adapted step size, and groups
            are adapted apart. None adapts one step size for all chains.
        max_diverging_share: a warning is given above this share of diverging kept steps.

    >>> from drl_density.mcmc import MALA
    >>> recording, start = Recording(thin=5), torch.zeros(3)
    >>> run_chain(MALA(), lambda x: -(x**2), start, num_steps=20, step_size=0.9, recording=recording).draws.shape
    torch.Size([4, 3])
    """

    thin: int = 1
    keep_draws: bool = True
    progress: bool = False
    on_step: Callable[[ChainStep], None] | None = None
    groups: Tensor | None = None
    max_diverging_share: float = 0.01


@dataclass(frozen=True)
class ChainResult:
    """Draws and statistics of a run.

    Attributes:
        draws: shape ``(draw, chains, *event)``; empty when not kept.
        stats: ``acceptance_rate, step_size, lp, energy_error, energy, diverging``, each ``(draw, chains)``, under the
            names that ArviZ knows; ``energy`` is the Hamiltonian, not the model's.
        final_state: where the chains ended.
        step_size: the frozen step size, a number or one per group.
        mean_squared_jump: mean squared distance per kept step and element of the event.

    >>> from drl_density.mcmc import MALA
    >>> result = run_chain(MALA(), lambda x: -0.5 * x**2, torch.zeros(3), num_steps=20, step_size=0.9)
    >>> result.stats["acceptance_rate"].shape
    torch.Size([20, 3])
    """

    draws: Tensor
    stats: dict[str, Tensor] = field(default_factory=dict)
    final_state: ChainState | None = None
    step_size: StepSize = 0.0
    mean_squared_jump: float = 0.0


def run_chain(
    kernel: Kernel,
    log_density: LogDensity,
    initial: Tensor,
    *,
    num_steps: int,
    step_size: StepSize,
    num_warmup: int = 0,
    adaptation: DualAveraging | None = None,
    recording: Recording | None = None,
    generator: torch.Generator | None = None,
) -> ChainResult:
    """Run many chains side by side.

    Args:
        kernel: the transition.
        log_density: maps ``(chains, *event)`` to ``(chains,)``.
        initial: starting points ``(chains, *event)``.
        num_steps: steps after warm-up.
        step_size: a number, one per chain, or one per group of ``recording.groups``.
        num_warmup: steps before recording; the step size is adapted in them and frozen after.
        adaptation: how; None keeps ``step_size``.
        recording: thinning, callback, groups.
        generator: source of randomness.

    Raises:
        ValueError: for counts that are not positive, or starting points of zero density.

    >>> from drl_density.mcmc import MALA
    >>> result = run_chain(MALA(), lambda x: -0.5 * (x**2).sum(-1), torch.zeros(8, 2), num_steps=20, step_size=0.9)
    >>> result.draws.shape
    torch.Size([20, 8, 2])
    """
    recording = Recording() if recording is None else recording
    if num_steps < 1 or num_warmup < 0 or recording.thin < 1:
        raise ValueError(
            f"need num_steps >= 1, num_warmup >= 0 and thin >= 1, got {num_steps}, {num_warmup}, {recording.thin}"
        )
    state = kernel.init(initial, log_density)
    if not bool(torch.isfinite(state.log_density).all()):
        bad = int((~torch.isfinite(state.log_density)).sum())
        raise ValueError(f"{bad} of {len(initial)} starting points have no finite log density; start elsewhere")
    steps = _progress(num_warmup + num_steps, recording)
    tuner = _Tuner(adaptation if num_warmup else None, step_size, recording.groups, len(initial))
    records: list[tuple[Tensor, ...]] = []
    draws: list[Tensor] = []
    jump = 0.0
    for index in steps:
        is_warmup = index < num_warmup
        if index == num_warmup:
            tuner.freeze()
        before = state.position
        state, info = kernel.step(state, log_density, tuner.per_chain(), generator)
        if is_warmup:
            tuner.update(info.acceptance_probability)
        elif (index - num_warmup) % recording.thin == recording.thin - 1:
            records.append(_record(state, info, tuner.per_chain()))
            if recording.keep_draws:
                draws.append(state.position)
        if not is_warmup:
            jump = jump + (state.position - before).square().mean()
        if recording.on_step is not None:
            recording.on_step(ChainStep(index, is_warmup, state, info))
    stats = _stack(records)
    _warn_of_divergence(stats, recording.max_diverging_share)
    empty = initial.new_empty((0, *initial.shape))
    return ChainResult(torch.stack(draws) if draws else empty, stats, state, tuner.current, float(jump) / num_steps)


class _Tuner:
    """Holds the step size of a run: adapted per group until frozen."""

    def __init__(
        self, adaptation: DualAveraging | None, step_size: StepSize, groups: Tensor | None, num_chains: int
    ) -> None:
        self.adaptation, self.groups, self.current = adaptation, groups, step_size
        if adaptation is not None:
            start = torch.as_tensor(step_size, dtype=torch.float64)
            if groups is not None and start.ndim == 0:
                start = start.expand(int(groups.max()) + 1)
            self.state = adaptation.init(start)
            self.current = adaptation.step_size(self.state)

    def per_chain(self) -> StepSize:
        """The step size as kernels take it."""
        current = self.current
        if self.groups is not None and isinstance(current, Tensor) and current.ndim:
            return current[self.groups]
        return current

    def update(self, acceptance: Tensor) -> None:
        """Adapt to the acceptance of one step."""
        if self.adaptation is None:
            return
        acceptance = acceptance.cpu()
        if self.groups is not None:
            totals = torch.zeros_like(self.state.error).index_add_(0, self.groups, acceptance.double())
            rate = totals / torch.bincount(self.groups, minlength=len(totals))
        else:
            rate = acceptance if self.state.error.ndim else acceptance.mean()
        self.state = self.adaptation.update(self.state, rate)
        self.current = self.adaptation.step_size(self.state)

    def freeze(self) -> None:
        """Fix the averaged step size."""
        if self.adaptation is not None:
            self.current = self.adaptation.final(self.state)
            self.adaptation = None


def _record(state: ChainState, info: StepInfo, step_size: StepSize) -> tuple[Tensor, ...]:
    size = torch.as_tensor(step_size).to(state.log_density).expand(state.log_density.shape)
    return info.acceptance_probability, size, state.log_density, info.energy_error, info.energy, info.is_diverging


def _stack(records: list[tuple[Tensor, ...]]) -> dict[str, Tensor]:
    names = ("acceptance_rate", "step_size", "lp", "energy_error", "energy", "diverging")
    return {name: torch.stack(values) for name, values in zip(names, zip(*records, strict=True), strict=False)}


def _warn_of_divergence(stats: dict[str, Tensor], largest: float) -> None:
    share = float(stats["diverging"].double().mean()) if stats else 0.0
    if share > largest:
        warnings.warn(
            f"{share:.1%} of the kept steps diverged; use a smaller step size or start nearer to the mass",
            DivergenceWarning,
            stacklevel=3,
        )


def _progress(num_steps: int, recording: Recording) -> range:
    if not recording.progress:
        return range(num_steps)
    from tqdm import trange

    return trange(num_steps, unit="step")
