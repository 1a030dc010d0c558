"""Log-weight arithmetic, and the record every estimator of a log partition function returns."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drl_density.errors import UnreliableEstimateWarning, Verdict

BIASES = ("lower", "upper", "none-known")


def log_mean_exp(log_weights: Tensor, dim: int = -1) -> Tensor:
    """log of the mean weight along ``dim``, float64.

    >>> float(log_mean_exp(torch.zeros(4)))
    0.0
    """
    weights = log_weights.double()
    return weights.logsumexp(dim) - math.log(weights.shape[dim])


def weight_ess(log_weights: Tensor) -> Tensor:
    """Effective sample size (sum w)^2 / sum w^2 of a vector of log weights.

    >>> round(float(weight_ess(torch.zeros(8))), 6)
    8.0
    """
    weights = log_weights.double()
    return (2 * weights.logsumexp(-1) - (2 * weights).logsumexp(-1)).exp()


def standard_error_of_log_mean(log_weights: Tensor, dim: int = -1) -> Tensor:
    """Delta-method standard error of :func:`log_mean_exp` for independent weights."""
    weights = log_weights.double()
    relative = (weights - log_mean_exp(weights, dim).unsqueeze(dim)).exp()
    return relative.std(dim) / math.sqrt(weights.shape[dim])


def normal_quantile(probability: float = 0.95) -> float:
    """Half width, in standard deviations, of the central normal interval that holds ``probability``.

    Raises:
        ValueError: a probability outside (0, 1).

    >>> round(normal_quantile(), 4), round(normal_quantile(0.5), 4)
    (1.96, 0.6745)
    """
    if not 0 < probability < 1:
        raise ValueError(f"the probability of an interval must lie between 0 and 1, got {probability}")
    return NormalDist().inv_cdf(0.5 + probability / 2)


def student_quantile(degrees: int, probability: float = 0.95) -> float:
    """Half width of the central interval of Student's t that holds ``probability``.

    >>> round(student_quantile(7), 4)
    2.3646
    """
    from scipy import stats

    return float(stats.t.ppf(0.5 + probability / 2, degrees))


def combine_replicates(log_z: Tensor) -> tuple[float, float]:
    """Join independent replicates of an unbiased estimate of Z: log of their mean, with its jackknife standard error.

    Args:
        log_z: one log estimate per replicate, ``(replicates,)``, at least 2.
    """
    count = len(log_z)
    if count < 2:
        raise ValueError(f"a standard error needs at least 2 replicates, got {count}")
    value = float(log_mean_exp(log_z, 0))
    keep = ~torch.eye(count, dtype=torch.bool)
    left_out = torch.stack([log_mean_exp(log_z[row], 0) for row in keep])
    spread = (left_out - left_out.mean()).square().sum()
    return value, math.sqrt(float(spread) * (count - 1) / count)


def resample(log_weights: Tensor, num_draws: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Systematic resampling: indices ``(*, num_draws)`` in which each particle of the last dimension appears in
    proportion to its weight.
    """
    shares = torch.softmax(log_weights.double(), -1).cumsum(-1)
    start = torch.rand((*shares.shape[:-1], 1), generator=generator, dtype=torch.float64)
    places = ((torch.arange(num_draws, dtype=torch.float64) + start) / num_draws).to(shares.device)
    return torch.searchsorted(shares / shares[..., -1:], places).minimum(torch.tensor(shares.shape[-1] - 1))


def resample_poor(
    log_weights: Tensor, is_poor: Tensor, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Resample the groups of particles that are marked; each of them then carries its mean weight everywhere.

    Args:
        log_weights: log weights by group, ``(group, particle)``.
        is_poor: which groups to resample, ``(group,)``.

    Returns:
        indices into all particles in flattened order ``(group * particle,)``, and the log weights after resampling.

    >>> index, weights = resample_poor(torch.tensor([[0.0, 0.0], [-99.0, 0.0]]), torch.tensor([False, True]))
    >>> index.tolist(), weights.shape
    ([0, 1, 3, 3], torch.Size([2, 2]))
    """
    num_groups, count = log_weights.shape
    chosen = torch.arange(num_groups * count).reshape(num_groups, count)
    if not bool(is_poor.any()):
        return chosen.flatten(), log_weights
    first = count * is_poor.nonzero()
    chosen[is_poor] = first + resample(log_weights[is_poor], count, generator=generator)
    mean_weight = log_mean_exp(log_weights, 1)[:, None].expand_as(log_weights)
    return chosen.flatten(), torch.where(is_poor[:, None], mean_weight, log_weights)


def pareto_k(log_weights: Tensor) -> float:
    """Shape of a generalised Pareto fitted to the largest weights; above 0.7 their mean cannot be trusted.

    The tail is the largest min(n / 5, 3 sqrt(n)) weights. NaN when it holds fewer than 5 distinct values.

    Source: Vehtari et al. 2024, Pareto smoothed importance sampling; the fit is Zhang and Stephens 2009.
    """
    ordered = np.sort(log_weights.double().flatten().cpu().numpy())
    size = int(min(len(ordered) / 5, 3 * math.sqrt(len(ordered))))
    if size < 5:
        return math.nan
    threshold = ordered[-size - 1]
    tail = np.exp(ordered[-size:] - ordered[-1]) - np.exp(threshold - ordered[-1])
    if len(np.unique(tail)) < 5 or tail[0] <= 0:
        return math.nan
    return _zhang_stephens_shape(tail)


def _zhang_stephens_shape(tail: np.ndarray) -> float:
    count = len(tail)
    grid_size = 30 + int(math.sqrt(count))
    quartile = tail[int(count / 4 + 0.5) - 1]
    grid = 1 / tail[-1] + (1 - np.sqrt(grid_size / (np.arange(1, grid_size + 1) - 0.5))) / (3 * quartile)
    shapes = np.log1p(-grid[:, None] * tail).mean(1)
    profile = count * (np.log(-grid / shapes) - shapes - 1)
    posterior = np.exp(profile - profile.max())
    best = float((grid * posterior).sum() / posterior.sum())
    shape = float(np.log1p(-best * tail).mean())
    return (shape * count + 0.5 * 10) / (count + 10)


@dataclass(frozen=True)
class LogPartitionEstimate:
    """An estimate of log Z with everything needed to judge it.

    Attributes:
        log_z: log Z, nats.
        standard_error: from the spread of independent replicates.
        within_run_error: delta-method error inside the replicates, larger only when replicates agree by luck.
        log_weights: ``(replicate, particle)``, float64.
        weight_ess: mean effective sample size per replicate.
        pareto_k: tail shape of the pooled weights.
        bias: "lower" (a stochastic lower bound), "upper" or "none-known".
        verdict: ``Verdict.RELIABLE``, ``DOUBTFUL`` or ``UNRELIABLE``.
        advice: what to do about it.
        details: settings and diagnostics of the run.

    >>> estimate = judge_estimate(torch.zeros(4, 50), bias="lower")
    >>> estimate.log_z, str(estimate.verdict)
    (0.0, 'reliable')
    """

    log_z: float
    standard_error: float
    within_run_error: float
    log_weights: Tensor
    weight_ess: float
    pareto_k: float
    bias: str
    verdict: Verdict
    advice: str
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_reliable(self) -> bool:
        """True for the verdict ``Verdict.RELIABLE`` alone."""
        return self.verdict.is_reliable

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Ends of the normal interval around ``log_z`` by ``standard_error``, nats."""
        half_width = normal_quantile(probability) * self.standard_error
        return self.log_z - half_width, self.log_z + half_width

    def to_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """(plain values, tensors) for a run folder."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "log_weights"}
        return values, {"log_weights": self.log_weights}

    @classmethod
    def from_state(cls, values: dict[str, Any], tensors: dict[str, Tensor]) -> LogPartitionEstimate:
        """The inverse of :meth:`to_state`.

        Args:
            values: the plain values.
            tensors: the tensors.
        """
        return cls(**values | {"verdict": Verdict(values["verdict"])}, log_weights=tensors["log_weights"])

    def __str__(self) -> str:
        return (
            f"log Z = {self.log_z:.4f} +- {self.standard_error:.4f} ({self.bias} bias, {self.verdict}): {self.advice}"
        )


def judge_estimate(log_weights: Tensor, *, bias: str, details: dict[str, Any] | None = None) -> LogPartitionEstimate:
    """Make the record from final log weights ``(replicate, particle)`` of independent unbiased replicates.

    Verdict "unreliable": standard error above 0.5 nats, or a weight ESS share (the least along the path where known)
    below 0.05. "doubtful": standard error above 0.1, or ESS share below 0.2, or Pareto k above 0.7.
    """
    if bias not in BIASES:
        raise ValueError(f"bias must be one of {BIASES}, got {bias!r}")
    details = dict(details or {})
    weights = log_weights.double()
    value, error = combine_replicates(log_mean_exp(weights, 1))
    within = float(standard_error_of_log_mean(weights, 1).square().mean().sqrt()) / math.sqrt(len(weights))
    ess = float(torch.stack([weight_ess(row) for row in weights]).mean())
    share = min(ess / weights.shape[1], details.get("least_ess_share", 1.0))
    shape = pareto_k(weights)
    largest = max(error, within)
    if largest > 0.5 or share < 0.05 or not math.isfinite(value):
        verdict = Verdict.UNRELIABLE
        advice = (
            f"standard error {largest:.2g}, least ESS share {share:.2g}: use more densities on the path, more "
            "transitions, or more particles, and look whether training was healthy"
        )
        warnings.warn(f"log Z estimate {value:.4g} is unreliable: {advice}", UnreliableEstimateWarning, stacklevel=3)
    elif largest > 0.1 or share < 0.2 or shape > 0.7:
        verdict = Verdict.DOUBTFUL
        advice = (
            f"standard error {largest:.2g}, least ESS share {share:.2g}, Pareto k {shape:.2g}: spend more on the path"
        )
    else:
        verdict, advice = Verdict.RELIABLE, "replicates agree and weights are even"
    return LogPartitionEstimate(value, error, within, weights, ess, shape, bias, verdict, advice, details)
