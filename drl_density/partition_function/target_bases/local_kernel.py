"""An adjusted kernel for targets whose scale differs from place to place."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from drl_density.mcmc import MALA, ChainState, RandomWalk, StepInfo, value_and_gradient
from drl_density.mcmc.kernel import LogDensity, StepSize, metropolis
from drl_density.partition_function.target_bases.contract import Chart
from drl_density.partition_function.target_bases.defended import DefendedBase
from drl_density.partition_function.target_bases.mixture import MixtureBase


@dataclass(frozen=True)
class LocalMALA:
    r"""MALA with the local covariance of a base, followed or preceded by a proposal from the base itself.

    With responsibilities r(k | x) of the base's components, the local move leaves p(x) r(k | x) invariant. It draws k from
    r(. | x), takes a leapfrog step preconditioned by component k's covariance, accepts it with the ratio of p(x) r(k | x),
    and forgets k. Where the base has coordinates of its own, as regressions have, the leapfrog step is taken in these,
    with the log volume of the map added to log p. The other move proposes y from the base b and accepts it with
    probability min(1, p(y) b(x) / (p(x) b(y))). Both moves are reversible in p, whatever the base. A particle proposes in a
    share of its steps, before or after the local move with equal probability, so that the whole step is reversible too, as
    path weights in both directions need.

    Attributes:
        base: fitted base; without a mixture or coordinates of its own, the local move is plain MALA with ``scale``.
        scale: diagonal preconditioner of plain MALA.
        jump_share: share of the steps in which the base also makes a proposal. A proposal costs three evaluations of the
            base, and one in four steps reaches another mode soon enough.

    Source: Gibbs sampling of an auxiliary index; independence Metropolis-Hastings (Tierney 1994).
    """

    base: DefendedBase
    scale: Tensor | None = None
    jump_share: float = 0.25
    is_adjusted: ClassVar[bool] = True
    target_acceptance: ClassVar[float] = 0.574

    @property
    def gradients_per_step(self) -> int:
        """Gradient evaluations of one transition."""
        return 2

    def with_scale(self, scale: Tensor | None) -> Self:
        """The same kernel with another diagonal scale."""
        return dataclasses.replace(self, scale=scale)

    def init(self, x: Tensor, log_density: LogDensity) -> ChainState:
        """State at ``x`` ``(chains, d)``."""
        return ChainState(x.detach(), *self._evaluate(log_density, x))

    def step(
        self, state: ChainState, log_density: LogDensity, step_size: StepSize, generator: torch.Generator | None
    ) -> tuple[ChainState, StepInfo]:
        """Make the local move, and for a share of the particles a jump before or after it; the information is its own."""
        if not self.jump_share:
            return self._local(state, log_density, step_size, generator)
        uniform = torch.rand(len(state.position), generator=generator, device=state.position.device)
        state = self._jump(state, uniform < self.jump_share / 2, log_density, generator)
        state, info = self._local(state, log_density, step_size, generator)
        return self._jump(state, uniform >= 1 - self.jump_share / 2, log_density, generator), info

    def _local(
        self, state: ChainState, log_density: LogDensity, step_size: StepSize, generator: torch.Generator | None
    ) -> tuple[ChainState, StepInfo]:
        match self.base.local:
            case None:
                return self._plain(state, log_density, step_size, generator)
            case MixtureBase() as mixture:
                return self._by_component(state, mixture, log_density, step_size, generator)
            case chart:
                return self._charted(state, chart, log_density, step_size, generator)

    def _plain(
        self, state: ChainState, log_density: LogDensity, step_size: StepSize, generator: torch.Generator | None
    ) -> tuple[ChainState, StepInfo]:
        return MALA(scale=self.scale).step(state, log_density, step_size, generator)

    def _evaluate(self, log_density: LogDensity, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density of the rows, and the gradient by which local moves drift."""
        return value_and_gradient(log_density, x)

    def _jump(
        self, state: ChainState, is_tried: Tensor, log_density: LogDensity, generator: torch.Generator | None
    ) -> ChainState:
        """Propose from the base for the marked particles; only accepted proposals need a gradient."""
        (tried,) = is_tried.nonzero(as_tuple=True)
        if not len(tried):
            return state
        x = state.position[tried]
        position = self.base.draw(len(x), generator).to(x)
        with torch.no_grad():
            proposed, current = self.base.log_prob(torch.cat([position, x])).chunk(2)
            log_ratio = log_density(position) - state.log_density[tried] - proposed + current
        uniform = torch.rand(len(x), generator=generator, dtype=x.dtype, device=x.device)
        (accepted,) = (uniform.log() < log_ratio).nonzero(as_tuple=True)  # not-a-number compares false: rejected
        if not len(accepted):
            return state
        moved, position = tried[accepted], position[accepted]
        values, gradients = self._evaluate(log_density, position)
        return ChainState(
            state.position.index_copy(0, moved, position),
            state.log_density.index_copy(0, moved, values),
            state.gradient.index_copy(0, moved, gradients),
        )

    def _by_component(
        self,
        state: ChainState,
        mixture: MixtureBase,
        log_density: LogDensity,
        step_size: StepSize,
        generator: torch.Generator | None,
    ) -> tuple[ChainState, StepInfo]:
        """A leapfrog step preconditioned by the covariance of a component drawn by its responsibility."""
        x = state.position
        if mixture.num_components == 1:  # the responsibility is 1 everywhere
            before, chosen, factors = x.new_zeros(1), None, mixture.factors[0]
        else:
            shares = mixture.log_joint(x).log_softmax(1)
            gumbel = torch.empty_like(shares).exponential_(generator=generator).log()
            chosen = (shares - gumbel).argmax(1, keepdim=True)
            before, factors = shares.gather(1, chosen)[:, 0], mixture.factors[chosen[:, 0]]
        size = torch.as_tensor(step_size).to(x).reshape(-1, 1)
        start = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        half = start + 0.5 * size * _transposed(factors, state.gradient)
        position = x + size * _times(factors, half)
        proposal = ChainState(position, *self._evaluate(log_density, position))
        end = half + 0.5 * size * _transposed(factors, proposal.gradient)
        after = before if chosen is None else mixture.log_joint(position).log_softmax(1).gather(1, chosen)[:, 0]
        energies = (
            0.5 * start.square().sum(1) - state.log_density - before,
            0.5 * end.square().sum(1) - proposal.log_density - after,
        )
        return metropolis(state, proposal, energies, generator)

    def _charted(
        self,
        state: ChainState,
        chart: Chart,
        log_density: LogDensity,
        step_size: StepSize,
        generator: torch.Generator | None,
    ) -> tuple[ChainState, StepInfo]:
        """A leapfrog step in the coordinates in which the base is nearly standard normal."""
        unit = chart.to_unit(state.position)
        size = torch.as_tensor(step_size).to(unit).reshape(-1, 1)
        start = torch.randn(unit.shape, generator=generator, dtype=unit.dtype, device=unit.device)
        half = start + 0.5 * size * chart.pull_back(unit, state.gradient)
        end_unit = unit + size * half
        position = chart.from_unit(end_unit)
        is_lost = ~position.isfinite().all(1)
        position = torch.where(is_lost[:, None], state.position, position)
        end_unit = torch.where(is_lost[:, None], unit, end_unit)
        proposal = ChainState(position, *self._evaluate(log_density, position))
        end = half + 0.5 * size * chart.pull_back(end_unit, proposal.gradient)
        after = torch.where(
            is_lost, torch.nan, 0.5 * end.square().sum(1) - proposal.log_density - chart.log_volume(end_unit)
        )
        before = 0.5 * start.square().sum(1) - state.log_density - chart.log_volume(unit)
        return metropolis(state, proposal, (before, after), generator)


@dataclass(frozen=True)
class LocalRandomWalk(LocalMALA):
    """:class:`LocalMALA` for a density without a gradient: its local moves are random walks with the base's covariance.

    >>> from drl_density.partition_function.target_bases.fitted_base import fit_base
    >>> kernel = LocalRandomWalk(fit_base(torch.randn(2, 64, 1, generator=torch.Generator().manual_seed(0))))
    >>> state = kernel.init(torch.zeros(3, 1), lambda x: -x.detach().abs().sum(-1))
    >>> kernel.step(state, lambda x: -x.detach().abs().sum(-1), 1.0, None)[0].position.shape
    torch.Size([3, 1])
    """

    target_acceptance: ClassVar[float] = RandomWalk.target_acceptance

    def _plain(
        self, state: ChainState, log_density: LogDensity, step_size: StepSize, generator: torch.Generator | None
    ) -> tuple[ChainState, StepInfo]:
        moved, info = RandomWalk(self.scale).step(state, log_density, step_size, generator)
        return moved._replace(gradient=torch.zeros_like(moved.position)), info

    def _evaluate(self, log_density: LogDensity, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return log_density(x.detach()), torch.zeros_like(x)


def _times(factors: Tensor, vectors: Tensor) -> Tensor:
    """One factor ``(d, d)`` or one for each row ``(n, d, d)``, times rows ``(n, d)``."""
    return vectors @ factors.T if factors.ndim == 2 else (factors @ vectors[..., None]).squeeze(-1)


def _transposed(factors: Tensor, vectors: Tensor) -> Tensor:
    return vectors @ factors if factors.ndim == 2 else (vectors[:, None, :] @ factors).squeeze(1)
