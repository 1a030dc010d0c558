"""The record of a sandwich from walks whose log Z is known."""

import dataclasses
import math
import warnings

import pyro.distributions as dist
import pytest
import torch

from drl_density import AISSettings, SandwichSettings, geometric_path
from drl_density.errors import UnreliableEstimateWarning, Verdict
from drl_density.partition_function import anneal, plan_annealing
from drl_density.partition_function.equilibrium import EquilibriumEstimates
from drl_density.partition_function.tails.report import Integrability, Tail, TailReport
from drl_density.partition_function.two_sided.estimates import Estimator
from drl_density.partition_function.two_sided.record import (
    assemble,
    bracket,
    bridge,
    missing_paths,
    warn_if_unusable,
)
from drl_density.partition_function.two_sided.walks import Rounds, Route, Walks
from drl_density.records.intervals import normal_quantile
from drl_density.testing import seeded_generator
from drl_density.weights import Estimate
from tests.partition_function.known_answers import normal_weights

LOG_Z = 2.0
SETTINGS = SandwichSettings(num_particles=128, num_replicates=8)


@pytest.fixture(scope="module")
def route():
    base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    path = geometric_path(base, lambda x: base.log_prob(x) + LOG_Z, num_bridges=2)
    plan = plan_annealing(path, AISSettings(num_pilot_particles=64), generator=seeded_generator(0))
    return Route(path, plan, SETTINGS, downward=None, upward=None)


@pytest.fixture(scope="module")
def run(route):
    return anneal(route.path, route.plan, SETTINGS.annealing(), generator=seeded_generator(1))


def walks_of(run, **changes):
    forward, reverse = (rows.reshape(8, 128) for rows in normal_weights(LOG_Z, 0.3, 1024, 0))
    exact = Estimate(LOG_Z, 0.01)
    return Walks(
        **{
            "run": run,
            "forward": forward,
            "reverse": reverse,
            "equilibrium": EquilibriumEstimates(exact, exact, torch.eye(3)),
        }
        | changes
    )


def test_a_faultless_sandwich_is_reliable_and_holds_the_truth(route, run):
    result = assemble(route, walks_of(run))
    assert result.verdict is Verdict.RELIABLE
    assert result.is_reliable
    assert result.bracket[0] < result.lower < LOG_Z < result.upper < result.bracket[1]
    assert result.interval() == (result.lower, result.upper)
    assert result.interval(0.5)[1] - result.interval(0.5)[0] < result.upper - result.lower
    assert result.certificate == pytest.approx(result.annealing.log_z - math.log(20))
    assert result.estimates[Estimator.BENNETT] == Estimate(result.log_z, result.standard_error)
    assert Estimator.BENNETT_DATA not in result.estimates
    assert (result.rounds, result.path.levels) == ((), (0.5, 1.0))
    assert str(result).startswith(f"log Z = {result.log_z:.4f} in [")
    assert f"{result.lower:.4f} to {result.upper:.4f}" in result._repr_html_()
    assert result.draws is None
    assert assemble(route, walks_of(run, draws=torch.zeros(8, 128, 2, 3))).draws.shape == (8, 128, 6)


def test_bounds_are_mean_log_weights_with_the_spread_of_replicates(run):
    walks = walks_of(run)
    found = bracket(walks)
    by_replicate = walks.forward.mean(1)
    assert found.lower.log_z == pytest.approx(float(walks.forward.mean()))
    assert found.lower.standard_error == pytest.approx(float(by_replicate.std()) / math.sqrt(8))
    assert found.ends()[1] == pytest.approx(
        float(walks.reverse.mean()) + normal_quantile() * float(walks.reverse.mean(1).std()) / math.sqrt(8)
    )


def test_one_lost_path_does_not_drag_the_lower_bound_of_a_fitted_base_down(route, run):
    """Mean weights of 16 paths stand for single ones, so that one path of weight 0 costs log(16 / 15) of one of them."""
    rounds = Rounds((Estimate(LOG_Z, 0.01),) * 3)
    walks = walks_of(run, rounds=rounds, reverse_early=walks_of(run).reverse)
    forward = walks.forward.clone()
    forward[0, 0] = -1e9
    lost = bracket(dataclasses.replace(walks, forward=forward))
    assert lost.lower.log_z == pytest.approx(bracket(walks).lower.log_z, abs=0.01)
    assert bracket(dataclasses.replace(walks, forward=forward, rounds=None)).lower.log_z < -1e5


def test_paths_behind_a_wall_leave_finite_bounds(route, run):
    """Half of the forward paths die, so that the others weigh twice as much; the same for the inverse weights."""
    walks, half = walks_of(run), math.log(2)
    forward, reverse = walks.forward + half, walks.reverse - half
    forward[:, ::2], reverse[:, ::2] = -math.inf, math.inf
    found = bracket(dataclasses.replace(walks, forward=forward))
    assert found.lower.log_z == pytest.approx(bracket(walks).lower.log_z, abs=0.05)
    found = bracket(dataclasses.replace(walks, reverse=reverse))
    assert found.upper.log_z == pytest.approx(bracket(walks).upper.log_z, abs=0.05)
    whole = assemble(route, dataclasses.replace(walks, forward=forward))
    assert "lost" not in whole.advice


def test_what_log_z_moved_since_the_last_base_is_part_of_its_error(route, run):
    rounds = Rounds((Estimate(LOG_Z, 0.01), Estimate(LOG_Z - 1.0, 0.01), Estimate(LOG_Z, 0.01)))
    walks = walks_of(run, rounds=rounds, reverse_early=walks_of(run).reverse)
    point = bridge(walks)
    assert point.drift == pytest.approx(1.0, abs=0.1)
    result = assemble(route, walks)
    assert result.standard_error == pytest.approx(math.hypot(point.bridge.standard_error, point.drift))
    assert result.rounds == rounds.estimates
    assert bridge(walks_of(run)).drift == 0.0


def test_what_log_z_moves_as_draws_mix_is_part_of_its_error(run):
    """Draws that mixed a quarter as long have reverse weights one nat higher; the rounds of bases agree."""
    walks = walks_of(run)
    rounds = Rounds((Estimate(bridge(walks).log_z, 0.01),) * 3)
    early = bridge(walks_of(run, reverse=walks.reverse + 1.0)).log_z
    point = bridge(walks_of(run, rounds=rounds, reverse_early=walks.reverse + 1.0))
    assert point.log_z == bridge(walks).log_z
    assert point.drift == pytest.approx(early - point.log_z, rel=0.05)
    assert point.drift > 0.3


def test_missing_paths_follow_the_width_and_the_overlap(run):
    walks = walks_of(run)
    half_width = bridge(walks).bridge.half_width()
    assert missing_paths(walks, half_width + 1e-9) == 0
    assert missing_paths(walks, half_width / 2) == pytest.approx((1.1 * 4 - 1) * 1024, abs=1)
    assert (
        missing_paths(walks_of(run, forward=walks.forward + 1.0, reverse=walks.reverse + 1.0), half_width + 1e-9) == 0
    )
    far = [rows.reshape(8, 128) for rows in normal_weights(LOG_Z, 4.6, 1024, 0)]
    overlap = bridge(walks_of(run, forward=far[0], reverse=far[1])).bridge.overlap
    assert overlap * 1024 < 50
    assert missing_paths(walks_of(run, forward=far[0], reverse=far[1]), 100.0) == pytest.approx(
        50 / overlap - 1024, abs=1
    )


def test_the_record_says_why_an_interval_is_wider_than_was_asked(route, run):
    rounds = Rounds((Estimate(LOG_Z, 0.01),) * 3)
    strict = dataclasses.replace(route, settings=dataclasses.replace(SETTINGS, tolerance=0.015))
    walks = walks_of(run, rounds=rounds, reverse_early=walks_of(run).reverse)
    found = assemble(strict, walks, seconds=2.0)
    assert not found.precision.is_reached
    assert found.precision.half_width == pytest.approx((found.upper - found.lower) / 2)
    assert found.precision.num_paths == 1024
    assert f"about {found.precision.needed_paths} paths in each direction" in found.advice
    assert found.precision.needed_seconds == pytest.approx(2.0 * found.precision.needed_paths / 1024)
    assert "half width" not in assemble(route, walks).advice
    assert "half width" not in assemble(strict, walks_of(run)).advice  # a sequence takes the paths that it is given


def test_draws_from_data_that_lie_above_leave_log_z_unknown(route, run):
    shifted = walks_of(run).reverse + 1.0
    result = assemble(route, walks_of(run, reverse_from_data=shifted))
    assert result.verdict is Verdict.UNKNOWN
    assert (result.lower, result.upper) == (-math.inf, math.inf)
    assert torch.equal(result.reverse_from_data, shifted)


def test_only_an_unusable_sandwich_warns_and_only_when_its_caller_asks(route, run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_unusable(assemble(route, walks_of(run)))
        unknown = assemble(route, walks_of(run, reverse_from_data=walks_of(run).reverse + 1.0))
    with pytest.warns(UnreliableEstimateWarning, match="is unknown") as caught:
        assert warn_if_unusable(unknown) is unknown
    assert len(caught) == 1


def test_an_improper_target_has_no_number(route, run):
    tail = Tail("coordinate 0", is_stretch=True, exponents=(0.0,), steps=170.0, missing=0.0, beyond=0.0)
    rounds = Rounds((Estimate(LOG_Z, 0.01),) * 3)
    walks = walks_of(run, rounds=rounds, reverse_early=walks_of(run).reverse)
    asked = dataclasses.replace(route, settings=dataclasses.replace(SETTINGS, tolerance=1e-4))
    assert "half width" in assemble(asked, walks).advice
    result = assemble(asked, dataclasses.replace(walks, tails=TailReport(Integrability.IMPROPER, (tail,), tail)))
    assert result.verdict is Verdict.IMPROPER
    assert "half width" not in result.advice
    assert math.isnan(result.log_z)
    assert math.isnan(result.standard_error)
    assert math.isnan(result.certificate)
    assert (result.lower, result.upper) == result.bracket == result.interval(0.5) == (-math.inf, math.inf)
    assert result.tails.deciding is tail
    with pytest.warns(UnreliableEstimateWarning, match="^log Z is improper: the integral is infinite"):
        warn_if_unusable(result)
