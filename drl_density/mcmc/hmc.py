"""Hamiltonian Monte Carlo with a fixed number of leapfrog steps of a random size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from drl_density.devices import normal_draws, uniform_draws
from drl_density.mcmc.kernel import (
    ChainState,
    LogDensity,
    StepInfo,
    StepSize,
    init_state,
    metropolis,
    per_event,
    row_sum_of_squares,
    value_and_gradient,
)
from drl_density.shapes import per_row


@dataclass(frozen=True)
class HMC:
    """Hamiltonian Monte Carlo: fresh momentum, ``num_leapfrog`` leapfrog steps, accept or reject.

    On a Gaussian whose scales are alike, trajectories of a fixed length may close on themselves: the chain comes back to
    where it was, or to its mirror image, and accepts everything. So a transition of more than one step draws its step size.

    Attributes:
        num_leapfrog: leapfrog steps per transition; 1 is MALA.
        scale: diagonal preconditioner S (the inverse root of the mass), broadcastable to ``(chains, *event)``.
        jitter: each transition of each chain multiplies the step size by a draw, uniform within 1 - jitter and 1 + jitter.

    Raises:
        ValueError: no leapfrog steps, or a jitter outside [0, 1).

    Source: Neal 2011, section 3.2 for the random step size; target acceptance 0.65 for a fixed trajectory length by
    Beskos et al. 2013.

    >>> HMC(num_leapfrog=3).gradients_per_step
    3
    """

    num_leapfrog: int = 5
    scale: Tensor | None = None
    jitter: float = 0.2
    is_adjusted: ClassVar[bool] = True
    target_acceptance: ClassVar[float] = 0.65

    def __post_init__(self) -> None:
        if self.num_leapfrog < 1:
            raise ValueError(f"num_leapfrog must be at least 1, got {self.num_leapfrog}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter must lie in [0, 1), got {self.jitter}")

    @property
    def gradients_per_step(self) -> int:
        """Gradient evaluations of one transition."""
        return self.num_leapfrog

    def init(self, x: Tensor, log_density: LogDensity) -> ChainState:
        """State at ``x``."""
        return init_state(x, log_density)

    def step(
        self, state: ChainState, log_density: LogDensity, step_size: StepSize, generator: torch.Generator | None
    ) -> tuple[ChainState, StepInfo]:
        """One transition of all chains."""
        if self.num_leapfrog > 1 and self.jitter:
            like = state.log_density
            drawn = uniform_draws(like.shape, like, generator)
            step_size = step_size * (1 + self.jitter * (2 * drawn - 1))
        return leapfrog_step(state, log_density, (step_size, self.scale, self.num_leapfrog), generator)


def leapfrog_step(
    state: ChainState,
    log_density: LogDensity,
    settings: tuple[StepSize, Tensor | None, int],
    generator: torch.Generator | None,
) -> tuple[ChainState, StepInfo]:
    """Draw a momentum, integrate ``(step_size, scale, num_leapfrog)``, accept or reject."""
    x = state.position
    momentum = normal_draws(x.shape, x, generator)
    proposal, end = integrate(state, momentum, log_density, settings)
    before = 0.5 * row_sum_of_squares(momentum) - state.log_density
    after = 0.5 * row_sum_of_squares(end) - proposal.log_density
    return metropolis(state, proposal, (before, after), generator)


def integrate(
    state: ChainState, momentum: Tensor, log_density: LogDensity, settings: tuple[StepSize, Tensor | None, int]
) -> tuple[ChainState, Tensor]:
    """Leapfrog in coordinates whitened by the scale: end state and end momentum. Reversible and volume preserving.

    A chain that leaves the floating-point numbers stays at its start with log density NaN, which is never accepted.

    Args:
        state: where the chains begin.
        momentum: shape of the position.
        log_density: maps positions ``(chains, *event)`` to ``(chains,)``.
        settings: (step size, diagonal scale or None, number of leapfrog steps).

    >>> from drl_density.mcmc.kernel import init_state
    >>> state = init_state(torch.ones(1, 1), lambda x: -0.5 * x.square().sum(-1))
    >>> end, momentum = integrate(state, torch.zeros(1, 1), lambda x: -0.5 * x.square().sum(-1), (0.1, None, 5))
    >>> abs(float(end.position**2 + momentum**2) - 1) < 0.01
    True
    """
    step_size, scale, num_leapfrog = settings
    move = per_event(step_size, state.position)
    if scale is not None:
        move = move * scale.to(state.position)
    half = 0.5 * move
    start, is_lost = state.position, torch.zeros(len(state.position), dtype=torch.bool, device=state.position.device)
    momentum = momentum + half * state.gradient
    for index in range(num_leapfrog):
        position = torch.addcmul(
            state.position, momentum, torch.as_tensor(move, dtype=start.dtype, device=start.device)
        )
        if is_lost.any() or not position.sum().isfinite():
            is_lost = is_lost | ~row_sum_of_squares(position).isfinite()
            position = torch.where(per_row(is_lost, start), start, position)
        state = ChainState(position, *value_and_gradient(log_density, position))
        is_last = index == num_leapfrog - 1
        momentum = momentum + (half if is_last else move) * state.gradient
    return state._replace(log_density=torch.where(is_lost, torch.nan, state.log_density)), momentum
