"""An adjusted kernel for targets whose scale differs from place to place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from drl_density.devices import normal_draws, uniform_draws
from drl_density.mcmc import ChainState, RandomWalk, StepInfo, value_and_gradient
from drl_density.mcmc.kernel import LogDensity, StepSize, metropolis
from drl_density.partition_function.target_bases.contract import Chart
from drl_density.partition_function.target_bases.defended import DefendedBase
from drl_density.partition_function.target_bases.mixture import MixtureBase

Energies = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""``energies(values, gradients)``: energies at the start and end of moves, from log density and gradient at the end."""


@dataclass(frozen=True)
class LocalMALA:
    r"""MALA with the local covariance of a base, or a proposal from the base itself.

    With responsibilities r(k | x) of the base's components, the local move leaves p(x) r(k | x) invariant. It draws k from
    r(. | x), takes a leapfrog step preconditioned by component k's covariance, accepts it with the ratio of p(x) r(k | x),
    and forgets k. Where the base has coordinates of its own, as regressions have, the leapfrog step is taken in these,
    with the log volume of the map added to log p. The other move proposes y from the base b and accepts it with
    probability min(1, p(y) b(x) / (p(x) b(y))). Both moves are reversible in p, whatever the base. Every particle makes one
    of them at each step, by chance, so that the step is reversible too, as path weights in both directions need.

    Attributes:
        base: fitted base; without a mixture or coordinates of its own, the local move is plain MALA with ``scale``.
        scale: diagonal preconditioner of plain MALA.
        jump_share: share of the particles that propose from the base in place of a local move. One in four reaches another
            mode soon enough.

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
        return 1

    def with_scale(self, scale: Tensor | None) -> Self:
        """The same kernel with another diagonal scale."""
        return dataclasses.replace(self, scale=scale)

    def init(self, x: Tensor, log_density: LogDensity) -> ChainState:
        """State at ``x`` ``(chains, d)``."""
        return ChainState(x.detach(), *self._evaluate(log_density, x))

    def step(
        self, state: ChainState, log_density: LogDensity, step_size: StepSize, generator: torch.Generator | None
    ) -> tuple[ChainState, StepInfo]:
        """Jump with a share of the particles and move the others; acceptance is that of local moves where there are any."""
        x = state.position
        is_jump = uniform_draws((len(x),), x, generator) < self.jump_share
        (jumping,), (moving,) = is_jump.nonzero(as_tuple=True), (~is_jump).nonzero(as_tuple=True)
        sizes = torch.as_tensor(step_size).to(x).reshape(-1, 1).expand(len(x), 1)
        rows, parts = torch.cat([jumping, moving]), []
        if len(jumping):
            parts.append(self._jump(_rows(state, jumping), generator))
        if len(moving):
            parts.append(self._move(_rows(state, moving), sizes[moving], generator))
        # Both kinds of proposals are evaluated in one pass, as small passes cost nearly as much as large ones.
        position = torch.cat([part[0] for part in parts])
        proposal = ChainState(position, *self._evaluate(log_density, position))
        counts = [len(part[0]) for part in parts]
        ends = zip(parts, proposal.log_density.split(counts), proposal.gradient.split(counts), strict=True)
        before, after = zip(*(part[1](values, gradients) for part, values, gradients in ends), strict=True)
        moved, info = metropolis(_rows(state, rows), proposal, (torch.cat(before), torch.cat(after)), generator)
        if len(moving):  # step sizes adapt to local moves, whose acceptance they determine
            probability = info.acceptance_probability.clone()
            probability[: len(jumping)] = probability[len(jumping) :].mean()
            info = info._replace(acceptance_probability=probability)
        order = rows.argsort()
        return _rows(moved, order), StepInfo(*(values[order] for values in info))

    def _jump(self, state: ChainState, generator: torch.Generator | None) -> tuple[Tensor, Energies]:
        """Proposals from the base."""
        position = self.base.draw(len(state.position), generator).to(state.position)
        with torch.no_grad():
            proposed, current = self.base.log_prob(torch.cat([position, state.position])).chunk(2)
        return position, lambda values, _: (current - state.log_density, proposed - values)

    def _move(
        self, state: ChainState, size: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Energies]:
        """Local moves by the base's components, in its own coordinates, or by the diagonal scale."""
        momentum = normal_draws(state.position.shape, state.position, generator)
        match self.base.local:
            case None:
                scale = torch.ones_like(state.position[0]) if self.scale is None else self.scale.to(state.position)
                return _preconditioned(state, size, momentum, scale.diag())
            case MixtureBase() as mixture if mixture.num_components == 1:  # the responsibility is 1 everywhere
                return _preconditioned(state, size, momentum, mixture.factors[0])
            case MixtureBase() as mixture:
                return _by_component(state, size, momentum, mixture, generator)
            case chart:
                return _charted(state, size, momentum, chart)

    def _evaluate(self, log_density: LogDensity, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density of the rows, and the gradient by which local moves drift."""
        return value_and_gradient(log_density, x)


def _by_component(
    state: ChainState, size: Tensor, momentum: Tensor, mixture: MixtureBase, generator: torch.Generator | None
) -> tuple[Tensor, Energies]:
    """A leapfrog step preconditioned by the covariance of a component drawn by its responsibility."""
    with torch.no_grad():
        shares = mixture.log_joint(state.position).log_softmax(1)
        gumbel = torch.empty_like(shares).exponential_(generator=generator).log()
        chosen = (shares - gumbel).argmax(1, keepdim=True)
        position, energies = _preconditioned(state, size, momentum, mixture.factors[chosen[:, 0]])
        start = shares.gather(1, chosen)[:, 0]
        end = mixture.log_joint(position).log_softmax(1).gather(1, chosen)[:, 0]

    def with_responsibility(values: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        before, after = energies(values, gradients)
        return before - start, after - end

    return position, with_responsibility


def _preconditioned(state: ChainState, size: Tensor, momentum: Tensor, factors: Tensor) -> tuple[Tensor, Energies]:
    """A leapfrog step in coordinates in which covariances with these factors are round."""
    half = momentum + 0.5 * size * _transposed(factors, state.gradient)
    position = state.position + size * _times(factors, half)

    def energies(values: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        end = half + 0.5 * size * _transposed(factors, gradients)
        return 0.5 * momentum.square().sum(1) - state.log_density, 0.5 * end.square().sum(1) - values

    return position, energies


def _charted(state: ChainState, size: Tensor, momentum: Tensor, chart: Chart) -> tuple[Tensor, Energies]:
    """A leapfrog step in the coordinates in which the base is nearly standard normal."""
    unit = chart.to_unit(state.position)
    half = momentum + 0.5 * size * chart.pull_back(unit, state.gradient)
    end_unit = unit + size * half
    position = chart.from_unit(end_unit)
    is_lost = ~position.isfinite().all(1)
    position = torch.where(is_lost[:, None], state.position, position)
    end_unit = torch.where(is_lost[:, None], unit, end_unit)

    def energies(values: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        end = half + 0.5 * size * chart.pull_back(end_unit, gradients)
        after = 0.5 * end.square().sum(1) - values - chart.log_volume(end_unit)
        before = 0.5 * momentum.square().sum(1) - state.log_density - chart.log_volume(unit)
        return before, torch.where(is_lost, torch.nan, after)  # not-a-number is never accepted

    return position, energies


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

    def _evaluate(self, log_density: LogDensity, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return log_density(x.detach()), torch.zeros_like(x)


def _rows(state: ChainState, index: Tensor) -> ChainState:
    return ChainState(*(values[index] for values in state))


def _times(factors: Tensor, vectors: Tensor) -> Tensor:
    """One factor ``(d, d)`` or one for each row ``(n, d, d)``, times rows ``(n, d)``."""
    return vectors @ factors.T if factors.ndim == 2 else (factors @ vectors[..., None]).squeeze(-1)


def _transposed(factors: Tensor, vectors: Tensor) -> Tensor:
    return vectors @ factors if factors.ndim == 2 else (vectors[:, None, :] @ factors).squeeze(1)
