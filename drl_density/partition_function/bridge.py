"""Bennett's acceptance ratio between two directions, with its errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.errors import NumericalError
from drl_density.log_weights import alive_mean
from drl_density.records.intervals import normal_quantile, student_quantile
from drl_density.shapes import spread
from drl_density.weights import Estimate, all_but_one, jackknife_error


@dataclass(frozen=True)
class BridgeEstimate:
    """Bennett's estimate of log Z.

    Attributes:
        log_z: estimate of log Z, nats.
        standard_error: asymptotic standard error for independent weights, nats.
        overlap: share of paths that both directions see, between 0 and 1.
    """

    log_z: float
    standard_error: float
    overlap: float


def bennett(forward: Tensor, reverse: Tensor) -> BridgeEstimate:
    r"""Estimate log Z from log weights of paths drawn by the proposal and of paths drawn by the target.

    Solves :math:`\sum_{i \in F} s(w_i - c + M) = \sum_{j \in R} s(-(w_j - c + M))` for c, with the logistic s and
    M = log(n_R / n_F): the estimate of least asymptotic variance among those that reweight both ends.

    Args:
        forward: log weights of proposal draws ``(n_F,)``, minus infinity for draws that the target cannot have.
        reverse: log weights, in the same sense, of target draws ``(n_R,)``, infinity for those that no proposal can have.

    Raises:
        NumericalError: weights that are not numbers, or infinite on the wrong side; no finite weight on either side; or
            means in an order that no pair of proposal and target allows.

    Source: Bennett 1976; Meng and Wong 1996.

    >>> generator = torch.Generator().manual_seed(0)
    >>> forward = torch.randn(4000, generator=generator) - 0.5  # log w under the proposal, E[w] = 1
    >>> reverse = torch.randn(4000, generator=generator) + 0.5
    >>> abs(bennett(forward, reverse).log_z) < 0.1
    True
    """
    from scipy.optimize import brentq

    forward, reverse = forward.double().flatten(), reverse.double().flatten()
    kept, seen = forward[torch.isfinite(forward)], reverse[torch.isfinite(reverse)]
    is_wrong = bool((forward.isnan() | (forward == math.inf)).any() | (reverse.isnan() | (reverse == -math.inf)).any())
    if is_wrong or not len(kept) or not len(seen):
        raise NumericalError(
            "Bennett's ratio needs finite log weights: a weight is not a number, a draw of the target has weight 0, or "
            "every draw of one side was lost"
        )
    # By Jensen's inequality the mean log weight is below log Z forward and above it in reverse; six standard errors allow
    # for chance.
    error = math.hypot(float(spread(kept)) / math.sqrt(len(kept)), float(spread(seen)) / math.sqrt(len(seen)))
    means = float(alive_mean(forward)), -float(alive_mean(-reverse))
    if min(len(kept), len(seen)) > 1 and means[0] - means[1] > 6 * error + 1e-6 * max(1.0, abs(means[0])):
        raise NumericalError(
            f"mean log weight {means[0]:.4g} forward lies above {means[1]:.4g} reverse, which no pair of proposal and "
            "target allows: are the arrays swapped, or the reverse draws not from the target?"
        )

    shift = math.log(len(reverse) / len(forward))

    def imbalance(value: float) -> float:
        first, second = (forward - value + shift).sigmoid().sum(), (value - shift - reverse).sigmoid().sum()
        return float(first - second)

    finite = torch.cat([kept, seen])
    low, high = float(finite.min()) - abs(shift) - 50, float(finite.max()) + abs(shift) + 50
    # Weights of an improper target span many orders of magnitude: halving 1e30 to 1e-10 alone takes 133 steps.
    root = brentq(imbalance, low, high, xtol=1e-10, maxiter=1000)
    value = float(root)  # pyright: ignore[reportArgumentType] (stub: full_output)
    first, second = (forward - value + shift).sigmoid(), (value - shift - reverse).sigmoid()
    variance = _relative_variance(first) + _relative_variance(second)
    overlap = float(first.mean()) * len(forward) / len(reverse) + float(second.mean()) * len(reverse) / len(forward)
    smaller = min(len(forward), len(reverse)) / max(len(forward), len(reverse))
    # In expectation the overlap is at most 1; the chance of a sample can lift it slightly above.
    return BridgeEstimate(float(value), math.sqrt(variance), min(1.0, overlap * smaller))


def _relative_variance(values: Tensor) -> float:
    return float(values.var() / (len(values) * values.mean().square()))


@dataclass(frozen=True)
class ReplicatedBridge:
    """Bennett's estimate from all replicates together, with two errors.

    Attributes:
        log_z: estimate of log Z, nats.
        jackknife_error: error from the spread over replicates, nats. It is right for draws that are correlated within a
            replicate, but known only as well as so few replicates allow.
        asymptotic_error: error for independent weights, nats.
        overlap: share of paths that both directions see, between 0 and 1.
        num_replicates: number of replicates of the jackknife.
    """

    log_z: float
    jackknife_error: float
    asymptotic_error: float
    overlap: float
    num_replicates: int

    @property
    def standard_error(self) -> float:
        """The larger of both errors, nats."""
        return max(self.jackknife_error, self.asymptotic_error)

    def half_width(self, probability: float = 0.95) -> float:
        """Half width of the central interval, nats.

        Student's quantile applies where the replicates' spread is the error, the normal one elsewhere.
        """
        if self.jackknife_error > self.asymptotic_error:
            return student_quantile(self.num_replicates - 1, probability) * self.jackknife_error
        return normal_quantile(probability) * self.asymptotic_error

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Ends of the central interval around ``log_z``, nats."""
        return self.log_z - self.half_width(probability), self.log_z + self.half_width(probability)


def bennett_by_replicates(forward: Tensor, reverse: Tensor) -> ReplicatedBridge:
    """Joint Bennett estimate from log weights ``(replicate, path)`` of both directions, with a jackknife over replicates.

    >>> weights = torch.randn(2, 4, 500, generator=torch.Generator().manual_seed(0))
    >>> bennett_by_replicates(weights[0] - 0.5, weights[1] + 0.5).num_replicates
    4
    """
    whole = bennett(forward, reverse)
    spread = jackknife_error(_left_out(forward, reverse))
    return ReplicatedBridge(whole.log_z, spread, whole.standard_error, whole.overlap, len(forward))


def bridged(forward: Tensor, reverse: Tensor) -> ReplicatedBridge | None:
    """The joint Bennett estimate from log weights ``(replicate, path)``, or ``None`` where there is none to take.

    That is so where reverse paths weigh less than forward ones beyond chance. Paths from draws of the target never do, but
    those from draws that miss much of it can. It is also so for fewer than three weights, of which the jackknife would leave
    a single one.
    """
    if forward.numel() < 3 or reverse.numel() < 3:
        return None
    try:
        return bennett_by_replicates(forward, reverse)
    except NumericalError:
        # What else was walked must not be lost, and a missing ratio counts against it in the verdict.
        return None


def bennett_shift(forward: Tensor, earlier: Tensor, later: Tensor) -> float:
    """How far Bennett's ratio moved while the draws mixed, beyond the error of the difference, nats.

    Args:
        forward: log weights of forward paths ``(replicate, path)``, common to both estimates.
        earlier: log weights of reverse paths from the earlier draws ``(replicate, path)``.
        later: log weights of reverse paths from the later draws ``(replicate, path)``.
    """
    difference = bennett(forward, later).log_z - bennett(forward, earlier).log_z
    return _beyond(difference, jackknife_error(_left_out(forward, later) - _left_out(forward, earlier)) ** 2)


def mixing_shift(early: Tensor, late: Tensor) -> Estimate:
    """Change of the mean reverse log weight ``(replicate, particle)`` of chains that mixed on, with its error.

    The error is that of the replicates. Chains whose walk back is dead at either time are left out. A replicate of such
    chains alone counts as unmoved.
    """
    moved = late - early
    is_alive = moved.isfinite()
    # At least 1, so that a replicate without any chain alive gives 0 and not 0 / 0.
    by_replicate = torch.where(is_alive, moved, 0.0).sum(1) / is_alive.sum(1).clamp_min(1)
    return Estimate(float(by_replicate.mean()), float(by_replicate.std() / math.sqrt(len(by_replicate))))


def excess(first: Estimate, second: Estimate) -> float:
    """How far two independent estimates lie apart beyond what their errors explain, nats.

    The result is 0 within two joint errors, so that the noise of a rough comparison widens no interval.

    >>> excess(Estimate(0.0, 1.0), Estimate(1.0, 1.0)), round(excess(Estimate(0.0, 3.0), Estimate(13.0, 4.0)), 6)
    (0.0, 12.0)
    """
    variance = first.standard_error**2 + second.standard_error**2
    return _beyond(first.log_z - second.log_z, variance)


def _left_out(forward: Tensor, reverse: Tensor) -> Tensor:
    """Bennett estimates with one replicate left out each, ``(replicate,)``."""
    return torch.tensor([bennett(forward[kept], reverse[kept]).log_z for kept in all_but_one(len(forward))])


def _beyond(difference: float, variance: float) -> float:
    squared = difference**2
    return math.sqrt(squared - variance) if squared > 4 * variance else 0.0
