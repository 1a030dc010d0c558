"""Bennett's ratio over many states, and thermodynamic integration, from equilibrium draws of all states."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.errors import NumericalError
from drl_density.records.brief import brief


@dataclass(frozen=True, eq=False)
class MultistateEstimate:
    """Multistate Bennett estimate.

    Attributes:
        log_z: log Z of every state relative to the first, ``(K,)``.
        standard_error: asymptotic standard error of ``log_z``, ``(K,)``; 0 for the first state.
        overlap: share of state i's samples that state j explains, ``(K, K)``; rows sum to 1.
    """

    log_z: Tensor
    standard_error: Tensor
    overlap: Tensor

    __repr__ = brief


def multistate_bennett(
    log_densities: Tensor, counts: Tensor, *, start: Tensor | None = None, tolerance: float = 1e-9
) -> MultistateEstimate:
    r"""log Z of K states from equilibrium draws of all of them.

    Minimises :math:`\sum_n \log \sum_k N_k e^{f_k + F_k(x_n)} - \sum_k N_k f_k` (convex in :math:`f_k = -\log Z_k`).

    Args:
        log_densities: log density F_k(x_n) of every state at every draw, ``(K, N)``, draws grouped by state.
        counts: number of draws of each state, ``(K,)``, summing to N.
        start: first guess of log Z of every state, ``(K,)``.
        tolerance: largest gradient per draw at the solution.

    Raises:
        NumericalError: the equations were not solved within 500 Newton steps.
        ValueError: counts that do not fit the states and draws.

    Source: Shirts and Chodera 2008.

    >>> import math
    >>> x = torch.randn(2000, generator=torch.Generator().manual_seed(0)).double()
    >>> x[1000:] *= 2
    >>> found = multistate_bennett(torch.stack([-0.5 * x**2, -0.125 * x**2]), torch.tensor([1000, 1000]))
    >>> abs(float(found.log_z[1] - found.log_z[0]) - math.log(2)) < 0.1
    True
    """
    values = log_densities.double()
    counts = counts.double()
    if int(counts.sum()) != values.shape[1] or len(counts) != len(values):
        raise ValueError(f"expected counts of {len(values)} states summing to {values.shape[1]}, got {counts.tolist()}")
    free = torch.zeros(len(values), dtype=torch.float64) if start is None else start[0].double() - start.double()
    shares = counts / counts.sum()

    for _ in range(500):
        log_weights = ((shares.log() + free)[:, None] + values).log_softmax(0)  # of every state at every draw
        weights = log_weights.exp()
        gradient = weights.mean(1) - shares
        if float(gradient.abs().max()) < tolerance:
            return _multistate_record(values, counts, free)
        hessian = torch.diag(weights.mean(1)) - weights @ weights.T / weights.shape[1]
        step = torch.zeros_like(free)
        # The first state's log Z is fixed; the damping keeps the system solvable where states barely overlap.
        damped = hessian[1:, 1:] + 1e-12 * torch.eye(len(free) - 1, dtype=torch.float64)
        step[1:] = torch.linalg.solve(damped, gradient[1:])
        # Newton's step is halved until the objective falls. Where it never does, one self-consistent iteration, which
        # always makes progress, takes its place.
        size = 1.0
        while _rise(log_weights, shares, -size * step) > 1e-13 and size > 1e-6:
            size *= 0.5
        free = free - size * step if size > 1e-6 else free + (shares.log() - weights.mean(1).log())
        free = free - free[0]
    raise NumericalError("the multistate equations were not solved in 500 steps: neighbouring states do not overlap")


def _rise(log_weights: Tensor, shares: Tensor, move: Tensor) -> float:
    """Rise of the objective when f moves, from the weights before the move.

    This is exact even where the objective itself is so large that its rounding hides the change.
    """
    return float((log_weights + move[:, None]).logsumexp(0).mean() - (shares * move).sum())


def _multistate_record(values: Tensor, counts: Tensor, free: Tensor) -> MultistateEstimate:
    log_mixture = ((counts.log() + free)[:, None] + values).logsumexp(0)
    weights = (free[:, None] + values - log_mixture).exp()
    overlap = (weights @ weights.T) * counts
    identity = torch.eye(len(free), dtype=torch.float64)
    gram = weights @ weights.T
    # Shirts and Chodera 2008, equation D8, with the pseudo-inverse: the log Z are known only up to a common constant.
    covariance = gram @ torch.linalg.pinv(identity - counts[:, None] * gram, rtol=1e-10)
    differences = identity - identity[:, :1]  # column k is the difference of states k and 0
    variance = (differences.T @ (0.5 * (covariance + covariance.T)) @ differences).diagonal()
    return MultistateEstimate(-(free - free[0]), variance.sqrt(), overlap)


def thermodynamic_integration(log_densities: Tensor, counts: Tensor) -> float:
    """log Z of the last state relative to the first by the trapezoid rule over neighbouring states.

    Args:
        log_densities: log density of every state at every draw, ``(K, N)``, draws grouped by state.
        counts: number of draws of each state, ``(K,)``, summing to N.

    >>> import math
    >>> x = torch.randn(2000, generator=torch.Generator().manual_seed(0)).double()
    >>> x[1000:] *= 1.2
    >>> log_densities = torch.stack([-0.5 * x**2, -0.5 * x**2 / 1.44])
    >>> abs(thermodynamic_integration(log_densities, torch.tensor([1000, 1000])) - math.log(1.2)) < 0.1
    True
    """
    groups = log_densities.double().split(counts.long().tolist(), dim=1)
    total = 0.0
    for index in range(len(groups) - 1):
        up, down = (group[index + 1] - group[index] for group in groups[index : index + 2])
        # Where a density is cut off by a wall, the share of draws beyond it is a step of its own: log of the share of the
        # former density's draws that the next one can have, less that of the next one's that the former one can have.
        total += 0.5 * float(_finite_mean(up) + _finite_mean(down)) + _log_finite_share(up) - _log_finite_share(down)
    return total


def _finite_mean(rises: Tensor) -> Tensor:
    return rises[rises.isfinite()].mean()


def _log_finite_share(rises: Tensor) -> float:
    return float(rises.isfinite().double().mean().log())
