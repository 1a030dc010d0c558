"""Random-walk Metropolis: steps that need no gradient."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.mcmc.kernel import ChainState, LogDensity, StepInfo, StepSize, metropolis, per_chain
from drl_density.records.brief import brief


@dataclass(frozen=True, eq=False)
class RandomWalk:
    """Normal proposals around the chain's position, for a density without a gradient.

    Attributes:
        scale: diagonal scale S of the proposals, broadcastable to ``(chains, *event)``; None for one.

    Source: Metropolis et al. 1953; target acceptance 0.234 in high dimension by Roberts, Gelman and Gilks 1997. It is
    higher in low dimension, 0.44 in one; the value here lies between.

    >>> kernel = RandomWalk()
    >>> state = kernel.init(torch.zeros(4, 2), lambda x: -x.abs().sum(-1))
    >>> kernel.step(state, lambda x: -x.abs().sum(-1), 1.0, torch.Generator().manual_seed(0))[0].position.shape
    torch.Size([4, 2])
    """

    scale: Tensor | None = None
    is_adjusted: ClassVar[bool] = True
    target_acceptance: ClassVar[float] = 0.3

    __repr__ = brief

    @property
    def gradients_per_step(self) -> int:
        """No gradient is evaluated."""
        return 0

    def with_scale(self, scale: Tensor | None) -> Self:
        """The same kernel with another diagonal scale."""
        return dataclasses.replace(self, scale=scale)

    def init(self, x: Tensor, log_density: LogDensity) -> ChainState:
        """Chain state at ``x``, with NaN as its gradient."""
        with torch.no_grad():
            return ChainState(x.detach(), log_density(x.detach()), torch.full_like(x, torch.nan))

    def step(
        self, state: ChainState, log_density: LogDensity, step_size: StepSize, generator: torch.Generator | None
    ) -> tuple[ChainState, StepInfo]:
        """One proposal for every chain."""
        x = state.position
        move = per_chain(step_size, x)
        if self.scale is not None:
            move = move * self.scale.to(x)
        proposal = self.init(x + move * normal_draws(x.shape, x, generator), log_density)
        return metropolis(state, proposal, (-state.log_density, -proposal.log_density), generator)
