"""Bases fitted in turn until log Z stays the same."""

import dataclasses
import math

import pyro.distributions as dist
import pytest
import torch

from drl_density.distributions.energy import EnergyDistribution
from drl_density.mcmc import HMC
from drl_density.partition_function.bridge import ReplicatedBridge, bridged
from drl_density.partition_function.mode_search.components import ComponentBase
from drl_density.partition_function.mode_search.shape import Shape
from drl_density.partition_function.target_bases.defended import DefendedBase
from drl_density.partition_function.target_bases.local_kernel import LocalMALA
from drl_density.partition_function.targets.coordinates import Coordinates
from drl_density.partition_function.targets.flat_base import flat_base
from drl_density.partition_function.targets.prepare import prepare_target
from drl_density.partition_function.two_sided import rounds as rounds_module
from drl_density.partition_function.two_sided.rounds import fit_rounds, is_easy, movement, place_route
from drl_density.testing import assert_z, seeded_generator
from drl_density.weights import Estimate
from tests.partition_function.known_answers import SMALL_SANDWICH


def target(x):
    return dist.Normal(torch.ones(2), 0.5).to_event(1).log_prob(x) + 3.0


def flat(base):
    return flat_base(base, Coordinates.onto(None, base.event_shape))


@pytest.fixture(scope="module")
def prepared():
    return prepare_target(EnergyDistribution(target, (2,)), generator=seeded_generator(0))


@pytest.fixture(scope="module")
def found(prepared):
    route, rounds = fit_rounds(prepared, SMALL_SANDWICH, generator=seeded_generator(0))
    return route, dataclasses.replace(rounds, estimates=tuple(e.shifted(prepared.offset) for e in rounds.estimates))


@pytest.fixture(scope="module")
def base(found):
    return found[0].path.base


def test_an_easy_target_settles_in_two_rounds_on_the_truth_and_the_base_on_the_target(found, base):
    route, rounds = found
    assert rounds.unsettled is None
    assert len(rounds.estimates) == 2
    for estimate in rounds.estimates:
        assert_z(estimate.log_z, 3.0, estimate.standard_error)
    assert isinstance(base, DefendedBase)
    assert float((base.draw(4000, seeded_generator(1)).mean(0) - 1).abs().max()) < 0.1
    assert isinstance(route.settings.kernel, LocalMALA)
    assert route.settings.num_particles == SMALL_SANDWICH.num_particles


def test_the_local_kernel_takes_the_place_of_mala_on_a_fitted_base_only(base):
    route = place_route(base, target, SMALL_SANDWICH, generator=seeded_generator(2))
    assert isinstance(route.settings.kernel, LocalMALA)
    assert route.settings.num_transitions == SMALL_SANDWICH.num_transitions // 2
    by_hmc = dataclasses.replace(SMALL_SANDWICH, kernel=HMC(2))
    assert place_route(base, target, by_hmc, generator=seeded_generator(2)).settings is by_hmc
    given = flat(dist.Normal(torch.zeros(2), 2.0).to_event(1))
    assert place_route(given, target, SMALL_SANDWICH, generator=seeded_generator(2)).settings is SMALL_SANDWICH


def test_weights_of_a_route_are_unbiased_in_both_directions(base):
    route = place_route(base, target, SMALL_SANDWICH, generator=seeded_generator(3))
    forward = route.downward(40, seeded_generator(4))
    draws = 1 + 0.5 * torch.randn(6, 40, 2, generator=seeded_generator(5), dtype=torch.float64)
    reverse = route.upward(draws, seeded_generator(6))
    assert forward.shape == reverse.shape == (6, 40)
    assert_z((forward.flatten() - 3.0).exp(), 1.0)
    assert_z((3.0 - reverse.flatten()).exp(), 1.0)


def rounds_at(*values, error=0.005):
    return [Estimate(value, error) for value in values]


@pytest.mark.parametrize(
    ("estimates", "reason"),
    [
        (rounds_at(0.0, 0.01, -0.005), None),
        (rounds_at(9.0, 0.0, 0.01, -0.005), None),
        (rounds_at(0.0, 0.01), "only 2 rounds"),
        (rounds_at(0.0, 0.0, 0.03), "log Z still moves"),
        (rounds_at(0.03, 0.0, 0.0), "log Z still moves"),
        (rounds_at(0.0, 0.004, 0.008, 0.011, error=0.001), "log Z still moves"),
        (rounds_at(0.0, 0.0, 0.0, error=0.022), "known within 0.031 nats, where 0.03 would show"),
        (rounds_at(-2.66, -2.96, -2.82, error=0.3), "known within 0.42 nats"),
        (rounds_at(0.0, 0.0, 0.03, error=0.016), "may still move by more than the tolerance"),
    ],
)
def test_settled_rounds_agree_and_would_have_shown_a_movement(estimates, reason):
    said = movement(estimates, 0.05)
    assert said is None if reason is None else reason in str(said)


def test_a_movement_is_measured_by_the_tolerance():
    rough = rounds_at(-2.66, -2.96, -2.82, error=0.3)
    assert movement(rough, 1.0) is None
    assert movement(rounds_at(0.0, 0.01, -0.005), 0.005) is not None


@pytest.mark.parametrize(
    ("overlap", "error", "pilot", "easy"),
    [(0.9, 0.01, 0.0, True), (0.5, 0.01, 0.0, False), (0.9, 0.03, 0.0, False), (0.9, 0.01, 0.5, False)],
)
def test_a_target_is_easy_where_overlap_error_and_pilot_say_so(overlap, error, pilot, easy):
    bridge = ReplicatedBridge(0.0, error, 0.0, overlap, 8)
    assert is_easy(bridge, Estimate(pilot, 0.05), 0.05) is easy


def test_a_target_that_is_not_easy_takes_three_rounds_that_grow(prepared, monkeypatch):
    sizes = []

    def seen(*given, **named):
        sizes.append(given[2].num_particles)
        return place_route(*given, **named)

    monkeypatch.setattr(rounds_module, "place_route", seen)
    monkeypatch.setattr(rounds_module, "is_easy", lambda *given: False)
    small = dataclasses.replace(SMALL_SANDWICH, num_particles=600, tolerance=0.2)
    _, rounds = fit_rounds(prepared, small, generator=seeded_generator(0))
    assert len(rounds.estimates) >= 3
    assert sizes[:4] == [150, 150, 300, 600]


def test_a_round_without_a_ratio_leaves_log_z_unsettled(prepared, monkeypatch):
    """Draws of a poor base can put both directions in the wrong order; the next round goes on from them."""
    calls = []

    def refused_once(*given):
        calls.append(len(calls))
        return None if len(calls) == 1 else bridged(*given)

    monkeypatch.setattr(rounds_module, "bridged", refused_once)
    _, rounds = fit_rounds(prepared, SMALL_SANDWICH, generator=seeded_generator(0))
    assert rounds.estimates[0].standard_error == math.inf
    assert rounds.unsettled is None
    assert len(rounds.estimates) >= 4


def test_a_kept_base_that_fits_needs_no_further_base(prepared, monkeypatch):
    shapes = [Shape(torch.zeros(2).double(), 0.0, 0.5 * torch.eye(2).double(), 2 * torch.eye(2).double())]
    shapes[0] = dataclasses.replace(shapes[0], center=prepared.coordinates.to_flat(torch.ones(1, 2))[0])
    good = ComponentBase(shapes, torch.tensor([[0.9], [0.1]]))
    monkeypatch.setattr(rounds_module, "place_route", seen := Counted(place_route))
    route, rounds = fit_rounds(prepared, SMALL_SANDWICH, kept=good, generator=seeded_generator(0))
    assert seen.count == 1
    assert rounds.unsettled is None
    assert route.path.base.parts[0] is good
    for estimate in rounds.estimates:
        assert_z(estimate.log_z + prepared.offset, 3.0, estimate.standard_error)
    poor = ComponentBase([dataclasses.replace(shapes[0], center=shapes[0].center + 4)], torch.tensor([[0.9], [0.1]]))
    fit_rounds(prepared, SMALL_SANDWICH, kept=poor, generator=seeded_generator(0))
    assert seen.count > 2


class Counted:
    def __init__(self, function):
        self.function, self.count = function, 0

    def __call__(self, *given, **named):
        self.count += 1
        return self.function(*given, **named)
