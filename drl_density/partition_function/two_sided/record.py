"""The record of a sandwich, and the pure functions that make it from walks."""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.errors import UNUSABLE_VERDICTS, UnreliableEstimateWarning, Verdict
from drl_density.partition_function.bridge import bennett_by_replicates, bennett_shift, excess, mixing_shift
from drl_density.partition_function.mode_search.checks import describe
from drl_density.partition_function.mode_search.record import ModeSearch
from drl_density.partition_function.sequence_paths.segments import SegmentGaps
from drl_density.partition_function.tails.report import TailReport
from drl_density.partition_function.targets.flat_density import Rejections
from drl_density.partition_function.targets.prepare import PreparedTarget
from drl_density.partition_function.two_sided.estimates import (
    Estimates,
    Estimator,
    mean_inverse_weight,
    mean_log_weight,
    mean_reverse_log_weight,
)
from drl_density.partition_function.two_sided.evidence import Evidence
from drl_density.partition_function.two_sided.margins import Bracket, Margins, Point, Precision
from drl_density.partition_function.two_sided.verdict import LEAST_SHARED_PATHS, verdict
from drl_density.partition_function.two_sided.walks import PathFigures, Route, Walks, grouped, median_of_alive
from drl_density.records.brief import brief
from drl_density.records.html import ends_in_words, html_card
from drl_density.weights import Estimate, LogPartitionEstimate, assess_weights, combine_replicates, log_mean_exp

CERTIFICATE_FACTOR = 20
"""Markov's inequality: an unbiased, non-negative estimate exceeds 20 times its mean with probability at most 1 / 20."""
REMARKABLE_DEAD_SHARE, REMARKABLE_UNDEFINED_SHARE = 0.2, 1e-4
"""Shares of the evaluated points, without density for any reason and with values that are no numbers, above which the advice
states them. Bases that reach over a wall lose a few points in any case; a value that is no number may be a fault."""
MARGIN = 1.1
"""Factor on the number of paths that an error calls for, since the error itself is known roughly."""


@dataclass(frozen=True, eq=False)
class Sandwich:
    """The result of a two-sided estimate: log Z with its interval, bracket, verdict and advice, in nats.

    Attributes:
        log_z: point estimate, by Bennett's ratio of both directions; NaN when the verdict is ``IMPROPER``, and where
            walks could not be completed.
        standard_error: statistical error, the larger of the jackknife over replicates and the asymptotic error. For a target
            without levels it includes the change in log Z from the last base refit, or from quartering the number of mixing
            steps, where that change exceeds its own error.
        lower: lower end of the 95 % interval. Where draws from data and from noise differ beyond their errors, the interval
            holds both; an unreliable one holds the bracket too. Minus infinity when the verdict is ``UNKNOWN`` or
            ``IMPROPER``.
        upper: upper end of the 95 % interval, infinity when the verdict is ``UNKNOWN`` or ``IMPROPER``.
        bracket: mean log weight of the forward paths and of the reverse paths, each moved outwards to a 95 % end by its
            error. For a target without levels the forward paths are averaged in groups of 16 first. The lower end holds for
            any model, the upper one as far as the draws are draws of the target.
        certificate: annealing estimate less log 20; it exceeds log Z with probability at most 0.05 by Markov's inequality.
        overlap: share of paths that both directions see, in [0, 1].
        verdict: ``RELIABLE``, ``DOUBTFUL``, ``UNRELIABLE``, ``UNKNOWN``, or ``IMPROPER`` where the integral is infinite.
        advice: reasons for the verdict, and what to do.
        estimates: estimate of log Z by every estimator.
        annealing: record of the annealing run; of no particle where walks could not be completed.
        forward: log weights of forward paths ``(replicate, particle)``.
        reverse: log weights of reverse paths from draws that began at the origin ``(replicate, particle)``.
        reverse_from_data: the same from chains that began at rows of data, where rows were given.
        margins: points and bounds that the interval is made of.
        path: figures of the annealing run, by density.
        precision: how narrow the interval is, against the tolerance that was asked for.
        draws: draws of the target from which the reverse paths began, flat, without weights, ``(replicate, particle, d)``.
        rounds: estimate with each base fitted in turn; empty for a sequence.
        origin: what the walks begin at, in words.
        rejections: how many of the points at which a target was evaluated have no density; all zero for a sequence.
        remarks: what else a reader should know about a target, such as a missing gradient; also part of the advice.
        tails: decay, integrability and reach of the tails of a target without levels; ``None`` for a sequence.
        mode_search: modes that were searched for before the run, with the share of the draws in each, how far the search
            would have seen, and the estimated share of unseen modes; ``None`` for a sequence.
        segments: gap between both directions by pairs of levels, of a sequence in many dimensions; else ``None``.
    """

    log_z: float
    standard_error: float
    lower: float
    upper: float
    bracket: tuple[float, float]
    certificate: float
    overlap: float
    verdict: Verdict
    advice: str
    estimates: Estimates
    annealing: LogPartitionEstimate
    forward: Tensor
    reverse: Tensor
    reverse_from_data: Tensor | None
    margins: Margins
    path: PathFigures
    precision: Precision
    draws: Tensor | None = None
    rounds: tuple[Estimate, ...] = ()
    origin: str = "noise"
    rejections: Rejections = field(default_factory=Rejections)
    remarks: tuple[str, ...] = ()
    tails: TailReport | None = None
    mode_search: ModeSearch | None = None
    segments: SegmentGaps | None = None

    __repr__ = brief

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Ends of the interval by the rules of ``lower`` and ``upper``, nats; at 0.95 these two."""
        return self.margins.interval(self.verdict, probability)

    @property
    def is_reliable(self) -> bool:
        """True for the verdict ``Verdict.RELIABLE`` alone."""
        return self.verdict.is_reliable

    @property
    def dead_share(self) -> float:
        """Share of the points at which a target was evaluated that have no density: minus infinity, or not a number."""
        return self.rejections.dead_share

    def shifted(self, constant: float) -> Sandwich:
        """The sandwich of a target whose log density is ``constant`` nats higher everywhere."""
        from_data = self.reverse_from_data
        return dataclasses.replace(
            self,
            log_z=self.log_z + constant,
            lower=self.lower + constant,
            upper=self.upper + constant,
            bracket=(self.bracket[0] + constant, self.bracket[1] + constant),
            certificate=self.certificate + constant,
            estimates={name: found.shifted(constant) for name, found in self.estimates.items()},
            annealing=self.annealing.shifted(constant),
            forward=self.forward + constant,
            reverse=self.reverse + constant,
            reverse_from_data=None if from_data is None else from_data + constant,
            margins=self.margins.shifted(constant),
            rounds=tuple(found.shifted(constant) for found in self.rounds),
        )

    def __str__(self) -> str:
        text = (
            f"log Z = {self.log_z:.4f} in [{self.lower:.4f}, {self.upper:.4f}] (bracket {self.bracket[0]:.4f} to "
            f"{self.bracket[1]:.4f}), {self.verdict}: {self.advice}"
        )
        return text if self.mode_search is None else f"{text}\n{describe(self.mode_search)}"

    def _repr_html_(self) -> str:
        figures = {
            "log Z, nats": f"{self.log_z:.4f}",
            "95 % interval": ends_in_words(self.lower, self.upper, digits=4),
            "bracket of the bounds": ends_in_words(*self.bracket, digits=4),
            "overlap of both directions": f"{self.overlap:.2f}",
        }
        return html_card("log Z from two sides", figures, verdict=self.verdict, advice=self.advice)


def bridge(walks: Walks) -> Point:
    """Point estimate by Bennett's ratio of both directions, with what log Z still moved by."""
    found = bennett_by_replicates(walks.forward, walks.reverse)
    if walks.rounds is None or walks.reverse_early is None:
        return Point(found)
    # The last round took the same route; the one before it is the last with another base.
    before = walks.rounds.estimates[-2:][0]
    by_base = excess(Estimate(found.log_z, found.standard_error), before)
    return Point(found, max(by_base, bennett_shift(walks.forward, walks.reverse_early, walks.reverse)))


def missing_paths(walks: Walks, tolerance: float) -> int:
    """Further paths in each direction, about, until the statistical error meets a tolerance; 0 where it does.

    Bennett's ratio also needs a number of paths that both directions see, whatever its error says.
    """
    found, num_paths = bennett_by_replicates(walks.forward, walks.reverse), walks.forward.numel()
    by_width = MARGIN * (found.half_width() / tolerance) ** 2 if found.half_width() > tolerance else 1.0
    # An overlap of 0 asks for more paths than any run takes, and is not divided by.
    by_overlap = LEAST_SHARED_PATHS / max(found.overlap * num_paths, 1e-9)
    return math.ceil((max(1.0, by_width, by_overlap) - 1.0) * num_paths)


def bracket(walks: Walks) -> Bracket:
    """Bounds of log Z: the mean log weights of both directions.

    A fitted base has heavy tails, whose few paths far away would drag the mean of single log weights down without end. The
    lower bound is then the mean log weight of groups of paths, a bound as well (Burda, Grosse and Salakhutdinov 2016).
    """
    forward = walks.forward if walks.rounds is None else grouped(walks.forward)
    return Bracket(mean_log_weight(forward), mean_reverse_log_weight(walks.reverse))


def gather_estimates(walks: Walks, annealing: LogPartitionEstimate, point: Point, bounds: Bracket) -> Estimates:
    """Estimates of log Z by every estimator that the walks serve, in the order of reports."""
    found: dict[Estimator, Estimate] = {}
    if walks.reverse_early is not None:
        found[Estimator.BENNETT_EARLY] = _bennett(walks.forward, walks.reverse_early)
    found |= {
        Estimator.ANNEALING: Estimate(annealing.log_z, annealing.larger_error),
        Estimator.FORWARD: combine_replicates(log_mean_exp(walks.forward, 1)),
        Estimator.REVERSE: mean_inverse_weight(walks.reverse),
        Estimator.LOWER: bounds.lower,
        Estimator.BENNETT: Estimate(point.log_z, point.standard_error),
        Estimator.MULTISTATE: walks.equilibrium.multistate,
        Estimator.INTEGRATION: walks.equilibrium.integration,
        Estimator.UPPER_NOISE: bounds.upper,
    }
    if walks.reverse_from_data is not None:
        found[Estimator.UPPER_DATA] = mean_reverse_log_weight(walks.reverse_from_data)
        found[Estimator.BENNETT_DATA] = _bennett(walks.forward, walks.reverse_from_data)
    return {**found, **walks.others}


def assemble(
    route: Route,
    walks: Walks,
    *,
    prepared: PreparedTarget | None = None,
    search: ModeSearch | None = None,
    seconds: float = math.nan,
) -> Sandwich:
    """Everything that the walks along a route show about log Z; no randomness, no warning.

    Args:
        route: densities, plan and walks.
        walks: everything that was walked.
        prepared: target that the route leads to, where it is no sequence; its constant is added back to every number.
        search: modes that were found before.
        seconds: time that the walks took.
    """
    run = walks.run
    if search is not None and walks.draws is not None:
        search = search.visited_by(walks.draws.flatten(0, 1).flatten(1))
    annealing = assess_weights(run.log_weights, bias="lower", path=run.summary(route.settings.annealing()))
    point, bounds = bridge(walks), bracket(walks)
    evidence = Evidence(
        estimates=gather_estimates(walks, annealing, point, bounds),
        point=point,
        annealing_verdict=annealing.verdict,
        num_paths=walks.forward.numel(),
        median_log_weight=median_of_alive(walks.forward),
        least_acceptance=min(run.acceptance_rates),
        tolerance=route.settings.tolerance,
        unsettled=None if walks.rounds is None else walks.rounds.unsettled,
        mixing_shift=None if walks.reverse_early is None else mixing_shift(walks.reverse_early, walks.reverse),
        num_replicates=len(walks.forward),
        origin=route.origin,
        rounding=0.0 if prepared is None else prepared.rounding,
        tails=walks.tails,
        search=search,
    )
    judgement = verdict(evidence)
    points = (point,)
    if walks.reverse_from_data is not None:
        points = (point, Point(bennett_by_replicates(walks.forward, walks.reverse_from_data)))
    margins = Margins(points, bounds, any(not gap.agreement.holds for gap in evidence.start_gaps))
    lower, upper = margins.interval(judgement.verdict)
    precision = Precision(
        tolerance=route.settings.tolerance,
        statistical=point.bridge.half_width(),
        drift=point.drift_width(),
        num_paths=walks.forward.numel(),
        seconds=seconds,
    )
    # A sequence takes the paths that it is given; only a target without levels goes on until its interval is narrow.
    is_number = judgement.verdict is not Verdict.IMPROPER
    shortfall = precision.shortfall if walks.rounds is not None and is_number else None
    result = Sandwich(
        log_z=point.log_z if is_number else math.nan,
        standard_error=point.standard_error if is_number else math.nan,
        lower=lower,
        upper=upper,
        bracket=bounds.ends() if is_number else (-math.inf, math.inf),
        certificate=annealing.log_z - math.log(CERTIFICATE_FACTOR) if is_number else math.nan,
        overlap=point.bridge.overlap,
        verdict=judgement.verdict,
        advice=judgement.advice if shortfall is None else f"{judgement.advice}; {shortfall}",
        estimates=evidence.estimates,
        annealing=annealing,
        forward=walks.forward,
        reverse=walks.reverse,
        reverse_from_data=walks.reverse_from_data,
        margins=margins,
        path=PathFigures(
            levels=route.path.levels,
            ess_shares=tuple(run.ess_by_density.mean(1).tolist()),
            acceptance_rates=run.acceptance_rates,
            overlap=walks.equilibrium.overlap,
        ),
        precision=precision,
        draws=None if walks.draws is None else walks.draws.flatten(2),
        rounds=() if walks.rounds is None else walks.rounds.estimates,
        origin=route.origin,
        tails=walks.tails,
        mode_search=search,
    )
    return result if prepared is None else _of_target(result, prepared)


def unfinished(
    prepared: PreparedTarget,
    verdict: Verdict,
    advice: str,
    *,
    tolerance: float,
    search: ModeSearch | None = None,
    tails: TailReport | None = None,
) -> Sandwich:
    """The record of a target for which no walks were completed: no number, and the reason.

    Args:
        prepared: target.
        verdict: ``IMPROPER`` or ``UNKNOWN``.
        advice: why there are no walks, and what to do.
        tolerance: half width of the interval that was asked for, nats.
        search: modes that were found before.
        tails: what decided that the integral is infinite.
    """
    nothing = torch.empty(0, 0, dtype=torch.float64)
    none = LogPartitionEstimate(
        math.nan, math.nan, math.nan, nothing, 0.0, math.nan, "lower", Verdict.UNRELIABLE, "no annealing was completed"
    )
    bounds = Bracket(Estimate(math.nan, math.nan), Estimate(math.nan, math.nan))
    result = Sandwich(
        log_z=math.nan,
        standard_error=math.nan,
        lower=-math.inf,
        upper=math.inf,
        bracket=(-math.inf, math.inf),
        certificate=math.nan,
        overlap=0.0,
        verdict=verdict,
        advice=advice,
        estimates={},
        annealing=none,
        forward=nothing,
        reverse=nothing,
        reverse_from_data=None,
        margins=Margins((), bounds, starts_differ=False),
        path=PathFigures((), (), (), nothing),
        precision=Precision(tolerance, math.inf, 0.0, num_paths=0, seconds=0.0),
        tails=tails,
        mode_search=search,
    )
    return _of_target(result, prepared)


def _of_target(result: Sandwich, prepared: PreparedTarget) -> Sandwich:
    """The record with the target's constant added back, and with what preparing and evaluating the target showed."""
    found = prepared.rejections
    remarks = prepared.remarks
    if found.dead_share > REMARKABLE_DEAD_SHARE:
        remarks += (f"the target has no density at {found.dead_share:.0%} of the points at which it was evaluated",)
    if found.undefined_share > REMARKABLE_UNDEFINED_SHARE:
        remarks += (
            f"the log density is not a number at {found.undefined_share:.2g} of these points, which count as density zero: "
            "log Z is that of the rest",
        )
    draws = None
    if result.draws is not None:
        points = prepared.coordinates.to_event(result.draws.flatten(0, 1))
        draws = points.reshape(*result.draws.shape[:2], -1)
    return dataclasses.replace(
        result.shifted(prepared.offset),
        advice="; ".join((result.advice, *remarks)),
        draws=draws,
        rejections=found,
        remarks=remarks,
    )


def warn_if_unusable(result: Sandwich) -> Sandwich:
    """Warn the caller's caller when log Z must not be built on; returns the record unchanged."""
    if result.verdict in UNUSABLE_VERDICTS:
        number = "" if math.isnan(result.log_z) else f" {result.log_z:.4g}"
        message = f"log Z{number} is {result.verdict}: {result.advice}"
        warnings.warn(message, UnreliableEstimateWarning, stacklevel=3)
    return result


def _bennett(forward: Tensor, reverse: Tensor) -> Estimate:
    found = bennett_by_replicates(forward, reverse)
    return Estimate(found.log_z, found.standard_error)
