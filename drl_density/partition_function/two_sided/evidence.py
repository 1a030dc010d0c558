"""The evidence for the verdict on a sandwich, and how closely its estimates have to agree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from drl_density.errors import Verdict
from drl_density.partition_function.mode_search.record import ModeSearch
from drl_density.partition_function.tails.report import TailReport
from drl_density.partition_function.two_sided.estimates import Estimates, Estimator
from drl_density.partition_function.two_sided.margins import Point
from drl_density.records.intervals import student_quantile
from drl_density.weights import Estimate

CHANCE_OF_REST = 0.999
"""Probability with which draws at rest keep their mean reverse log weight within the errors allowed."""
SLOW_CHAINS = 0.1
"""Nats between draws that began at data and at noise up to which the difference is not reported."""


@dataclass(frozen=True)
class Tolerance:
    """How far an estimate may lie from the point.

    Attributes:
        num_errors: joint standard errors.
        slack: nats beyond these, for estimators with a small bias of their own.
        least: nats that are always allowed, whatever the errors.
    """

    num_errors: float
    slack: float
    least: float = 0.0


TOLERANCES = {
    Estimator.ANNEALING: Tolerance(4.0, 0.02),
    Estimator.MULTISTATE: Tolerance(4.0, 0.05),
    Estimator.BENNETT_EARLY: Tolerance(3.0, 0.05),
    Estimator.BENNETT_DATA: Tolerance(3.0, 0.02, SLOW_CHAINS),
    Estimator.UPPER_DATA: Tolerance(3.0, 0.02, SLOW_CHAINS),
    Estimator.IMPORTANCE: Tolerance(4.0, 0.02),
    Estimator.NOISE: Tolerance(4.0, 0.05),
}
"""Tolerance of every estimator that is compared. It is four errors where independent checks would raise too many false
alarms among many runs, and three where a difference is the symptom itself."""


class Agreement(NamedTuple):
    """How an estimate compares with another.

    Attributes:
        distance: nats between them.
        standard_error: their joint standard error, nats.
        holds: whether the tolerance covers the distance.
    """

    distance: float
    standard_error: float
    holds: bool

    @property
    def num_errors(self) -> float:
        """The distance in joint standard errors; without an error 0 where the tolerance covers it, else infinite.

        >>> Agreement(0.0, 0.0, True).num_errors, Agreement(0.3, 0.1, True).num_errors < 3.01
        (0.0, True)
        """
        if self.standard_error > 0:
            return self.distance / self.standard_error
        return 0.0 if self.holds else math.inf


class StartGap(NamedTuple):
    """How draws that began at data compare with draws that began at noise.

    Attributes:
        above: nats by which log Z from data lies above log Z from noise.
        agreement: whether their errors cover the gap.
    """

    above: float
    agreement: Agreement


@dataclass(frozen=True)
class Evidence:
    """The evidence for the verdict on a sandwich.

    Attributes:
        estimates: every estimate by its estimator.
        point: Bennett's ratio, with its statistical error and its drift apart.
        annealing_verdict: verdict on the annealing run by itself.
        num_paths: number of forward paths.
        median_log_weight: median log weight of the forward paths, nats.
        least_acceptance: mean acceptance on the density where it is least.
        tolerance: half width of the interval that was asked for, nats.
        unsettled: why the fitted bases do not leave log Z where it is; ``None`` where they do, and for a sequence.
        mixing_shift: change of the mean reverse log weight as draws mixed four times as long, chain by chain, with its error
            over replicates; ``None`` along a sequence.
        num_replicates: independent replicates.
        origin: what the walks begin at, in words.
        rounding: nats by which the type of a target's numbers rounds its largest log densities.
        tails: decay and reach of the tails of a target without levels.
        search: modes that were found before, with the final draws in each; ``None`` for a sequence.
    """

    estimates: Estimates
    point: Point
    annealing_verdict: Verdict
    num_paths: int
    median_log_weight: float
    least_acceptance: float
    tolerance: float
    unsettled: str | None = None
    mixing_shift: Estimate | None = None
    num_replicates: int = 8
    origin: str = "noise"
    rounding: float = 0.0
    tails: TailReport | None = None
    search: ModeSearch | None = None

    @property
    def is_at_rest(self) -> bool:
        """Whether mixing four times as long moves the draws by no more than chance and the tolerance.

        The mean reverse log weight of the same chains is compared, early and late. It changes with a tail that the draws
        only begin to enter. Bennett's ratio is made of bounded terms and hardly changes there.
        """
        if self.mixing_shift is None:
            return True
        moved, error = abs(self.mixing_shift.log_z), self.mixing_shift.standard_error
        chance = student_quantile(self.num_replicates - 1, CHANCE_OF_REST) * error
        return moved <= self.tolerance + chance

    def agreement(self, estimator: Estimator) -> Agreement:
        """How an estimate compares with the point, by the point's statistical error."""
        return agreement(estimator, self.estimates[estimator], self.point.statistical)

    @property
    def start_gaps(self) -> tuple[StartGap, ...]:
        """Gaps between draws that began at data and at noise; empty without draws from data."""
        return start_gaps(self.estimates, self.point.statistical)

    @property
    def furthest_above(self) -> float:
        """Largest gap that the errors do not cover, nats by which data lie above noise; 0 for none."""
        return max((gap.above for gap in self.start_gaps if not gap.agreement.holds), default=0.0)

    @property
    def furthest_below(self) -> float:
        """Largest gap that the errors do not cover, nats by which data lie below noise; 0 for none."""
        return max((-gap.above for gap in self.start_gaps if not gap.agreement.holds), default=0.0)


def agreement(estimator: Estimator, estimate: Estimate, point: Estimate) -> Agreement:
    """Compare an estimate with a point by the tolerance of its estimator.

    >>> agreement(Estimator.ANNEALING, Estimate(0.1, 0.0), Estimate(0.0, 0.01)).holds
    False
    """
    allowed = TOLERANCES[estimator]
    distance = abs(estimate.log_z - point.log_z)
    error = math.hypot(estimate.standard_error, point.standard_error)
    return Agreement(distance, error, distance <= max(allowed.num_errors * error + allowed.slack, allowed.least))


def start_gaps(estimates: Estimates, point: Estimate) -> tuple[StartGap, ...]:
    """Compare draws that began at data with draws that began at noise, by the point estimates and by the bounds.

    The bounds see a gap that the points hide: reweighting can pull two sets of draws to one number although neither set
    covers the target. Empty where no draws began at data.
    """
    if Estimator.BENNETT_DATA not in estimates:
        return ()
    pairs = ((Estimator.BENNETT_DATA, point), (Estimator.UPPER_DATA, estimates[Estimator.UPPER_NOISE]))
    return tuple(
        StartGap(estimates[name].log_z - other.log_z, agreement(name, estimates[name], other)) for name, other in pairs
    )
