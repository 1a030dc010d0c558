"""Reweighting estimators: Bennett's acceptance ratio between two directions, and its multistate form over levels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.errors import NumericalError
from drl_density.weights import normal_quantile, student_quantile


@dataclass(frozen=True)
class BridgeEstimate:
    """Bennett's estimate.

    Attributes:
        log_z: log Z.
        standard_error: asymptotic, for independent weights.
        overlap: 1 when both directions see the same paths, 0 when they share none.
    """

    log_z: float
    standard_error: float
    overlap: float


def bennett(forward: Tensor, reverse: Tensor) -> BridgeEstimate:
    r"""log Z from log weights of paths drawn by the proposal and of paths drawn by the target.

    Solves :math:`\sum_{i \in F} s(w_i - c + M) = \sum_{j \in R} s(-(w_j - c + M))` for c, with the logistic s and
    M = log(n_R / n_F): the estimate of least asymptotic variance among those that reweight both ends.

    Args:
        forward: log weights of proposal draws ``(n_F,)``.
        reverse: log weights, in the same sense, of target draws ``(n_R,)``.

    Raises:
        NumericalError: if a weight is not finite on the reverse side, all are lost on the forward side, or the means
            stand in an order that no proposal and target allow.

    Source: Bennett 1976; Meng and Wong 1996.

    >>> generator = torch.Generator().manual_seed(0)
    >>> forward = torch.randn(4000, generator=generator) - 0.5  # log w under the proposal, E[w] = 1
    >>> reverse = torch.randn(4000, generator=generator) + 0.5
    >>> abs(bennett(forward, reverse).log_z) < 0.1
    True
    """
    from scipy.optimize import brentq

    forward, reverse = forward.double().flatten(), reverse.double().flatten()
    if not bool(torch.isfinite(reverse).all()) or not bool(torch.isfinite(forward).any()):
        raise NumericalError(
            "Bennett's ratio needs finite log weights: a draw of the target has weight 0 or infinity, or every draw of "
            "the proposal was lost"
        )
    kept = forward[torch.isfinite(forward)]
    error = math.hypot(float(kept.std()) / math.sqrt(len(kept)), float(reverse.std()) / math.sqrt(len(reverse)))
    if float(kept.mean() - reverse.mean()) > 6 * error + 1e-6:
        raise NumericalError(
            f"mean log weight {float(kept.mean()):.4g} forward lies above {float(reverse.mean()):.4g} reverse, which no "
            "pair of proposal and target allows: are the arrays swapped, or the reverse draws not from the target?"
        )
    shift = math.log(len(reverse) / len(forward))

    def imbalance(value: float) -> float:
        first, second = (forward - value + shift).sigmoid().sum(), (value - shift - reverse).sigmoid().sum()
        return float(first - second)

    finite = torch.cat([forward[torch.isfinite(forward)], reverse])
    low, high = float(finite.min()) - abs(shift) - 50, float(finite.max()) + abs(shift) + 50
    value = brentq(imbalance, low, high, xtol=1e-10)
    first, second = (forward - value + shift).sigmoid(), (value - shift - reverse).sigmoid()
    variance = _relative_variance(first) + _relative_variance(second)
    overlap = float(first.mean()) * len(forward) / len(reverse) + float(second.mean()) * len(reverse) / len(forward)
    smaller = min(len(forward), len(reverse)) / max(len(forward), len(reverse))
    return BridgeEstimate(float(value), math.sqrt(variance), min(1.0, overlap * smaller))


def _relative_variance(values: Tensor) -> float:
    return float(values.var() / (len(values) * values.mean().square()))


@dataclass(frozen=True)
class ReplicatedBridge:
    """Bennett's estimate from all replicates together, with two errors of it.

    Attributes:
        log_z: log Z.
        jackknife_error: from the spread over ``num_replicates`` replicates; right for draws that depend on each other
            within a replicate, but known only as well as so few numbers tell.
        asymptotic_error: for independent weights.
        overlap: see :class:`BridgeEstimate`.
        num_replicates: of the jackknife.
    """

    log_z: float
    jackknife_error: float
    asymptotic_error: float
    overlap: float
    num_replicates: int

    @property
    def standard_error(self) -> float:
        """The larger of both."""
        return max(self.jackknife_error, self.asymptotic_error)

    def half_width(self, probability: float = 0.95) -> float:
        """Half width of the central interval, nats: Student's quantile where the replicates' spread is the error, the
        normal one elsewhere.
        """
        if self.jackknife_error > self.asymptotic_error:
            return student_quantile(self.num_replicates - 1, probability) * self.jackknife_error
        return normal_quantile(probability) * self.asymptotic_error

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Ends of the central interval around ``log_z``, nats."""
        return self.log_z - self.half_width(probability), self.log_z + self.half_width(probability)


def bennett_by_replicates(forward: Tensor, reverse: Tensor) -> ReplicatedBridge:
    """Joint Bennett estimate from weights ``(replicate, path)`` of both directions."""
    whole = bennett(forward, reverse)
    spread = _jackknife(_left_out(forward, reverse))
    return ReplicatedBridge(whole.log_z, spread, whole.standard_error, whole.overlap, len(forward))


def _left_out(forward: Tensor, reverse: Tensor) -> Tensor:
    """Bennett estimates without one replicate each."""
    keep = ~torch.eye(len(forward), dtype=torch.bool)
    return torch.tensor([bennett(forward[row], reverse[row]).log_z for row in keep])


def _jackknife(left_out: Tensor) -> float:
    count = len(left_out)
    return math.sqrt(float((left_out - left_out.mean()).square().sum()) * (count - 1) / count)


def bennett_shift(forward: Tensor, earlier: Tensor, later: Tensor) -> float:
    """How far Bennett's ratio moved while the draws mixed, beyond the error of the difference, nats; see :func:`excess`."""
    difference = bennett(forward, later).log_z - bennett(forward, earlier).log_z
    return _beyond(difference, _jackknife(_left_out(forward, later) - _left_out(forward, earlier)) ** 2)


def excess(first: tuple[float, float], second: tuple[float, float]) -> float:
    """How far two independent (value, error) lie apart beyond what both errors explain, nats; 0 within two errors, so that
    the noise of a rough comparison widens no interval.
    """
    return _beyond(first[0] - second[0], first[1] ** 2 + second[1] ** 2)


def _beyond(difference: float, variance: float) -> float:
    squared = difference**2
    return math.sqrt(squared - variance) if squared > 4 * variance else 0.0


@dataclass(frozen=True)
class MultistateEstimate:
    """Multistate Bennett estimate.

    Attributes:
        log_z: of every state, relative to the first state's, ``(K,)``.
        standard_error: of ``log_z``, asymptotic, ``(K,)``; 0 for the first.
        overlap: ``(K, K)``: share of state i's samples that state j explains; rows sum to 1.
    """

    log_z: Tensor
    standard_error: Tensor
    overlap: Tensor


def multistate_bennett(
    log_densities: Tensor, counts: Tensor, *, start: Tensor | None = None, tolerance: float = 1e-9
) -> MultistateEstimate:
    r"""log Z of K states from equilibrium draws of all of them.

    Minimises :math:`\sum_n \log \sum_k N_k e^{f_k + F_k(x_n)} - \sum_k N_k f_k` (convex in :math:`f_k = -\log Z_k`).

    Args:
        log_densities: F_k(x_n), ``(K, N)``: every state at every draw, draws grouped by state.
        counts: draws per state ``(K,)``, summing to N.
        start: first guess of log Z of every state ``(K,)``.
        tolerance: on the gradient per draw.

    Raises:
        NumericalError: if the equations are not solved within 500 Newton steps.
        ValueError: counts that do not fit the states and draws.

    Source: Shirts and Chodera 2008.

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
        damped = hessian[1:, 1:] + 1e-12 * torch.eye(len(free) - 1, dtype=torch.float64)
        step[1:] = torch.linalg.solve(damped, gradient[1:])
        size = 1.0
        while _rise(log_weights, shares, -size * step) > 1e-13 and size > 1e-6:
            size *= 0.5
        free = free - size * step if size > 1e-6 else free + (shares.log() - weights.mean(1).log())
        free = free - free[0]
    raise NumericalError("the multistate equations were not solved in 500 steps: neighbouring states do not overlap")


def _rise(log_weights: Tensor, shares: Tensor, move: Tensor) -> float:
    """What the objective rises by when f moves, from the weights before: exact where the objective itself is so large
    that its rounding hides the change.
    """
    return float((log_weights + move[:, None]).logsumexp(0).mean() - (shares * move).sum())


def _multistate_record(values: Tensor, counts: Tensor, free: Tensor) -> MultistateEstimate:
    log_mixture = ((counts.log() + free)[:, None] + values).logsumexp(0)
    weights = (free[:, None] + values - log_mixture).exp()
    overlap = (weights @ weights.T) * counts
    identity = torch.eye(len(free), dtype=torch.float64)
    gram = weights @ weights.T
    covariance = gram @ torch.linalg.pinv(identity - counts[:, None] * gram, rtol=1e-10)
    identity = torch.eye(len(free), dtype=torch.float64)
    differences = identity - identity[:, :1]  # column k is the difference of states k and 0
    variance = (differences.T @ (0.5 * (covariance + covariance.T)) @ differences).diagonal()
    return MultistateEstimate(-(free - free[0]), variance.sqrt(), overlap)


def thermodynamic_integration(log_densities: Tensor, counts: Tensor) -> float:
    """log Z of the last state relative to the first by the trapezoid rule over neighbouring states.

    Args:
        log_densities: as for :func:`multistate_bennett`.
        counts: as for :func:`multistate_bennett`.

    >>> x = torch.randn(2000, generator=torch.Generator().manual_seed(0)).double()
    >>> x[1000:] *= 1.2
    >>> log_densities = torch.stack([-0.5 * x**2, -0.5 * x**2 / 1.44])
    >>> abs(thermodynamic_integration(log_densities, torch.tensor([1000, 1000])) - math.log(1.2)) < 0.1
    True
    """
    groups = log_densities.double().split(counts.long().tolist(), dim=1)
    total = 0.0
    for index in range(len(groups) - 1):
        rises = [group[index + 1] - group[index] for group in groups[index : index + 2]]
        total += 0.5 * float(rises[0].mean() + rises[1].mean())
    return total
