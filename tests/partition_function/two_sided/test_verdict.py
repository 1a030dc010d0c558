"""Every check of the verdict rings alone, and nothing excuses a disagreement."""

import dataclasses
import math

import pytest

from drl_density.errors import Verdict
from drl_density.partition_function.bridge import ReplicatedBridge
from drl_density.partition_function.tails.report import Integrability, Tail, TailReport
from drl_density.partition_function.two_sided import verdict as verdict_module
from drl_density.partition_function.two_sided.estimates import Estimator
from drl_density.partition_function.two_sided.evidence import Evidence
from drl_density.partition_function.two_sided.margins import Point
from drl_density.partition_function.two_sided.verdict import verdict
from drl_density.weights import Estimate
from tests.partition_function.mode_search import test_checks as checks

POINT = Point(ReplicatedBridge(2.0, 0.02, 0.02, overlap=0.9, num_replicates=8))
ESTIMATES = {
    Estimator.ANNEALING: Estimate(2.0, 0.02),
    Estimator.LOWER: Estimate(1.9, 0.02),
    Estimator.UPPER_NOISE: Estimate(2.1, 0.02),
    Estimator.MULTISTATE: Estimate(2.0, 0.02),
}


def tails(integrability=Integrability.INTEGRABLE, missing=0.0):
    tail = Tail("coordinate 3", is_stretch=True, exponents=(-0.5,), steps=170.0, missing=missing, beyond=3.0)
    return {"tails": TailReport(integrability, (tail,), tail)}


FAULTLESS = Evidence(
    estimates=ESTIMATES,
    point=POINT,
    annealing_verdict=Verdict.RELIABLE,
    num_paths=800,
    median_log_weight=1.9,
    least_acceptance=0.5,
    tolerance=0.05,
)


def with_estimate(estimator, log_z, error=0.02):
    return {"estimates": ESTIMATES | {estimator: Estimate(log_z, error)}}


def with_bridge(**changes):
    return {"point": Point(dataclasses.replace(POINT.bridge, **changes))}


@pytest.mark.parametrize(
    "drift", [0.0, 0.3], ids=["settled", "drifting"]
)  # what log Z moved by excuses no disagreement
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unsettled": "log Z still moves from one fitted base to the next"}, "still moves from one fitted base"),
        ({"least_acceptance": 0.01}, "hardly accepts"),
        ({"median_log_weight": -4.0}, "half of the forward paths"),
        (with_estimate(Estimator.ANNEALING, 1.7), "annealing and Bennett's ratio differ"),
        (with_estimate(Estimator.MULTISTATE, 1.8), "mix slowly"),
        (with_estimate(Estimator.BENNETT_EARLY, 1.8), "mixed a quarter as long"),
        (with_estimate(Estimator.LOWER, 2.4), "lower bound lies above"),
        (with_estimate(Estimator.IMPORTANCE, 2.3), "importance sampling from the reference finds 0.3 nats more"),
        (with_estimate(Estimator.NOISE, 2.3), "annealing along the noise levels finds 0.3 nats more"),
        (with_bridge(asymptotic_error=0.6), "the standard error is"),
        (tails(missing=0.2), "moved along coordinate 3 find 0.2 of the mass"),
        (tails(Integrability.UNDECIDED), "cannot be decided"),
    ],
)
def test_an_unreliable_sandwich_names_its_reason_alone(changes, words, drift):
    evidence = dataclasses.replace(FAULTLESS, **changes)
    evidence = dataclasses.replace(evidence, point=Point(evidence.point.bridge, drift))
    found = verdict(evidence)
    assert found.verdict is Verdict.UNRELIABLE
    reasons, _ = found.advice.split(": use more particles, more transitions")
    assert words in reasons
    assert "; " not in reasons


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"point": Point(POINT.bridge, drift=0.06)}, "may move on"),
        ({"rounding": 0.2}, "rounded by 0.2 nats"),
        ({"mixing_shift": Estimate(-0.3, 0.04)}, "not come to rest"),
        ({"annealing_verdict": Verdict.UNRELIABLE}, "standard error"),
        (with_bridge(asymptotic_error=0.2), "standard error 0.2"),
        ({**with_bridge(overlap=0.04), "num_paths": 5000}, "overlap 0.04"),
        (with_estimate(Estimator.MULTISTATE, 2.0, 0.3), "too weak a check"),
    ],
)
def test_a_doubtful_sandwich_names_its_reason(changes, words):
    found = verdict(dataclasses.replace(FAULTLESS, **changes))
    assert found.verdict is Verdict.DOUBTFUL
    assert words in found.advice


@pytest.mark.parametrize("overlap", [0.005, math.nan], ids=["share", "not a number"])
def test_paths_that_hardly_overlap_leave_log_z_unknown(overlap):
    found = verdict(dataclasses.replace(FAULTLESS, **with_bridge(overlap=overlap)))
    assert found.verdict is Verdict.UNKNOWN
    assert "hardly overlap" in found.advice


def test_too_few_paths_for_an_overlap_are_told_from_too_small_an_overlap():
    """At 0.05 of 800 paths 40 are shared, at 0.05 of 1,040 there are 52."""
    found = verdict(dataclasses.replace(FAULTLESS, **with_bridge(overlap=0.05)))
    assert found.verdict is Verdict.UNKNOWN
    assert "800 paths are too few for an overlap of 0.05: use at least 1000" in found.advice
    enough = dataclasses.replace(FAULTLESS, num_paths=1040, **with_bridge(overlap=0.05))
    assert verdict(enough).verdict is Verdict.RELIABLE


def test_what_is_large_is_measured_by_the_tolerance():
    """An error of 0.12 and a movement of 0.06 are little where an interval of half width 0.5 was asked for."""
    rough = dataclasses.replace(POINT.bridge, asymptotic_error=0.12)
    evidence = dataclasses.replace(FAULTLESS, point=Point(rough, drift=0.06))
    assert verdict(evidence).verdict is Verdict.DOUBTFUL
    assert verdict(dataclasses.replace(evidence, tolerance=0.5)).verdict is Verdict.RELIABLE
    assert verdict(dataclasses.replace(FAULTLESS, tolerance=0.001)).verdict is Verdict.UNRELIABLE


@pytest.mark.parametrize("estimator", [Estimator.IMPORTANCE, Estimator.NOISE])
def test_a_further_estimator_that_errs_low_may_lie_below(estimator):
    found = verdict(dataclasses.replace(FAULTLESS, **with_estimate(estimator, 1.5)))
    assert found.verdict is Verdict.RELIABLE


def test_a_faultless_sandwich_is_reliable():
    assert verdict(FAULTLESS).verdict is Verdict.RELIABLE
    assert "annealing, both path directions agree" in verdict(FAULTLESS).advice


@pytest.mark.parametrize(
    ("changes", "expected", "words"),
    [
        ({}, "reliable", "modes at least 1 wide"),
        (checks.RARE, "doubtful", "of the modes or of the mass may be unseen"),
        (checks.MANY, "unknown", "9 of them once"),
        ({"visits": (0.99, 0.01)}, "unreliable", "of the final draws"),
        ({"power": ()}, "doubtful", "the power of the search is not known"),
    ],
)
def test_a_search_for_modes_turns_the_verdict(changes, expected, words):
    search = dataclasses.replace(checks.SEEN, **{"visits": (), **changes})
    found = verdict(dataclasses.replace(FAULTLESS, search=search))
    assert found.verdict == expected
    assert words in found.advice


@pytest.mark.parametrize(("bound", "expected"), [(1.8, "doubtful"), (2.08, "reliable"), (2.4, "unknown")])
def test_starts_are_compared_by_the_bound_as_well(bound, expected):
    from_data = {Estimator.BENNETT_DATA: Estimate(1.97, 0.02), Estimator.UPPER_DATA: Estimate(bound, 0.02)}
    evidence = dataclasses.replace(FAULTLESS, estimates=ESTIMATES | from_data)
    assert verdict(evidence).verdict == expected
    assert [gap.agreement.holds for gap in evidence.start_gaps] == [True, expected == "reliable"]
    assert evidence.start_gaps[1].above == pytest.approx(bound - 2.1)


def test_an_infinite_integral_outweighs_every_other_reason():
    found = verdict(dataclasses.replace(FAULTLESS, unsettled="it moves", **tails(Integrability.IMPROPER)))
    assert found.verdict is Verdict.IMPROPER
    assert found.advice.startswith("the integral is infinite: along coordinate 3")


def test_a_little_mass_that_draws_miss_is_doubtful_and_a_reliable_verdict_says_how_far_tails_were_followed():
    assert verdict(dataclasses.replace(FAULTLESS, **tails(missing=0.02))).verdict is Verdict.DOUBTFUL
    found = verdict(dataclasses.replace(FAULTLESS, **tails(missing=0.005)))
    assert found.verdict is Verdict.RELIABLE
    assert found.advice.endswith("tails: along coordinate 3, the slowest, mass beyond r falls as r^-0.5")


def from_data(bound):
    return {
        "estimates": ESTIMATES
        | {Estimator.BENNETT_DATA: Estimate(1.97, 0.02), Estimator.UPPER_DATA: Estimate(bound, 0.02)}
    }


def searched(**changes):
    return {"search": dataclasses.replace(checks.SEEN, **{"visits": (), **changes})}


RINGING = {
    "_overlap_is_too_small": with_bridge(overlap=0.005),
    "_data_lie_in_a_lost_basin": from_data(2.4),
    "_many_modes_are_unseen": searched(**checks.MANY),
    "_annealing_disagrees": with_estimate(Estimator.ANNEALING, 1.7),
    "_paths_are_lost": {"median_log_weight": -4.0},
    "_particles_stand_still": {"least_acceptance": 0.01},
    "_bases_are_unsettled": {"unsettled": "it moves"},
    "_early_draws_disagree": with_estimate(Estimator.BENNETT_EARLY, 1.8),
    "_equilibrium_disagrees": with_estimate(Estimator.MULTISTATE, 1.8),
    "_bounds_are_crossed": with_estimate(Estimator.LOWER, 2.4),
    "_lower_bound_lies_above": with_estimate(Estimator.NOISE, 2.3),
    "_error_is_large": with_bridge(asymptotic_error=0.6),
    "_draws_miss_a_tail": tails(missing=0.2),
    "_integrability_is_undecided": tails(Integrability.UNDECIDED),
    "_a_mode_is_never_visited": searched(visits=(0.99, 0.01)),
    "_values_are_rounded": {"rounding": 0.2},
    "_draws_may_miss_a_tail": tails(missing=0.05),
    "_estimate_is_rough": with_bridge(asymptotic_error=0.2),
    "_log_z_drifts": {"point": Point(POINT.bridge, drift=0.06)},
    "_draws_are_not_at_rest": {"mixing_shift": Estimate(-0.3, 0.04)},
    "_chains_are_slow": from_data(1.8),
    "_checks_are_weak": with_estimate(Estimator.MULTISTATE, 2.0, 0.3),
    "_some_modes_are_unseen": searched(**checks.RARE),
    "_power_is_small": searched(power=()),
}
TUPLES = {"UNKNOWN_CHECKS": "unknown", "UNRELIABLE_CHECKS": "unreliable", "DOUBTFUL_CHECKS": "doubtful"}


@pytest.mark.parametrize("kind", TUPLES)
def test_the_verdict_is_better_without_any_one_of_its_checks(kind, monkeypatch):
    every = getattr(verdict_module, kind)
    for check in every:
        evidence = dataclasses.replace(FAULTLESS, **RINGING[check.__name__])
        assert verdict(evidence).verdict == TUPLES[kind]
        with monkeypatch.context() as dropped:
            dropped.setattr(verdict_module, kind, tuple(other for other in every if other is not check))
            assert verdict(evidence).verdict != TUPLES[kind], check.__name__
