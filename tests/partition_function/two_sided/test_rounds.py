"""Bases fitted in turn until log Z stays the same."""

import dataclasses

import pyro.distributions as dist
import pytest
import torch

from drl_density.mcmc import HMC
from drl_density.partition_function.target_bases.defended import DefendedBase
from drl_density.partition_function.target_bases.local_kernel import LocalMALA
from drl_density.partition_function.two_sided.rounds import fit_rounds, flat_base, is_settled, place_route
from drl_density.testing import assert_z, seeded_generator
from drl_density.weights import Estimate
from tests.partition_function.known_answers import SMALL_SANDWICH


def target(x):
    return dist.Normal(torch.ones(2), 0.5).to_event(1).log_prob(x) + 3.0


@pytest.fixture(scope="module")
def fitted():
    return fit_rounds(target, 2, given=None, settings=SMALL_SANDWICH, generator=seeded_generator(0))


def test_rounds_settle_on_the_truth_and_the_base_on_the_target(fitted):
    base, rounds = fitted
    assert rounds.is_settled
    assert 3 <= len(rounds.estimates) < SMALL_SANDWICH.most_rounds
    for found in rounds.estimates[-3:]:
        assert abs(found.log_z - 3.0) < 5 * found.standard_error + 0.01
    draws = base.draw(4000, seeded_generator(1))
    assert isinstance(base, DefendedBase)
    assert float((draws.mean(0) - 1).abs().max()) < 0.1


def test_the_local_kernel_takes_the_place_of_mala_on_a_fitted_base_only(fitted):
    base, _ = fitted
    route = place_route(base, target, SMALL_SANDWICH, generator=seeded_generator(2))
    assert isinstance(route.settings.kernel, LocalMALA)
    assert route.settings.num_transitions == SMALL_SANDWICH.num_transitions // 2
    by_hmc = dataclasses.replace(SMALL_SANDWICH, kernel=HMC(2))
    assert place_route(base, target, by_hmc, generator=seeded_generator(2)).settings is by_hmc
    given = flat_base(dist.Normal(torch.zeros(2), 2.0).to_event(1))
    assert place_route(given, target, SMALL_SANDWICH, generator=seeded_generator(2)).settings is SMALL_SANDWICH


def test_weights_of_a_route_are_unbiased_in_both_directions(fitted):
    base, _ = fitted
    route = place_route(base, target, SMALL_SANDWICH, generator=seeded_generator(3))
    forward = route.downward(40, seeded_generator(4))
    draws = 1 + 0.5 * torch.randn(6, 40, 2, generator=seeded_generator(5))
    reverse = route.upward(draws, seeded_generator(6))
    assert forward.shape == reverse.shape == (6, 40)
    assert_z((forward.flatten() - 3.0).exp(), 1.0)
    assert_z((3.0 - reverse.flatten()).exp(), 1.0)


def test_three_rounds_have_to_agree():
    close = [Estimate(0.0, 0.0), Estimate(0.01, 0.0), Estimate(-0.005, 0.0)]
    assert is_settled(close)
    assert not is_settled(close[:2])
    assert not is_settled([*close[:2], Estimate(0.03, 0.0)])
    assert is_settled([Estimate(9.0, 0.0), *close])


def test_a_flat_base_has_the_density_and_draws_of_its_own():
    base = dist.Normal(torch.zeros(2, 3), 2.0).to_event(2)
    flat = flat_base(base)
    rows = flat.draw(5, seeded_generator(7))
    assert rows.shape == (5, 6)
    assert flat.event_shape == (6,)
    torch.testing.assert_close(flat.log_prob(rows), base.log_prob(rows.reshape(5, 2, 3)))
