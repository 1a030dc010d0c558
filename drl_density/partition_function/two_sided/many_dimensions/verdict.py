"""The verdict on the sandwich of a sequence in many dimensions.

Annealing and the multistate ratio are lower bounds here and need not agree. What has to agree are unresampled paths of both
directions, resampled particles, particles around a retained row, and draws that began at noise and at data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from drl_density.errors import Verdict
from drl_density.partition_function.sequence_paths.segments import SegmentGaps
from drl_density.partition_function.two_sided.estimates import Estimates, Estimator
from drl_density.partition_function.two_sided.evidence import StartGap, start_gaps
from drl_density.partition_function.two_sided.margins import Point
from drl_density.partition_function.two_sided.verdict import (
    LARGEST_DOUBTFUL_ERROR,
    LARGEST_RELIABLE_ERROR,
    LEAST_ACCEPTANCE,
    LEAST_KNOWN_OVERLAP,
    LEAST_OVERLAP,
    Judgement,
    too_few_paths,
)
from drl_density.records.intervals import student_quantile

BITS_PER_COORDINATE = 0.0005
"""Bits per coordinate that the tolerance is at least: in 784 dimensions a nat is 0.0018 bits per dimension."""
CHANCE_OF_AGREEMENT, SLACK = 0.999, 0.05
"""Probability with which estimates of one number agree within their errors, and nats beyond these that are allowed."""
WEAKEST_CHECK = 5.0
"""Standard error of the resampled particles, as a multiple of the tolerance, above which their agreement proves little."""


@dataclass(frozen=True)
class PathEvidence:
    """The evidence for the verdict.

    Attributes:
        estimates: every estimate by its estimator.
        point: Bennett's ratio of paths in both directions; ``None`` where reverse paths weigh less than forward ones, which
            no draws of the model can.
        num_paths: number of forward paths.
        num_replicates: independent replicates.
        acceptance: mean acceptance of the chains at level 0.
        tolerance: half width of the interval that was asked for, nats, at least 0.0005 bits per coordinate.
        gaps: gap between paths of both directions by segment.
    """

    estimates: Estimates
    point: Point | None
    num_paths: int
    num_replicates: int
    acceptance: float
    tolerance: float
    gaps: SegmentGaps

    def excess(self, name: Estimator) -> float:
        """Nats by which an estimate lies above the point beyond chance, negative below it, 0 within their errors."""
        if self.point is None or name not in self.estimates:
            return 0.0
        found, point = self.estimates[name], self.point.statistical
        allowed = SLACK + self.chance_errors * math.hypot(found.standard_error, point.standard_error)
        distance = found.log_z - point.log_z
        return distance if abs(distance) > allowed else 0.0

    @property
    def has_data_point(self) -> bool:
        """Whether the paths back from data have a Bennett's ratio; true without data."""
        return Estimator.BENNETT_DATA in self.estimates or Estimator.UPPER_DATA not in self.estimates

    @property
    def chance_errors(self) -> float:
        """Joint standard errors that chance explains, by Student's t over the replicates."""
        return student_quantile(self.num_replicates - 1, CHANCE_OF_AGREEMENT)

    @property
    def start_gaps(self) -> tuple[StartGap, ...]:
        """Gaps between draws that began at data and at noise; empty without draws from data."""
        return () if self.point is None else start_gaps(self.estimates, self.point.statistical)

    @property
    def starts_differ(self) -> bool:
        """Whether draws that began at data and at noise differ beyond their errors."""
        return any(not gap.agreement.holds for gap in self.start_gaps)


def tolerance_of(tolerance: float, num_features: int) -> float:
    """The tolerance in nats: as asked, and at least 0.0005 bits per coordinate.

    >>> tolerance_of(0.05, 64), round(tolerance_of(0.05, 784), 3)
    (0.05, 0.272)
    """
    return max(tolerance, BITS_PER_COORDINATE * num_features * math.log(2))


def verdict(evidence: PathEvidence) -> Judgement:
    """Judge the sandwich: unknown, unreliable, doubtful or reliable, with the reasons and the levels that disagree."""
    for level, checks in (
        (Verdict.UNKNOWN, UNKNOWN_CHECKS),
        (Verdict.UNRELIABLE, UNRELIABLE_CHECKS),
        (Verdict.DOUBTFUL, DOUBTFUL_CHECKS),
    ):
        reasons = [reason for check in checks if (reason := check(evidence))]
        if reasons:
            return Judgement(level, f"{'; '.join(reasons)}; {evidence.gaps}")
    starts = " and both kinds of start" if evidence.start_gaps else ""
    overlap = 0.0 if evidence.point is None else evidence.point.bridge.overlap
    return Judgement(
        Verdict.RELIABLE,
        f"paths in both directions, resampled particles{starts} agree; overlap {overlap:.2f}; {evidence.gaps}",
    )


Check = Callable[[PathEvidence], str | None]
"""A reason to doubt, or ``None``."""


def _bounds_of_paths_are_crossed(evidence: PathEvidence) -> str | None:
    if evidence.point is not None:
        return None
    return (
        "paths back weigh less than paths from noise, which draws of the model never do: the draws are not the model's, so "
        "its mass lies where neither data nor particles go; train with draws of the model's own long chains as negatives"
    )


def _overlap_is_too_small(evidence: PathEvidence) -> str | None:
    if evidence.point is None:
        return None
    overlap = evidence.point.bridge.overlap
    if overlap < LEAST_KNOWN_OVERLAP:
        return f"forward and reverse paths hardly overlap ({overlap:.2g}): neighbouring levels of the model disagree"
    return too_few_paths(evidence.num_paths, overlap)


def _data_lie_in_a_lost_basin(evidence: PathEvidence) -> str | None:
    above = max((gap.above for gap in evidence.start_gaps if not gap.agreement.holds), default=0.0)
    if above <= 0:
        return None
    return (
        f"chains started at the data put log Z {above:.2g} nats above those started at noise: the data lie in a basin that "
        "no path from noise reaches; look at long chains from both, or train longer"
    )


def _particles_find_more(evidence: PathEvidence) -> str | None:
    for name in (Estimator.RESAMPLED, Estimator.IMPORTANCE, Estimator.NOISE):
        above = evidence.excess(name)
        if above > 0:
            return f"{name.value} finds {above:.2g} nats more than paths in both directions: their draws miss mass"
    return None


def _upper_bound_lies_below(evidence: PathEvidence) -> str | None:
    below = evidence.excess(Estimator.CONDITIONAL)
    if below >= 0:
        return None
    return (
        f"particles around a retained draw put log Z {-below:.2g} nats below Bennett's ratio, although they err high for "
        "draws of the model"
    )


def _bounds_are_crossed(evidence: PathEvidence) -> str | None:
    lower, upper = evidence.estimates[Estimator.RESAMPLED], evidence.estimates[Estimator.CONDITIONAL]
    error = math.hypot(lower.standard_error, upper.standard_error)
    if lower.log_z <= upper.log_z + SLACK + evidence.chance_errors * error:
        return None
    return f"the lower bound of resampled particles lies {lower.log_z - upper.log_z:.2g} nats above the upper one"


def _resampled_bridges_disagree(evidence: PathEvidence) -> str | None:
    apart = evidence.excess(Estimator.BENNETT_RESAMPLED)
    return f"resampled and unresampled Bennett's ratios differ by {abs(apart):.2g} nats" if apart else None


def _error_is_large(evidence: PathEvidence) -> str | None:
    if evidence.point is None:
        return None
    error = evidence.point.standard_error
    return f"the standard error is {error:.2g} nats" if error > LARGEST_DOUBTFUL_ERROR * evidence.tolerance else None


def _data_are_no_draws(evidence: PathEvidence) -> str | None:
    if evidence.has_data_point:
        return None
    return (
        "paths back from chains that began at data weigh less than paths from noise: these chains have not come to the "
        "model's mass, part of which lies where data have none"
    )


def _chains_stand_still(evidence: PathEvidence) -> str | None:
    if evidence.acceptance >= LEAST_ACCEPTANCE:
        return None
    return f"the chains at level 0 hardly move (acceptance {evidence.acceptance:.2g})"


def _estimate_is_rough(evidence: PathEvidence) -> str | None:
    if evidence.point is None:
        return None
    error, overlap = evidence.point.standard_error, evidence.point.bridge.overlap
    if error <= LARGEST_RELIABLE_ERROR * evidence.tolerance and overlap >= LEAST_OVERLAP:
        return None
    return f"standard error {error:.2g}, overlap {overlap:.2g}: use more particles or path_steps_per_level"


def _chains_are_slow(evidence: PathEvidence) -> str | None:
    below = max((-gap.above for gap in evidence.start_gaps if not gap.agreement.holds), default=0.0)
    if below <= 0:
        return None
    return (
        f"chains started at the data put log Z {below:.2g} nats below those started at noise: they have not yet spread over "
        "all of the model's mass, part of which lies off the data; the interval holds both"
    )


def _particles_are_weak(evidence: PathEvidence) -> str | None:
    for name in (Estimator.RESAMPLED, Estimator.CONDITIONAL):
        error = evidence.estimates[name].standard_error
        if error > WEAKEST_CHECK * evidence.tolerance:
            return f"{name.value} has a standard error of {error:.2g} nats: too weak a check; use more particles"
    low, high = evidence.excess(Estimator.RESAMPLED), evidence.excess(Estimator.CONDITIONAL)
    if low < 0 or high > 0:
        return (
            f"resampled particles leave log Z between {low:+.2g} and {high:+.2g} nats of the point: use more particles"
        )
    return None


UNKNOWN_CHECKS: tuple[Check, ...] = (_bounds_of_paths_are_crossed, _overlap_is_too_small, _data_lie_in_a_lost_basin)
"""Checks after which no estimator sees log Z."""
UNRELIABLE_CHECKS: tuple[Check, ...] = (
    _particles_find_more,
    _upper_bound_lies_below,
    _bounds_are_crossed,
    _resampled_bridges_disagree,
    _error_is_large,
    _data_are_no_draws,
    _chains_stand_still,
)
"""Checks after which the number is for inspection only."""
DOUBTFUL_CHECKS: tuple[Check, ...] = (_estimate_is_rough, _chains_are_slow, _particles_are_weak)
"""Checks after which the number needs care."""
