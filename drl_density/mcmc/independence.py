"""The independence sampler: Metropolis-Hastings steps whose proposals do not depend on where a chain is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from drl_density.mcmc.kernel import ChainState, LogDensity, StepInfo, StepSize, metropolis
from drl_density.records.brief import brief
from drl_density.records.fields import PositiveInt, check_fields

Propose = Callable[[int, torch.Generator | None], Tensor]
"""``propose(count, generator)``: independent draws ``(count, *event)``."""


@dataclass(frozen=True, eq=False)
class Independence:
    r"""Independent proposals from a density q, each accepted with probability :math:`\min(1, w(y) / w(x))`.

    The weight is :math:`w = p / q`. The ``log_density`` of this kernel is therefore :math:`\log w`, the log density of p
    *relative to q*, and neither p nor q has to be evaluated alone. If w is at most M times its mean under q, then n
    proposals leave a total variation distance of at most :math:`(1 - 1/M)^n` from any start. There is no gradient, and a
    step size has no effect.

    Attributes:
        propose: ``propose(count, generator)``, independent draws ``(count, *event)`` of q.
        num_proposals: proposals of one step, one after the other. They are drawn and weighted in one pass.

    Raises:
        ValueError: a number of proposals that is not positive.

    Source: Tierney 1994, section 2.3.3; the bound is theorem 2.1 of Mengersen and Tweedie 1996.

    >>> kernel = Independence(lambda count, generator: torch.randn(count, 2, generator=generator), num_proposals=3)
    >>> state = kernel.init(torch.zeros(4, 2), lambda x: x[:, 0])
    >>> kernel.step(state, lambda x: x[:, 0], 1.0, torch.Generator().manual_seed(0))[0].position.shape
    torch.Size([4, 2])
    """

    propose: Propose
    num_proposals: PositiveInt = 1
    is_adjusted: ClassVar[bool] = True
    target_acceptance: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        check_fields(self)

    __repr__ = brief

    @property
    def scale(self) -> Tensor | None:
        """None: proposals have the scale of their own density."""
        return None

    @property
    def gradients_per_step(self) -> int:
        """No gradient is evaluated."""
        return 0

    def with_scale(self, scale: Tensor | None) -> Self:
        """The same kernel, whose proposals take no other ``scale``."""
        return self

    def init(self, x: Tensor, log_density: LogDensity) -> ChainState:
        """Chain state at ``x``, with the log weight as its log density and NaN as its gradient."""
        with torch.no_grad():
            return ChainState(x.detach(), log_density(x.detach()), torch.full_like(x, torch.nan))

    def step(
        self, state: ChainState, log_density: LogDensity, step_size: StepSize, generator: torch.Generator | None
    ) -> tuple[ChainState, StepInfo]:
        """All proposals of one step for every chain; ``step_size`` has no effect.

        Returns:
            The state after the last proposal; the mean acceptance probability of the proposals, whether any was accepted,
            whether any energy error was divergent, and the energies of the last one.
        """
        count = len(state.position)
        proposals = self.init(self.propose(self.num_proposals * count, generator).to(state.position), log_density)
        infos = []
        for index in range(self.num_proposals):
            part = slice(index * count, (index + 1) * count)
            proposal = ChainState(*(values[part] for values in proposals))
            state, info = metropolis(state, proposal, (-state.log_density, -proposal.log_density), generator)
            infos.append(info)
        return state, StepInfo(
            torch.stack([info.acceptance_probability for info in infos]).mean(0),
            torch.stack([info.is_accepted for info in infos]).any(0),
            torch.stack([info.is_diverging for info in infos]).any(0),
            infos[-1].energy_error,
            infos[-1].energy,
        )
