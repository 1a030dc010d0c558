"""Langevin kernels: unadjusted (ULA) and Metropolis-adjusted (MALA)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.mcmc.hmc import Trajectory, leapfrog_step
from drl_density.mcmc.kernel import (
    ChainState,
    LogDensity,
    StepInfo,
    StepSize,
    init_state,
    per_chain,
    value_and_gradient,
)
from drl_density.records.brief import brief


@dataclass(frozen=True)
class ULA:
    r"""Unadjusted Langevin: :math:`x' = x + \tfrac{\epsilon^2}{2} S^2 \nabla\log p(x) + \epsilon S \xi`.

    Its stationary density is only close to p: on a Gaussian of precision P the variance is 1 / (P (1 - e^2 P / 4)).

    Attributes:
        scale: diagonal preconditioner S, broadcastable to ``(chains, *event)``; None for one.

    >>> kernel = ULA()
    >>> state = kernel.init(torch.zeros(3, 2), lambda x: -0.5 * (x**2).sum(-1))
    >>> kernel.step(state, lambda x: -0.5 * (x**2).sum(-1), 0.5, None)[0].position.shape
    torch.Size([3, 2])
    """

    scale: Tensor | None = None
    is_adjusted: ClassVar[bool] = False
    target_acceptance: ClassVar[float] = 1.0

    __repr__ = brief

    @property
    def gradients_per_step(self) -> int:
        """Gradient evaluations of one transition."""
        return 1

    def with_scale(self, scale: Tensor | None) -> Self:
        """The same kernel with another diagonal scale."""
        return dataclasses.replace(self, scale=scale)

    def init(self, x: Tensor, log_density: LogDensity) -> ChainState:
        """Chain state at ``x``."""
        return init_state(x, log_density)

    def step(
        self, state: ChainState, log_density: LogDensity, step_size: StepSize, generator: torch.Generator | None
    ) -> tuple[ChainState, StepInfo]:
        """One unadjusted step, reported as accepted with energy error zero."""
        x = state.position
        noise = normal_draws(x.shape, x, generator)
        move = per_chain(step_size, x)
        if self.scale is not None:
            move = move * self.scale.to(x)
        position = x + move * (noise + 0.5 * move * state.gradient)
        proposal = ChainState(position, *value_and_gradient(log_density, position))
        ones = torch.ones_like(proposal.log_density)
        is_diverging, none = ~proposal.log_density.isfinite(), torch.full_like(ones, torch.nan)
        return proposal, StepInfo(ones, ones.bool(), is_diverging, torch.zeros_like(ones), none)


@dataclass(frozen=True)
class MALA:
    r"""Metropolis-adjusted Langevin: ULA's proposal, accepted with the Metropolis-Hastings probability.

    Computed as one leapfrog step, in which the proposal ratio is a difference of kinetic energies.

    Attributes:
        scale: diagonal preconditioner S, broadcastable to ``(chains, *event)``; None for one.

    Source: Roberts and Tweedie 1996; target acceptance 0.574 by Roberts and Rosenthal 1998.

    >>> MALA().target_acceptance
    0.574
    """

    scale: Tensor | None = None
    is_adjusted: ClassVar[bool] = True
    target_acceptance: ClassVar[float] = 0.574

    __repr__ = brief

    @property
    def gradients_per_step(self) -> int:
        """Gradient evaluations of one transition."""
        return 1

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
        return leapfrog_step(state, log_density, Trajectory(step_size, 1, self.scale), generator)
