"""How closely estimates have to agree."""

import pytest

from drl_density.partition_function.two_sided.estimates import Estimator
from drl_density.partition_function.two_sided.evidence import SLOW_CHAINS, agreement, start_gaps
from drl_density.weights import Estimate


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


def test_gaps_have_a_sign_and_compare_like_with_like():
    estimates = {
        Estimator.UPPER_NOISE: Estimate(5.0, 0.0),
        Estimator.UPPER_DATA: Estimate(4.0, 0.0),
        Estimator.BENNETT_DATA: Estimate(2.0, 0.0),
    }
    point, bound = start_gaps(estimates, Estimate(1.0, 0.0))
    assert (point.above, bound.above) == (1.0, -1.0)
    assert start_gaps({Estimator.UPPER_NOISE: Estimate(5.0, 0.0)}, Estimate(1.0, 0.0)) == ()
