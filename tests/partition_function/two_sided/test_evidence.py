"""How closely estimates have to agree."""

import dataclasses

import pytest

from drl_density.errors import Verdict
from drl_density.partition_function.bridge import ReplicatedBridge
from drl_density.partition_function.two_sided.estimates import Estimator
from drl_density.partition_function.two_sided.evidence import SLOW_CHAINS, Evidence, agreement, start_gaps
from drl_density.partition_function.two_sided.margins import Point
from drl_density.weights import Estimate

POINT = Point(ReplicatedBridge(2.0, 0.02, 0.02, overlap=0.9, num_replicates=8))


@pytest.mark.parametrize(("distance", "holds"), [(0.21, True), (0.23, False)])
def test_annealing_may_lie_four_joint_errors_and_two_hundredths_away(distance, holds):
    """Errors of 0.03 and 0.04 make a joint one of 0.05: the limit is 0.22 nats."""
    for sign in (-1, 1):
        found = agreement(Estimator.ANNEALING, Estimate(1.0 + sign * distance, 0.03), Estimate(1.0, 0.04))
        assert found.holds == holds
        assert found.distance == pytest.approx(distance)
        assert found.standard_error == pytest.approx(0.05)


def test_small_gaps_between_starts_are_never_reported():
    close, far = SLOW_CHAINS - 0.01, SLOW_CHAINS + 0.01
    exact = Estimate(0.0, 0.0)
    assert agreement(Estimator.BENNETT_DATA, Estimate(close, 0.0), exact).holds
    assert not agreement(Estimator.BENNETT_DATA, Estimate(far, 0.0), exact).holds


@pytest.mark.parametrize(
    ("shift", "error", "rests"), [(0.04, 0.0, True), (0.06, 0.0, False), (-0.25, 0.04, True), (-0.28, 0.04, False)]
)
def test_draws_are_at_rest_within_the_tolerance_and_chance(shift, error, rests):
    """With 7 degrees of freedom Student's quantile of 0.999 is 5.408: 0.05 + 5.408 * 0.04 = 0.266."""
    evidence = Evidence({}, POINT, Verdict.RELIABLE, 64, 0.0, 0.5, tolerance=0.05, mixing_shift=Estimate(shift, error))
    assert evidence.is_at_rest is rests
    assert dataclasses.replace(evidence, mixing_shift=None).is_at_rest
    assert dataclasses.replace(evidence, tolerance=1.0).is_at_rest


def test_gaps_have_a_sign_and_compare_like_with_like():
    estimates = {
        Estimator.UPPER_NOISE: Estimate(5.0, 0.0),
        Estimator.UPPER_DATA: Estimate(4.0, 0.0),
        Estimator.BENNETT_DATA: Estimate(2.0, 0.0),
    }
    point, bound = start_gaps(estimates, Estimate(1.0, 0.0))
    assert (point.above, bound.above) == (1.0, -1.0)
    assert start_gaps({Estimator.UPPER_NOISE: Estimate(5.0, 0.0)}, Estimate(1.0, 0.0)) == ()
