"""Hamiltonian Monte Carlo with a fixed number of leapfrog steps of a random size."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar, Self

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
    per_chain,
    row_sum_of_squares,
    value_and_gradient,
)
from drl_density.records.brief import brief
from drl_density.records.fields import Chance, PositiveInt, check_fields
from drl_density.shapes import per_row


@dataclass(frozen=True)
class HMC:
    """Hamiltonian Monte Carlo: fresh momentum, ``num_leapfrog`` leapfrog steps, accept or reject.

    On a Gaussian with nearly equal scales, trajectories of a fixed length may close on themselves: the chain returns to
    its start, or to the mirror image of it, and accepts everything. So a transition of more than one leapfrog step draws
    its step size.

    Attributes:
        num_leapfrog: leapfrog steps per transition; 1 is MALA.
        scale: diagonal preconditioner S (the inverse root of the mass), broadcastable to ``(chains, *event)``.
        jitter: in each transition of each chain the step size is multiplied by a draw, uniform in [1 - jitter, 1 + jitter].

    Raises:
        ValueError: no leapfrog steps, or a jitter outside [0, 1).

    Source: Neal 2011, section 3.2 for the random step size; target acceptance 0.65 for a fixed trajectory length by
    Beskos et al. 2013.

    >>> HMC(num_leapfrog=3).gradients_per_step
    3
    """

    num_leapfrog: PositiveInt = 5
    scale: Tensor | None = None
    jitter: Chance = 0.2
    is_adjusted: ClassVar[bool] = True
    target_acceptance: ClassVar[float] = 0.65

    __repr__ = brief

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def gradients_per_step(self) -> int:
        """Gradient evaluations of one transition."""
        return self.num_leapfrog

    def with_scale(self, scale: Tensor | None) -> Self:
        """The same kernel with another diagonal scale."""
        return dataclasses.replace(self, scale=scale)

    def init(self, x: Tensor, log_density: LogDensity) -> ChainState:
        """Chain state at ``x``."""
        return init_state(x, log_density)

    def step(
        self, state: ChainState, log_density: LogDensity, step_size: StepSize, generator: torch.Generator | None
    ) -> tuple[ChainState, StepInfo]:
        """One transition of all chains."""
        if self.num_leapfrog > 1 and self.jitter:
            like = state.log_density
            drawn = uniform_draws(like.shape, like, generator)
            step_size = step_size * (1 + self.jitter * (2 * drawn - 1))
        trajectory = Trajectory(step_size, self.num_leapfrog, self.scale)
        return leapfrog_step(state, log_density, trajectory, generator)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Length of a leapfrog trajectory.

    Attributes:
        step_size: e, a number or one per chain ``(chains,)``.
        num_steps: number of leapfrog steps.
        scale: diagonal scale S, broadcastable to ``(chains, *event)``; None for one.
    """

    step_size: StepSize
    num_steps: int
    scale: Tensor | None = None

    __repr__ = brief


def leapfrog_step(
    state: ChainState, log_density: LogDensity, trajectory: Trajectory, generator: torch.Generator | None
) -> tuple[ChainState, StepInfo]:
    """Draws a momentum, follows the trajectory, and accepts or rejects its end."""
    x = state.position
    momentum = normal_draws(x.shape, x, generator)
    proposal, end = integrate(state, momentum, log_density, trajectory)
    before = 0.5 * row_sum_of_squares(momentum) - state.log_density
    after = 0.5 * row_sum_of_squares(end) - proposal.log_density
    return metropolis(state, proposal, (before, after), generator)


def integrate(
    state: ChainState, momentum: Tensor, log_density: LogDensity, trajectory: Trajectory
) -> tuple[ChainState, Tensor]:
    """Leapfrog in coordinates whitened by the scale: end state and end momentum. Reversible and volume preserving.

    A chain whose position overflows stays at its start with log density NaN, which is never accepted.

    Args:
        state: states at the start of the trajectories.
        momentum: momenta at the start, in the shape of the positions.
        log_density: maps positions ``(chains, *event)`` to ``(chains,)``.
        trajectory: step size, number of steps and scale.

    >>> from drl_density.mcmc.kernel import init_state
    >>> state = init_state(torch.ones(1, 1), lambda x: -0.5 * x.square().sum(-1))
    >>> end, momentum = integrate(state, torch.zeros(1, 1), lambda x: -0.5 * x.square().sum(-1), Trajectory(0.1, 5))
    >>> abs(float(end.position**2 + momentum**2) - 1) < 0.01
    True
    """
    move = per_chain(trajectory.step_size, state.position)
    if trajectory.scale is not None:
        move = move * trajectory.scale.to(state.position)
    half, start = 0.5 * move, state.position
    shift = torch.as_tensor(move, dtype=start.dtype, device=start.device)
    is_lost: Tensor | None = None  # chains whose position has overflowed, once there is one
    momentum = momentum + half * state.gradient
    for index in range(trajectory.num_steps):
        position = torch.addcmul(state.position, momentum, shift)
        # One sum over all chains is cheap and finite as a rule; only if it is not are the chains looked at one by one.
        if is_lost is not None or not math.isfinite(position.sum().item()):
            is_new = ~row_sum_of_squares(position).isfinite()
            is_lost = is_new if is_lost is None else is_lost | is_new
            position = torch.where(per_row(is_lost, start), start, position)
        state = ChainState(position, *value_and_gradient(log_density, position))
        is_last = index == trajectory.num_steps - 1
        momentum = momentum + (half if is_last else move) * state.gradient
    if is_lost is not None:
        state = state._replace(log_density=torch.where(is_lost, torch.nan, state.log_density))
    return state, momentum
