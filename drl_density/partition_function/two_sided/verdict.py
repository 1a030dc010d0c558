"""The verdict on a sandwich.

A check is a function of the evidence that returns a reason to doubt, or ``None``. There are three tuples of checks: those
after which log Z is unknown, those after which it is unreliable, and those that leave it doubtful.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from drl_density.errors import Verdict
from drl_density.partition_function.mode_search.checks import (
    a_mode_is_never_visited,
    many_modes_are_unseen,
    power_is_small,
    reach,
    some_modes_are_unseen,
)
from drl_density.partition_function.tails.report import Integrability, TailReport
from drl_density.partition_function.two_sided.estimates import Estimator
from drl_density.partition_function.two_sided.evidence import Evidence

LEAST_OVERLAP = 0.05
"""Overlap of both directions below which the point estimate is doubtful."""
LEAST_KNOWN_OVERLAP, LEAST_SHARED_PATHS = 0.01, 50
"""Overlap, and number of paths in it, below which Bennett's ratio rests on a handful of paths and log Z is unknown."""
LEAST_ACCEPTANCE = 0.05
"""Acceptance below which particles hardly move, so that a walk has no chance to find the target's mass."""
DEEPEST_MEDIAN = 5.0
"""Nats below log Z at which the median forward path counts as lost: half of the paths then carry e^-5 of the weight."""
LARGEST_DOUBTFUL_ERROR, LARGEST_RELIABLE_ERROR = 10.0, 2.0
"""Standard errors, as multiples of the tolerance asked for, above which log Z is unreliable, and doubtful."""
LARGEST_DRIFT = 1.0
"""Multiple of the tolerance by which log Z may still move before it counts as doubtful."""
MOST_MISSING, MOST_DOUBTFUL_MISSING = 0.1, 0.01
"""Shares of the mass which the draws do not reach above which log Z is unreliable, and doubtful."""
LARGEST_ROUNDING = 0.1
"""Nats by which log densities may be rounded; a tenth of a nat biases log Z by 0.0004, one nat by 0.04."""
WEAKEST_CHECK = 0.25
"""Standard error in nats of a check above which its agreement proves little."""


class Judgement(NamedTuple):
    """A verdict with its reasons, and what to do.

    Attributes:
        verdict: how far log Z can be trusted.
        advice: reasons, and what to do.
    """

    verdict: Verdict
    advice: str


Check = Callable[[Evidence], str | None]
"""A reason to doubt, or ``None``."""


def verdict(evidence: Evidence) -> Judgement:
    """Judge a sandwich: improper, unknown, unreliable, doubtful or reliable, with every reason that led there."""
    if evidence.tails is not None and evidence.tails.integrability is Integrability.IMPROPER:
        return Judgement(Verdict.IMPROPER, f"the integral is infinite: {evidence.tails}")
    unknown = [reason for check in UNKNOWN_CHECKS if (reason := check(evidence))]
    if unknown:
        return Judgement(Verdict.UNKNOWN, "; ".join(unknown))
    unreliable = [reason for check in UNRELIABLE_CHECKS if (reason := check(evidence))]
    if unreliable:
        remedy = ": use more particles, more transitions, or more levels"
        return Judgement(Verdict.UNRELIABLE, "; ".join(unreliable) + remedy)
    for check in DOUBTFUL_CHECKS:
        if reason := check(evidence):
            return Judgement(Verdict.DOUBTFUL, reason)
    starts = " and both kinds of start" if evidence.start_gaps else ""
    overlap = evidence.point.bridge.overlap
    tails = "" if evidence.tails is None else f"; tails: {evidence.tails}"
    agreed = f"annealing, both path directions{starts} agree; overlap {overlap:.2f}{tails}"
    return Judgement(Verdict.RELIABLE, agreed + reach(evidence.search))


def too_few_paths(num_paths: int, overlap: float) -> str | None:
    """Why paths are too few for the overlap of both directions, and how many would do; None where they suffice.

    >>> too_few_paths(1000, 0.05) is None
    True
    """
    if overlap * num_paths >= LEAST_SHARED_PATHS:
        return None
    least = math.ceil(LEAST_SHARED_PATHS / overlap)
    return (
        f"{num_paths} paths are too few for an overlap of {overlap:.2g}: use at least {least}, which is "
        "num_particles times num_replicates (--particles, --replicates)"
    )


def _overlap_is_too_small(evidence: Evidence) -> str | None:
    overlap = evidence.point.bridge.overlap
    if overlap >= LEAST_KNOWN_OVERLAP:
        return too_few_paths(evidence.num_paths, overlap)
    return f"forward and reverse paths hardly overlap ({overlap:.2g}): use more levels, bridges or transitions"


def _data_lie_in_a_lost_basin(evidence: Evidence) -> str | None:
    above = evidence.furthest_above
    if above <= 0:
        return None
    return (
        f"chains started at the data put log Z {above:.2g} nats above those started at {evidence.origin}: the data lie in a "
        f"basin that no path from {evidence.origin} reaches; look at long chains from both, train longer, or add levels"
    )


def _annealing_disagrees(evidence: Evidence) -> str | None:
    found = evidence.agreement(Estimator.ANNEALING)
    if found.holds:
        return None
    return f"annealing and Bennett's ratio differ by {found.distance:.2g} nats, {found.num_errors:.1f} standard errors"


def _paths_are_lost(evidence: Evidence) -> str | None:
    depth = evidence.point.log_z - evidence.median_log_weight
    if depth <= DEEPEST_MEDIAN:
        return None
    return (
        f"half of the forward paths lie more than {depth:.2g} nats below log Z: many are lost, so parts of the target "
        "may never be reached"
    )


def _particles_stand_still(evidence: Evidence) -> str | None:
    if evidence.least_acceptance >= LEAST_ACCEPTANCE:
        return None
    return f"the kernel hardly accepts ({evidence.least_acceptance:.2g}) on some density: its particles did not move"


def _bases_are_unsettled(evidence: Evidence) -> str | None:
    return evidence.unsettled


def _early_draws_disagree(evidence: Evidence) -> str | None:
    if Estimator.BENNETT_EARLY not in evidence.estimates:
        return None
    found = evidence.agreement(Estimator.BENNETT_EARLY)
    return None if found.holds else f"draws that mixed a quarter as long put log Z {found.distance:.2g} nats away"


def _equilibrium_disagrees(evidence: Evidence) -> str | None:
    found = evidence.agreement(Estimator.MULTISTATE)
    if found.holds:
        return None
    return f"equilibrium draws of all densities put log Z {found.distance:.2g} nats away: their chains mix slowly"


def _bounds_are_crossed(evidence: Evidence) -> str | None:
    lower, upper = evidence.estimates[Estimator.LOWER], evidence.estimates[Estimator.UPPER_NOISE]
    joint = math.hypot(lower.standard_error, upper.standard_error)
    return "the lower bound lies above the upper one" if lower.log_z > upper.log_z + 3 * joint else None


def _lower_bound_lies_above(evidence: Evidence) -> str | None:
    """A further estimator that errs low and yet lies above the point has found mass that the walks did not."""
    for name in (Estimator.IMPORTANCE, Estimator.NOISE):
        if name in evidence.estimates and not evidence.agreement(name).holds:
            above = evidence.estimates[name].log_z - evidence.point.log_z
            if above > 0:
                return f"{name.value} finds {above:.2g} nats more than walks from {evidence.origin}: they miss mass"
    return None


def _error_is_large(evidence: Evidence) -> str | None:
    error = evidence.point.standard_error
    return f"the standard error is {error:.2g} nats" if error > LARGEST_DOUBTFUL_ERROR * evidence.tolerance else None


def _draws_miss_a_tail(evidence: Evidence) -> str | None:
    if evidence.tails is None or evidence.tails.missing <= MOST_MISSING:
        return None
    return _missing(evidence.tails)


def _draws_may_miss_a_tail(evidence: Evidence) -> str | None:
    if evidence.tails is None or evidence.tails.missing <= MOST_DOUBTFUL_MISSING:
        return None
    return _missing(evidence.tails)


def _missing(tails: TailReport) -> str:
    return (
        f"draws moved along {tails.worst_reached.label} find {tails.missing:.2g} of the mass that the draws do not reach: "
        "use more particles, mixing steps or rounds, or a wider base"
    )


def _integrability_is_undecided(evidence: Evidence) -> str | None:
    if evidence.tails is None or evidence.tails.integrability is not Integrability.UNDECIDED:
        return None
    return str(evidence.tails)


def _estimate_is_rough(evidence: Evidence) -> str | None:
    error, overlap = evidence.point.standard_error, evidence.point.bridge.overlap
    is_fine = error <= LARGEST_RELIABLE_ERROR * evidence.tolerance and overlap >= LEAST_OVERLAP
    if is_fine and evidence.annealing_verdict is not Verdict.UNRELIABLE:
        return None
    return f"standard error {error:.2g}, overlap {overlap:.2g}: use more particles"


def _log_z_drifts(evidence: Evidence) -> str | None:
    if evidence.point.drift <= LARGEST_DRIFT * evidence.tolerance:
        return None
    return (
        f"log Z moved by {evidence.point.drift:.2g} nats as draws mixed, or with the last base fitted, and may move on: use "
        "more particles, mixing steps or rounds"
    )


def _values_are_rounded(evidence: Evidence) -> str | None:
    if evidence.rounding <= LARGEST_ROUNDING:
        return None
    return f"log densities are rounded by {evidence.rounding:.2g} nats, which biases log Z and hides small differences"


def _draws_are_not_at_rest(evidence: Evidence) -> str | None:
    if evidence.is_at_rest or evidence.mixing_shift is None:
        return None
    return (
        f"the mean reverse log weight moved by {evidence.mixing_shift.log_z:.2g} nats as draws mixed four times as long: "
        "they have not come to rest, and parts of the target may be missing; use more mixing steps"
    )


def _chains_are_slow(evidence: Evidence) -> str | None:
    slow = evidence.furthest_below
    if slow <= 0:
        return None
    return (
        f"chains started at the data put log Z {slow:.2g} nats below those started at {evidence.origin}: they have not "
        "yet spread over all of the model's mass, part of which lies off the data; the interval holds both"
    )


def _checks_are_weak(evidence: Evidence) -> str | None:
    checks = (Estimator.ANNEALING, Estimator.MULTISTATE)
    weakest = max(evidence.estimates[name].standard_error for name in checks)
    if weakest <= WEAKEST_CHECK:
        return None
    return (
        f"annealing and the multistate ratio agree with the point only within their errors, up to {weakest:.2g} nats: "
        "too weak a check; use more particles or transitions"
    )


def _many_modes_are_unseen(evidence: Evidence) -> str | None:
    return many_modes_are_unseen(evidence.search)


def _a_mode_is_never_visited(evidence: Evidence) -> str | None:
    return a_mode_is_never_visited(evidence.search)


def _some_modes_are_unseen(evidence: Evidence) -> str | None:
    return some_modes_are_unseen(evidence.search)


def _power_is_small(evidence: Evidence) -> str | None:
    return power_is_small(evidence.search)


UNKNOWN_CHECKS: tuple[Check, ...] = (_overlap_is_too_small, _data_lie_in_a_lost_basin, _many_modes_are_unseen)
"""Checks after which no estimator sees log Z; all reasons are reported."""
UNRELIABLE_CHECKS: tuple[Check, ...] = (
    _annealing_disagrees,
    _paths_are_lost,
    _particles_stand_still,
    _bases_are_unsettled,
    _early_draws_disagree,
    _equilibrium_disagrees,
    _bounds_are_crossed,
    _lower_bound_lies_above,
    _error_is_large,
    _draws_miss_a_tail,
    _integrability_is_undecided,
    _a_mode_is_never_visited,
)
"""Checks after which the number is for inspection only; all reasons are reported."""
DOUBTFUL_CHECKS: tuple[Check, ...] = (
    _values_are_rounded,
    _draws_may_miss_a_tail,
    _estimate_is_rough,
    _log_z_drifts,
    _draws_are_not_at_rest,
    _chains_are_slow,
    _checks_are_weak,
    _some_modes_are_unseen,
    _power_is_small,
)
"""Checks after which the number needs care; the first reason is reported."""
