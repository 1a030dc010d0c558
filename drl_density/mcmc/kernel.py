"""The contract of Markov kernels, and the one way to evaluate a log density with its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.devices import uniform_draws
from drl_density.shapes import per_row

LogDensity = Callable[[Tensor], Tensor]
StepSize = float | Tensor

# Stan's threshold for the energy error of a divergent transition (Betancourt 2017, section 6.2).
DIVERGENCE_THRESHOLD = 1000.0


class ChainState(NamedTuple):
    """Positions of the chains with their log density and gradient, so that nothing is evaluated twice.

    Attributes:
        position: positions of the chains, ``(chains, *event)``.
        log_density: unnormalised log density at the positions, ``(chains,)``.
        gradient: gradient of the log density, in the shape of the positions.

    >>> init_state(torch.ones(2), lambda x: -0.5 * x**2).gradient
    tensor([-1., -1.])
    """

    position: Tensor
    log_density: Tensor
    gradient: Tensor


class StepInfo(NamedTuple):
    """What one step did, each entry of shape ``(chains,)``.

    Attributes:
        acceptance_probability: Metropolis probability; one for an unadjusted kernel.
        is_accepted: whether the proposal was taken.
        is_diverging: whether the energy error was NaN or beyond the divergence threshold.
        energy_error: change of the Hamiltonian over the step.
        energy: Hamiltonian at the start of the step, with its fresh momentum; NaN for a kernel without momentum.

    >>> from drl_density.mcmc import MALA
    >>> state = init_state(torch.zeros(4), lambda x: -0.5 * x**2)
    >>> _, info = MALA().step(state, lambda x: -0.5 * x**2, 0.9, None)
    >>> info.acceptance_probability.shape
    torch.Size([4])
    """

    acceptance_probability: Tensor
    is_accepted: Tensor
    is_diverging: Tensor
    energy_error: Tensor
    energy: Tensor


@runtime_checkable
class Kernel(Protocol):
    """Frozen settings with pure ``init`` and ``step``; a kernel has no state of its own.

    All kernels share one meaning of ``step_size`` e: drift e^2 / 2 times the gradient, noise of standard deviation e
    (each times the diagonal scale, squared in the drift), so MALA is HMC with one leapfrog step.

    Attributes:
        is_adjusted: whether the kernel accepts or rejects, and so leaves the target exactly invariant.
        target_acceptance: acceptance rate at which the kernel is most efficient.
    """

    is_adjusted: ClassVar[bool]
    target_acceptance: ClassVar[float]

    @property
    def scale(self) -> Tensor | None:
        """Diagonal preconditioner S, broadcastable to ``(chains, *event)``; None for one."""
        ...

    @property
    def gradients_per_step(self) -> int:
        """Gradient evaluations of one transition."""
        ...

    def with_scale(self, scale: Tensor | None) -> Self:
        """The same kernel with another diagonal ``scale``."""
        ...

    def init(self, x: Tensor, log_density: LogDensity) -> ChainState:
        """Evaluates the density at ``x``.

        Args:
            x: positions of the chains, ``(chains, *event)``.
            log_density: maps positions ``(chains, *event)`` to ``(chains,)``.
        """
        ...

    def step(
        self, state: ChainState, log_density: LogDensity, step_size: StepSize, generator: torch.Generator | None
    ) -> tuple[ChainState, StepInfo]:
        """One transition of all chains.

        Args:
            state: state of all chains before the step.
            log_density: density at which the state was evaluated.
            step_size: e, a number or one per chain ``(chains,)``.
        """
        ...


def require_adjusted(kernel: Kernel, purpose: str) -> None:
    """Refuses a kernel that does not leave its target exactly invariant.

    Args:
        kernel: kernel to check.
        purpose: what needs an adjusted kernel, as the subject of a sentence.

    Raises:
        ValueError: an unadjusted kernel.

    >>> from drl_density.mcmc import MALA
    >>> require_adjusted(MALA(), "parallel tempering")
    """
    if not kernel.is_adjusted:
        raise ValueError(
            f"{purpose} needs an adjusted kernel, got {kernel!r}: the draws of an unadjusted one are biased; use MALA() or "
            "HMC()"
        )


@outside_inference_mode
def value_and_gradient(log_density: LogDensity, x: Tensor) -> tuple[Tensor, Tensor]:
    """Log density and its gradient in x, both detached; parameters of the density get no gradient.

    Args:
        log_density: maps positions ``(chains, *event)`` to ``(chains,)``.
        x: positions of the chains, ``(chains, *event)``.

    Raises:
        ValueError: a log density without a gradient in x, which only a kernel such as ``RandomWalk`` can use.

    >>> value_and_gradient(lambda x: -(x**2), torch.ones(1))
    (tensor([-1.]), tensor([-2.]))
    """
    with torch.enable_grad():
        point = x.detach().requires_grad_(True)
        value = log_density(point)
        if not (isinstance(value, Tensor) and value.requires_grad):
            raise ValueError(
                "the log density has no gradient in the points: it is constant, or was computed by numpy, under no_grad or "
                "after detach(); compute it with torch, or use the kernel RandomWalk()"
            )
        (gradient,) = torch.autograd.grad(value, point, torch.ones_like(value))
    return value.detach(), gradient


def init_state(x: Tensor, log_density: LogDensity) -> ChainState:
    """Chain state at ``x``, with one evaluation of the density and its gradient.

    Args:
        x: positions of the chains, ``(chains, *event)``.
        log_density: maps positions ``(chains, *event)`` to ``(chains,)``.

    >>> init_state(torch.ones(2, 3), lambda x: -0.5 * x.square().sum(-1)).log_density
    tensor([-1.5000, -1.5000])
    """
    return ChainState(x.detach(), *value_and_gradient(log_density, x))


def per_chain(step_size: StepSize, like: Tensor) -> StepSize:
    """A step size given per chain, reshaped to multiply positions; a number stays a number."""
    if isinstance(step_size, Tensor) and step_size.ndim:
        return per_row(step_size.to(like), like)
    return step_size


def spread_step_size(
    step_size: StepSize, spread: float, num_chains: int, generator: torch.Generator | None
) -> StepSize:
    """Step sizes of one transition ``(num_chains,)``: each divided by a draw, log-uniform between 1 and ``spread``.

    Args:
        step_size: largest step size, a number or one per chain.
        spread: at least 1; 1 leaves the step size as it is.
        num_chains: number of step sizes to draw.

    >>> sizes = spread_step_size(0.5, 10.0, 100, torch.Generator().manual_seed(0))
    >>> bool((sizes >= 0.05).all() and (sizes <= 0.5).all())
    True
    """
    if spread == 1:
        return step_size
    return step_size * spread ** -torch.rand(num_chains, generator=generator)


def row_sum_of_squares(x: Tensor) -> Tensor:
    """Squared length of each chain's vector, ``(chains,)``."""
    return x.square().sum(tuple(range(1, x.ndim))) if x.ndim > 1 else x.square()


def metropolis(
    state: ChainState,
    proposal: ChainState,
    energies: tuple[Tensor, Tensor],
    generator: torch.Generator | None,
) -> tuple[ChainState, StepInfo]:
    """Accepts each chain's proposal with probability min(1, exp(-change)) of its energies (start, end).

    This is the only place where a log density that is not a number is turned into a rejection.
    """
    energy_error = energies[1] - energies[0]
    is_diverging = ~(energy_error.abs() < DIVERGENCE_THRESHOLD)  # NaN compares false, and so counts as diverging
    log_ratio = (-energy_error).nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    probability = log_ratio.exp().clamp(max=1.0)  # the 1 in min(1, exp(-change))
    uniform = uniform_draws(probability.shape, probability, generator)
    is_accepted = uniform < probability
    return choose(is_accepted, proposal, state), StepInfo(
        probability, is_accepted, is_diverging, energy_error, energies[0]
    )


def choose(is_taken: Tensor, proposal: ChainState, state: ChainState) -> ChainState:
    """The proposal for the chains marked ``(chains,)``, the old state for the others."""
    column = per_row(is_taken, state.position)
    return ChainState(
        torch.where(column, proposal.position, state.position),
        torch.where(is_taken, proposal.log_density, state.log_density),
        torch.where(column, proposal.gradient, state.gradient),
    )
