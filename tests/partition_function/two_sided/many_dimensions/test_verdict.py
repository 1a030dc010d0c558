"""Every check of the verdict, one piece of evidence changed at a time."""

import dataclasses
import re

import pytest

from drl_density.errors import Verdict
from drl_density.partition_function.bridge import ReplicatedBridge
from drl_density.partition_function.sequence_paths.segments import SegmentGaps
from drl_density.partition_function.two_sided.estimates import Estimator
from drl_density.partition_function.two_sided.many_dimensions.verdict import PathEvidence, verdict
from drl_density.partition_function.two_sided.margins import Point
from drl_density.weights import Estimate


def point(error=0.05, overlap=0.5):
    """A point at 0."""
    return Point(ReplicatedBridge(0.0, error, error, overlap, 8))


ESTIMATES = {
    Estimator.RESAMPLED: Estimate(-0.05, 0.1),
    Estimator.CONDITIONAL: Estimate(0.05, 0.1),
    Estimator.BENNETT_RESAMPLED: Estimate(0.02, 0.08),
    Estimator.UPPER_NOISE: Estimate(1.0, 0.1),
    Estimator.NOISE: Estimate(-40.0, 3.0),
    Estimator.UPPER_DATA: Estimate(1.1, 0.1),
    Estimator.BENNETT_DATA: Estimate(0.03, 0.05),
}
NO_DATA_POINT = {name: value for name, value in ESTIMATES.items() if name is not Estimator.BENNETT_DATA}
SOUND = PathEvidence(
    estimates=ESTIMATES,
    point=point(),
    num_paths=256,
    num_replicates=8,
    acceptance=0.57,
    tolerance=0.05,
    gaps=SegmentGaps(((0.0, 1.0),), (1.5,), (0.1,), (0.9,), 64),
)


def estimates(**changes):
    """The sound estimates with some changed, by name."""
    return {**ESTIMATES, **{Estimator[name]: Estimate(*value) for name, value in changes.items()}}


def test_sound_evidence_is_reliable_and_names_the_levels():
    found = verdict(SOUND)
    assert found.verdict is Verdict.RELIABLE
    assert "both kinds of start agree; overlap 0.50" in found.advice
    assert "levels 0 to 1 carry 1.5" in found.advice
    alone = {name: value for name, value in ESTIMATES.items() if "DATA" not in name.name}
    assert "kinds of start" not in verdict(dataclasses.replace(SOUND, estimates=alone)).advice


@pytest.mark.parametrize(
    ("expected", "words", "changes"),
    [
        (Verdict.UNKNOWN, "weigh less than paths from noise", {"point": None}),
        (Verdict.UNKNOWN, "hardly overlap", {"point": point(overlap=0.009)}),
        (Verdict.UNKNOWN, "use at least 500", {"point": point(overlap=0.1)}),
        (Verdict.UNKNOWN, "no path from noise reaches", {"estimates": estimates(BENNETT_DATA=(0.5, 0.05))}),
        (Verdict.UNKNOWN, "no path from noise reaches", {"estimates": estimates(UPPER_DATA=(2.0, 0.1))}),
        (
            Verdict.UNRELIABLE,
            "resampled particles .* finds 1 nats more",
            {"estimates": estimates(RESAMPLED=(1.0, 0.1))},
        ),
        (Verdict.UNRELIABLE, "annealing .* finds 9 nats more", {"estimates": estimates(NOISE=(9.0, 1.0))}),
        (Verdict.UNRELIABLE, "importance .* finds 2 nats more", {"estimates": estimates(IMPORTANCE=(2.0, 0.1))}),
        (Verdict.UNRELIABLE, "1 nats below Bennett's ratio", {"estimates": estimates(CONDITIONAL=(-1.0, 0.1))}),
        (
            Verdict.UNRELIABLE,
            "lies 1.1 nats above the upper one",
            {"estimates": estimates(RESAMPLED=(0.55, 0.1), CONDITIONAL=(-0.55, 0.1))},
        ),
        (Verdict.UNRELIABLE, "differ by 0.7 nats", {"estimates": estimates(BENNETT_RESAMPLED=(-0.7, 0.08))}),
        (Verdict.UNRELIABLE, "standard error is 0.6", {"point": point(error=0.6)}),
        (Verdict.UNRELIABLE, "have not come to the model's mass", {"estimates": NO_DATA_POINT}),
        (Verdict.UNRELIABLE, "hardly move", {"acceptance": 0.04}),
        (Verdict.DOUBTFUL, "standard error 0.11", {"point": point(error=0.11)}),
        (Verdict.DOUBTFUL, "overlap 0.04", {"point": point(overlap=0.04), "num_paths": 2000}),
        (Verdict.DOUBTFUL, "0.5 nats below", {"estimates": estimates(BENNETT_DATA=(-0.5, 0.05))}),
        (Verdict.DOUBTFUL, "too weak a check", {"estimates": estimates(RESAMPLED=(-0.1, 0.3))}),
        (Verdict.DOUBTFUL, "retained draw .* too weak", {"estimates": estimates(CONDITIONAL=(0.1, 0.3))}),
        (Verdict.DOUBTFUL, r"between \+0 and \+2 nats", {"estimates": estimates(CONDITIONAL=(2.0, 0.1))}),
        (Verdict.DOUBTFUL, r"between -2 and \+0 nats", {"estimates": estimates(RESAMPLED=(-2.0, 0.1))}),
    ],
)
def test_every_check_has_its_verdict(expected, words, changes):
    found = verdict(dataclasses.replace(SOUND, **changes))
    assert found.verdict is expected
    assert re.search(words, found.advice), found.advice


def test_annealing_that_collapsed_is_not_asked_to_agree():
    assert verdict(dataclasses.replace(SOUND, estimates=estimates(NOISE=(-4e5, 0.01)))).verdict is Verdict.RELIABLE


def test_a_wide_tolerance_forgives_errors_in_many_dimensions():
    rough = dataclasses.replace(SOUND, point=point(error=0.5), tolerance=0.27)
    assert verdict(rough).verdict is Verdict.RELIABLE
