"""Plans tuned on a discarded pilot."""

import math

import pyro.distributions as dist
import pytest
import torch

from drl_density import AISSettings, geometric_path
from drl_density.errors import NumericalError
from drl_density.partition_function import plan_annealing
from drl_density.partition_function.annealing.plan import spread_or_one
from drl_density.testing import seeded_generator


def test_scales_follow_the_particles_and_acceptance_its_target():
    base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    spreads = torch.tensor([0.1, 2.0])
    path = geometric_path(base, lambda x: -0.5 * (x / spreads).square().sum(-1), num_bridges=20)
    settings = AISSettings(num_pilot_particles=1000, num_transitions=8)
    plan = plan_annealing(path, settings, generator=seeded_generator(0))
    assert len(plan.step_sizes) == len(plan.scales) == len(plan.acceptance_rates) == 20
    # The scale is taken before the particles move on the last density: its first coordinate still lags a little behind.
    torch.testing.assert_close(plan.scales[-1][0], torch.tensor(0.1), rtol=0.15, atol=0)
    rates = torch.tensor(plan.acceptance_rates[5:])
    assert float((rates - settings.kernel.target_acceptance).abs().mean()) < 0.08


def test_equal_seeds_give_equal_plans():
    path = geometric_path(
        dist.Normal(torch.zeros(1), 1.0).to_event(1), lambda x: -2 * x.square().sum(-1), num_bridges=3
    )
    first, second = (
        plan_annealing(path, AISSettings(num_pilot_particles=16), generator=seeded_generator(1)) for _ in range(2)
    )
    assert first.step_sizes == second.step_sizes


def test_a_coordinate_that_does_not_vary_has_scale_one():
    rows = torch.tensor([[0.0, 5.0], [2.0, 5.0]])
    torch.testing.assert_close(spread_or_one(rows), torch.tensor([2**0.5, 1.0]))


def test_scales_are_those_of_the_particles_alive():
    base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    path = geometric_path(base, lambda x: torch.where(x[:, 0].abs() < 0.1, 0.0, -torch.inf) + 0 * x[:, 0], num_bridges=3)
    plan = plan_annealing(path, AISSettings(num_pilot_particles=2000), generator=seeded_generator(0))
    assert max(float(scale) for scale in plan.scales) < 0.1


def test_a_pilot_without_a_particle_in_the_support_is_reported_with_its_density():
    base = dist.Normal(torch.zeros(1), 1.0).to_event(1)
    path = geometric_path(base, lambda x: torch.where(x[:, 0] > 9, 0.0, -math.inf) - x[:, 0], num_bridges=4)
    with pytest.raises(NumericalError, match="every particle of the pilot lost its weight at density 0 of the path"):
        plan_annealing(path, AISSettings(num_pilot_particles=16), generator=seeded_generator(0))
