"""Walks in both directions, with a route whose weights are known."""

import dataclasses

import pyro.distributions as dist
import pytest
import torch

from drl_density import AISSettings, SandwichSettings, geometric_path
from drl_density.partition_function import anneal, plan_annealing
from drl_density.partition_function.two_sided.walks import Rounds, Route, end_draws, take_walks
from drl_density.testing import assert_z, seeded_generator
from drl_density.weights import Estimate

SETTINGS = SandwichSettings(num_particles=64, num_replicates=4, num_transitions=2, num_mixing_steps=3, num_kept=4)


@pytest.fixture(scope="module")
def route():
    """N(0, 1) to N(1, 0.5^2); the "weights" of upward walks are the draws' own first coordinate."""
    base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    target = dist.Normal(torch.ones(1), 0.5).to_event(1)
    path = geometric_path(base, target.log_prob, num_bridges=8)
    plan = plan_annealing(path, SETTINGS.annealing(), generator=seeded_generator(0))
    return Route(
        path,
        plan,
        SETTINGS,
        downward=lambda num_particles, generator: torch.zeros(4, num_particles, dtype=torch.float64),
        upward=lambda draws, generator: draws[..., 0].double(),
    )


def test_draws_begin_at_the_base_and_at_data_and_mix_on_for_targets_without_levels(route):
    data = torch.full((10, 1), 50.0)  # 98 spreads away: three steps swing to the other side and do not come to rest
    rounds = Rounds((Estimate(0.0, 0.1),) * 3)
    walks = take_walks(route, data=data, rounds=rounds, generator=seeded_generator(1))
    assert walks.forward.shape == walks.reverse.shape == (4, 64)
    assert_z(walks.reverse.flatten(), 1.0)
    assert_z(walks.reverse_early.flatten(), 1.0)
    assert not torch.equal(walks.reverse, walks.reverse_early)
    assert float((walks.reverse_from_data - 1.0).abs().min()) > 10
    assert walks.rounds is rounds
    assert torch.equal(walks.draws[..., 0].double(), walks.reverse)  # the draws that the reverse paths began at
    plain = take_walks(route, generator=seeded_generator(1))
    assert plain.reverse_early is None
    assert plain.reverse_from_data is None


def test_pooled_walks_hold_the_replicates_of_both(route):
    rounds = Rounds((Estimate(0.0, 0.1),) * 3)
    data = torch.ones(10, 1)
    first = take_walks(route, data=data, rounds=rounds, generator=seeded_generator(1))
    both = take_walks(route, data=data, rounds=rounds, earlier=first, generator=seeded_generator(2))
    for name in ("forward", "reverse", "reverse_early", "reverse_from_data", "draws"):
        assert torch.equal(getattr(both, name)[:4], getattr(first, name))
        assert getattr(both, name).shape[:2] == (8, 64)
    for name in ("log_weights", "particles", "kept"):
        assert torch.equal(getattr(both.run, name)[:4], getattr(first.run, name))
        assert len(getattr(both.run, name)) == 8
    assert both.run.log_z_by_density.shape == both.run.ess_by_density.shape == (8, 8)
    assert not torch.equal(both.run.log_weights[4:], first.run.log_weights)
    assert both.equilibrium is first.equilibrium
    third = take_walks(route, data=data, rounds=rounds, generator=seeded_generator(2))
    for pooled, one, other in zip(
        both.run.acceptance_rates, first.run.acceptance_rates, third.run.acceptance_rates, strict=True
    ):
        assert pooled == pytest.approx((one + other) / 2)


def test_progress_is_reported_once_for_every_density_and_stage(route):
    stages = []
    take_walks(route, generator=seeded_generator(1), watch=lambda progress: stages.append(progress.stage))
    assert stages == ["annealing"] * 8 + ["paths in both directions"]


def test_particles_are_resampled_within_their_replicate(route):
    settings = AISSettings(num_particles=8, num_replicates=2, num_pilot_particles=8)
    run = anneal(route.path, route.plan, settings, generator=seeded_generator(2))
    weights = torch.full((2, 8), -torch.inf, dtype=torch.float64)
    weights[0, 3] = weights[1, 5] = 0.0
    found = end_draws(dataclasses.replace(run, log_weights=weights), generator=seeded_generator(3))
    assert torch.equal(found[0], run.particles[0, 3].expand(8, 1))
    assert torch.equal(found[1], run.particles[1, 5].expand(8, 1))
