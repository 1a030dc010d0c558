"""Log-weight arithmetic, and the record that every estimator of log Z returns."""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from drl_density.errors import NumericalError, UnreliableEstimateWarning, Verdict
from drl_density.log_weights import pareto_k
from drl_density.records.brief import brief
from drl_density.records.html import html_card
from drl_density.records.intervals import normal_interval, student_interval
from drl_density.shapes import spread

Bias = Literal["lower", "upper", "none-known"]
"""Which side of log Z an estimate errs to in expectation."""

LARGEST_RELIABLE_ERROR, LARGEST_USABLE_ERROR = 0.05, 0.5
"""Standard errors of log Z in nats above which an estimate is doubtful and unreliable. Half a nat of log Z is a factor of
1.6 on every density value. An error of 0.05 leaves an estimate within 0.1 nats with 95 %."""
LEAST_RELIABLE_ESS_SHARE, LEAST_USABLE_ESS_SHARE = 0.2, 0.05
"""Effective shares of the particles below which an estimate is doubtful and unreliable. At 5 % a delta-method error, which
assumes small relative weights, no longer means anything."""
LARGEST_PARETO_K = 0.7
"""Tail shape above which the mean of importance weights converges too slowly. Source: Vehtari et al. 2024."""
ONE_DIRECTION = (
    "weights are even, but those of one direction cannot show mass that no particle has reached: check them by walks back, "
    "or take the two-sided estimate (drl.sandwich)"
)
"""Advice on an estimate whose weights are even and which nothing has checked from the other side."""


def log_mean_exp(log_weights: Tensor, dim: int = -1) -> Tensor:
    """Logarithm of the mean weight along ``dim``, float64.

    >>> float(log_mean_exp(torch.zeros(4)))
    0.0
    """
    weights = log_weights.double()
    return weights.logsumexp(dim) - math.log(weights.shape[dim])


def weight_ess(log_weights: Tensor) -> Tensor:
    """Effective sample size (sum w)^2 / sum w^2 along the last dimension of log weights.

    >>> round(float(weight_ess(torch.zeros(8))), 6)
    8.0
    """
    weights = log_weights.double()
    return (2 * weights.logsumexp(-1) - (2 * weights).logsumexp(-1)).exp()


def standard_error_of_log_mean(log_weights: Tensor, dim: int = -1) -> Tensor:
    """Delta-method standard error of :func:`log_mean_exp` for independent weights.

    >>> round(float(standard_error_of_log_mean(torch.log(torch.tensor([1.0, 3.0])))), 4)
    0.5
    """
    weights = log_weights.double()
    relative = (weights - log_mean_exp(weights, dim).unsqueeze(dim)).exp()
    return spread(relative, dim) / math.sqrt(weights.shape[dim])


class Estimate(NamedTuple):
    """A log Z with its standard error, both in nats.

    >>> [round(end, 2) for end in Estimate(1.0, 0.5).interval()]
    [0.02, 1.98]
    """

    log_z: float
    standard_error: float

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Ends of the central normal interval, nats."""
        return normal_interval(self.log_z, self.standard_error, probability)

    def shifted(self, constant: float) -> Estimate:
        """The estimate for a density that is ``constant`` nats higher everywhere."""
        return Estimate(self.log_z + constant, self.standard_error)


def combine_replicates(log_z: Tensor) -> Estimate:
    """Logarithm of the mean of independent, unbiased estimates of Z, with its jackknife standard error.

    Args:
        log_z: logarithm of each replicate's estimate, ``(replicate,)``, at least 2.

    Raises:
        ValueError: fewer than two replicates, which have no spread.

    >>> combine_replicates(torch.zeros(4))
    Estimate(log_z=0.0, standard_error=0.0)
    """
    count = len(log_z)
    if count < 2:
        raise ValueError(f"a standard error needs at least 2 replicates, got {count}")
    left_out = torch.stack([log_mean_exp(log_z[kept], 0) for kept in all_but_one(count)])
    return Estimate(float(log_mean_exp(log_z, 0)), jackknife_error(left_out))


def all_but_one(count: int) -> Tensor:
    """Selections that leave one replicate out each: row k holds all but the k-th, boolean ``(count, count)``.

    >>> all_but_one(2).tolist()
    [[False, True], [True, False]]
    """
    return ~torch.eye(count, dtype=torch.bool)


def jackknife_error(left_out: Tensor) -> float:
    """Standard error of an estimate from its values with one replicate left out each, ``(replicate,)``.

    >>> round(jackknife_error(torch.tensor([0.5, 1.5])), 4)  # of a mean over replicates 1.5 and 0.5
    0.5
    """
    count = len(left_out)
    return math.sqrt(float((left_out - left_out.mean()).square().sum()) * (count - 1) / count)


def resample(
    log_weights: Tensor, num_samples: int, *, generator: torch.Generator | None = None, start: Tensor | None = None
) -> Tensor:
    """Indices ``(*, num_samples)`` of particles along the last dimension, in proportion to their weights.

    Systematic resampling: one uniform number places a regular grid on the cumulative weights, so a particle of weight
    share p appears floor(n p) or ceil(n p) times.

    Args:
        log_weights: log weights ``(*, particle)``.
        start: uniform numbers ``(*, 1)`` in place of those of the generator.

    Source: Carpenter, Clifford and Fearnhead 1999.

    Raises:
        NumericalError: a row of weights without any particle alive, or with one that is not a number.

    >>> resample(torch.log(torch.tensor([0.25, 0.75])), 4).tolist()
    [0, 1, 1, 1]
    """
    shares = torch.softmax(log_weights.double(), -1).cumsum(-1)
    if not bool(shares.isfinite().all()):
        raise NumericalError("every particle has lost its weight, or a weight is not a number: there is none to resample")
    if start is None:
        start = torch.rand((*shares.shape[:-1], 1), generator=generator, dtype=torch.float64)
    places = ((torch.arange(num_samples, dtype=torch.float64) + start) / num_samples).to(shares.device)
    # Rounding can leave the last cumulative share below the last place: it is divided by itself and the index held back.
    return torch.searchsorted(shares / shares[..., -1:], places).minimum(torch.tensor(shares.shape[-1] - 1))


def resample_poor(
    log_weights: Tensor, is_poor: Tensor, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Resample the marked groups of particles; every particle of such a group then carries the group's mean weight.

    Args:
        log_weights: log weights by group, ``(group, particle)``.
        is_poor: marks of the groups to resample, boolean ``(group,)``.

    Returns:
        Indices into the particles of all groups, flattened, ``(group * particle,)``, and the log weights afterwards.

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


@dataclass(frozen=True)
class PathSummary:
    """How a weighted run went along its path of densities.

    Attributes:
        num_densities: densities after the one that the particles were drawn from.
        num_transitions: kernel steps on every density, 0 where no kernel moved the particles.
        acceptance_rate: mean acceptance over all densities, ``None`` where no kernel moved the particles.
        least_ess_share: effective share of the particles on the density where it is least.
        is_resampled: whether particles were resampled on the way.
    """

    num_densities: int = 1
    num_transitions: int = 0
    acceptance_rate: float | None = None
    least_ess_share: float = 1.0
    is_resampled: bool = False


@dataclass(frozen=True)
class OtherSide:
    """What walks back from draws of the target show about an estimate of one direction.

    Attributes:
        log_z: Bennett's ratio of both directions, nats; NaN where there is none to take.
        standard_error: error of Bennett's ratio, nats.
        overlap: share of walks that both directions see, between 0 and 1.
        upper: mean log weight of the walks back, nats; an upper bound of log Z as far as the draws are from the target.
        upper_error: standard error of ``upper``.
        drift_p_value: p-value of the test that the draws keep their distribution while chains move them.
        faults: what contradicts the estimate; the verdict is then ``UNRELIABLE``.
        doubts: what leaves it open; the verdict is then ``DOUBTFUL``.
    """

    log_z: float
    standard_error: float
    overlap: float
    upper: float
    upper_error: float
    drift_p_value: float
    faults: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether nothing contradicts the estimate or leaves it open."""
        return not (self.faults or self.doubts)

    def shifted(self, constant: float) -> OtherSide:
        """The same for a density that is ``constant`` nats higher everywhere."""
        return dataclasses.replace(self, log_z=self.log_z + constant, upper=self.upper + constant)


@dataclass(frozen=True, eq=False)
class LogPartitionEstimate:
    """An estimate of log Z with everything needed to judge it.

    Attributes:
        log_z: estimate of log Z, nats.
        standard_error: spread of independent replicates, by the jackknife, nats.
        within_run_error: delta-method error inside the replicates; larger than ``standard_error`` only when replicates
            agree by luck.
        log_weights: final log weights ``(replicate, particle)``, float64.
        weight_ess: effective sample size, averaged over replicates.
        pareto_k: tail shape of the pooled weights, see :func:`pareto_k`.
        bias: "lower" (a stochastic lower bound), "upper" or "none-known".
        verdict: ``Verdict.RELIABLE``, ``DOUBTFUL`` or ``UNRELIABLE``.
        advice: reasons for the verdict, and what to do.
        path: how the run went along its path.
        other_side: what walks back from draws of the target showed; ``None`` where there were none.

    >>> estimate = judge_estimate(torch.zeros(4, 50), bias="lower")
    >>> estimate.log_z, str(estimate.verdict), estimate.interval()
    (0.0, 'doubtful', (0.0, 0.0))
    """

    log_z: float
    standard_error: float
    within_run_error: float
    log_weights: Tensor
    weight_ess: float
    pareto_k: float
    bias: Bias
    verdict: Verdict
    advice: str
    path: PathSummary = field(default_factory=PathSummary)
    other_side: OtherSide | None = None

    __repr__ = brief

    @property
    def is_reliable(self) -> bool:
        """True for the verdict ``Verdict.RELIABLE`` alone."""
        return self.verdict.is_reliable

    @property
    def is_one_sided(self) -> bool:
        """Whether nothing but a check from the other side is missing for the verdict ``RELIABLE``."""
        return self.advice == ONE_DIRECTION

    @property
    def larger_error(self) -> float:
        """The larger of ``standard_error`` and ``within_run_error``, nats."""
        return max(self.standard_error, self.within_run_error)

    @property
    def mean_log_weight(self) -> float:
        """Mean of the log weights: the evidence lower bound (ELBO) when the particles were never resampled, nats."""
        return float(self.log_weights.mean())

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Ends of the interval around ``log_z`` by ``standard_error`` and Student's t over the replicates, nats."""
        return student_interval(self.log_z, self.standard_error, len(self.log_weights), probability)

    def shifted(self, constant: float) -> LogPartitionEstimate:
        """The estimate for a density that is ``constant`` nats higher everywhere."""
        other = None if self.other_side is None else self.other_side.shifted(constant)
        value, weights = self.log_z + constant, self.log_weights + constant
        return dataclasses.replace(self, log_z=value, log_weights=weights, other_side=other)

    def to_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Plain values and tensors for a run folder."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "log_weights"}
        other = None if self.other_side is None else dataclasses.asdict(self.other_side)
        values |= {"verdict": self.verdict.value, "path": dataclasses.asdict(self.path), "other_side": other}
        return values, {"log_weights": self.log_weights}

    @classmethod
    def from_state(cls, values: dict[str, Any], tensors: dict[str, Tensor]) -> LogPartitionEstimate:
        """Rebuild the record from the ``values`` and ``tensors`` of :meth:`to_state`."""
        typed: dict[str, Any] = {"verdict": Verdict(values["verdict"]), "path": PathSummary(**values["path"])}
        if other := values.get("other_side"):
            typed["other_side"] = OtherSide(**other | {name: tuple(other[name]) for name in ("faults", "doubts")})
        return cls(**values | typed, log_weights=tensors["log_weights"])

    def __str__(self) -> str:
        return (
            f"log Z = {self.log_z:.4f} +- {self.standard_error:.4f} ({self.bias} bias, {self.verdict}): {self.advice}"
        )

    def _repr_html_(self) -> str:
        figures = {"log Z, nats": f"{self.log_z:.4f} \u00b1 {self.standard_error:.4f}", "bias": self.bias}
        return html_card("Estimate of log Z", figures, verdict=self.verdict, advice=self.advice)


def assess_weights(
    log_weights: Tensor, *, bias: Bias, path: PathSummary | None = None, other_side: OtherSide | None = None
) -> LogPartitionEstimate:
    """Summarise the final log weights of independent, unbiased replicates, without a warning.

    The verdict is ``UNRELIABLE`` when the standard error exceeds 0.5 nats, the least effective share of the particles lies
    below 0.05, or the other side contradicts the estimate. It is ``DOUBTFUL`` when the error exceeds 0.05 nats, the share
    lies below 0.2, or Pareto's k exceeds 0.7. Even weights of a biased estimate are ``RELIABLE`` only where the other side
    was checked and is sound: mass that no particle has reached leaves no trace in the weights.

    Args:
        log_weights: final log weights ``(replicate, particle)``.
        bias: side to which the estimate errs in expectation.
        path: how the run went, where there is more than the final weights.
        other_side: what walks back from draws of the target showed.

    Raises:
        ValueError: an unknown bias, or fewer than two replicates.

    >>> str(assess_weights(torch.tensor([[0.0, 0.0], [3.0, 3.0]]), bias="lower").verdict)
    'unreliable'
    """
    if bias not in get_args(Bias):
        raise ValueError(f"bias must be one of {get_args(Bias)}, got {bias!r}")
    path, weights = path or PathSummary(), log_weights.double()
    value, error = combine_replicates(log_mean_exp(weights, 1))
    within = float(standard_error_of_log_mean(weights, 1).square().mean().sqrt()) / math.sqrt(len(weights))
    ess = float(torch.stack([weight_ess(row) for row in weights]).mean())
    alive = max(1.0, float((weights > -math.inf).double().mean()) * weights.shape[1])
    share = min(ess / alive, path.least_ess_share)  # the dead ones are part of the error, not of uneven weights
    shape = pareto_k(weights)
    largest = max(error, within)
    remedy = "use more densities on the path, more transitions, or more particles"
    if largest > LARGEST_USABLE_ERROR or share < LEAST_USABLE_ESS_SHARE or not math.isfinite(value):
        verdict = Verdict.UNRELIABLE
        advice = f"standard error {largest:.2g}, least ESS share {share:.2g}: {remedy}, and check that training was healthy"
    elif other_side is not None and other_side.faults:
        verdict, advice = Verdict.UNRELIABLE, "; ".join(other_side.faults)
    elif largest > LARGEST_RELIABLE_ERROR or share < LEAST_RELIABLE_ESS_SHARE or shape > LARGEST_PARETO_K:
        verdict = Verdict.DOUBTFUL
        advice = f"standard error {largest:.2g}, least ESS share {share:.2g}, Pareto k {shape:.2g}: {remedy}"
    elif bias == "none-known":
        verdict, advice = Verdict.RELIABLE, "replicates agree and weights are even"
    elif other_side is None or other_side.doubts:
        verdict, advice = Verdict.DOUBTFUL, ONE_DIRECTION if other_side is None else "; ".join(other_side.doubts)
    else:
        verdict = Verdict.RELIABLE
        advice = f"replicates agree, weights are even, and walks back agree; overlap {other_side.overlap:.2f}"
    return LogPartitionEstimate(value, error, within, weights, ess, shape, bias, verdict, advice, path, other_side)


def judge_estimate(
    log_weights: Tensor, *, bias: Bias, path: PathSummary | None = None, other_side: OtherSide | None = None
) -> LogPartitionEstimate:
    """Summarise log weights as :func:`assess_weights` does, and warn when the result is unreliable.

    Args:
        log_weights: final log weights ``(replicate, particle)``.
        bias: side to which the estimate errs in expectation.
        path: how the run went, where there is more than the final weights.
        other_side: what walks back from draws of the target showed.

    >>> judge_estimate(torch.zeros(4, 50), bias="lower").standard_error
    0.0
    """
    estimate = assess_weights(log_weights, bias=bias, path=path, other_side=other_side)
    if estimate.verdict is Verdict.UNRELIABLE:
        warnings.warn(
            f"log Z estimate {estimate.log_z:.4g} is unreliable: {estimate.advice}",
            UnreliableEstimateWarning,
            stacklevel=3,
        )
    return estimate
