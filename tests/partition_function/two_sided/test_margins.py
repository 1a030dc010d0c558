"""Intervals of log Z hold what is in doubt, for any probability."""

import math

import pytest
from scipy import stats

from drl_density.errors import Verdict
from drl_density.partition_function.bridge import ReplicatedBridge
from drl_density.partition_function.two_sided.margins import Bracket, Margins, Point, Precision
from drl_density.records.intervals import normal_quantile
from drl_density.weights import Estimate


def point(log_z, error, drift=0.0):
    return Point(ReplicatedBridge(log_z, 0.0, error, overlap=1.0, num_replicates=8), drift)


BRACKET = Bracket(Estimate(-1.0, 0.5), Estimate(2.0, 0.25))


@pytest.mark.parametrize("probability", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(
    ("verdict", "starts_differ", "ends"),
    [
        (Verdict.RELIABLE, False, [(0.0, -0.1), (0.0, 0.1)]),
        (Verdict.DOUBTFUL, False, [(0.0, -0.1), (0.0, 0.1)]),
        (Verdict.DOUBTFUL, True, [(0.0, -0.1), (0.0, 0.1), (-0.3, -0.2), (-0.3, 0.2)]),
        (Verdict.UNRELIABLE, False, [(-1.0, -0.5), (2.0, 0.25)]),
    ],
)
def test_an_interval_holds_what_is_in_doubt(verdict, starts_differ, ends, probability):
    margins = Margins((point(0.0, 0.1), point(-0.3, 0.2)), BRACKET, starts_differ)
    held = [center + normal_quantile(probability) * error for center, error in ends]
    assert margins.interval(verdict, probability) == pytest.approx((min(held), max(held)))


@pytest.mark.parametrize("verdict", [Verdict.UNKNOWN, Verdict.IMPROPER])
def test_without_a_log_z_every_number_is_in_the_interval(verdict):
    margins = Margins((point(0.0, 0.1),), BRACKET, starts_differ=False)
    assert margins.interval(verdict) == (-math.inf, math.inf)


def test_the_drift_widens_the_interval_by_students_quantile():
    quantile = stats.t.ppf(0.975, 7)
    assert point(1.0, 0.3, drift=0.4).half_width() == pytest.approx(math.hypot(0.3 * normal_quantile(), 0.4 * quantile))
    assert point(1.0, 0.3, drift=0.4).standard_error == pytest.approx(0.5)
    assert point(1.0, 0.3, drift=0.4).statistical == Estimate(1.0, 0.3)


def test_precision_tells_what_more_paths_mend_from_what_they_do_not():
    few = Precision(tolerance=0.05, statistical=0.1, drift=0.0, num_paths=1024, seconds=3.0)
    assert few.shortfall is not None
    assert "about 4096 paths in each direction in place of 1024, or 12 seconds" in few.shortfall
    moving = Precision(tolerance=0.05, statistical=0.03, drift=0.2, num_paths=1024, seconds=3.0)
    assert moving.shortfall is not None
    assert "more paths do not mend" in moving.shortfall
    assert moving.needed_paths == 1024
    narrow = Precision(tolerance=0.05, statistical=0.04, drift=0.03, num_paths=1024, seconds=3.0)
    assert (narrow.is_reached, narrow.shortfall) == (True, None)


def test_bounds_move_outwards():
    lower, upper = BRACKET.ends()
    assert (lower, upper) == pytest.approx((-1 - 0.5 * normal_quantile(), 2 + 0.25 * normal_quantile()))
