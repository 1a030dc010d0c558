"""Placing of geometric bridges."""

import pyro.distributions as dist
import pytest
import torch

import drl_density as drl
from drl_density.errors import NumericalError
from drl_density.partition_function import place_bridges, plan_annealing
from drl_density.partition_function.annealing.bridges import place_and_plan


def test_bridges_are_placed_where_they_are_needed():
    base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    generator = torch.Generator().manual_seed(0)
    near = place_bridges(
        base, dist.Normal(torch.zeros(2), 0.9).to_event(1).log_prob, drl.AISSettings(), generator=generator
    )
    far = place_bridges(
        base, dist.Normal(torch.ones(2), 0.1).to_event(1).log_prob, drl.AISSettings(), generator=generator
    )
    assert len(near.levels) < len(far.levels)
    assert far.levels[-1] == 1.0
    with pytest.raises(NumericalError, match="placing bridges stopped"):
        place_bridges(
            base, dist.Normal(torch.ones(2), 0.1).to_event(1).log_prob, drl.AISSettings(), most=2, generator=generator
        )


def test_bridges_are_placed_by_the_particles_alive():
    base = dist.Normal(torch.zeros(3), 1.0).to_event(1)

    def corner(x):
        return torch.where((x > 0).all(1), -0.5 * (x / 0.9).square().sum(1), -torch.inf)

    path = place_bridges(base, corner, drl.AISSettings(), generator=torch.Generator().manual_seed(0))
    open_path = place_bridges(
        base,
        lambda x: -0.5 * (x / 0.9).square().sum(1),
        drl.AISSettings(),
        generator=torch.Generator().manual_seed(0),
    )
    assert abs(len(path.levels) - len(open_path.levels)) <= 1
    with pytest.raises(NumericalError, match="with 0 of 256 particles where the target has density"):
        place_bridges(base, lambda x: torch.full((len(x),), -torch.inf), drl.AISSettings())


def test_a_first_step_may_be_shorter_than_rounding_of_one():
    base = dist.Normal(torch.zeros(2).double(), 1.0).to_event(1)
    path = place_bridges(
        base,
        lambda x: -0.5 * ((x - 1) / 1e-7).square().sum(1),
        drl.AISSettings(num_pilot_particles=32),
        share=0.5,
        generator=torch.Generator().manual_seed(0),
    )
    assert 0 < path.levels[0] < 1e-13
    assert path.levels[-1] == 1.0


def test_the_pilot_that_places_bridges_also_plans_the_run_on_them():
    """Its steps and scales are those of a pilot of its own, and far from 1 at the narrow target."""
    base = dist.Normal(torch.zeros(3).double(), 1.0).to_event(1)
    target = dist.Normal(torch.ones(3).double(), 0.1).to_event(1).log_prob
    settings = drl.AISSettings()
    path, plan = place_and_plan(base, target, settings, generator=torch.Generator().manual_seed(0))
    own = plan_annealing(path, settings, generator=torch.Generator().manual_seed(1))
    assert len(plan.step_sizes) == len(plan.scales) == len(plan.acceptance_rates) == len(path.levels)
    ratios = torch.tensor(plan.step_sizes).log() - torch.tensor(own.step_sizes).log()
    assert abs(float(ratios.mean())) < 0.2  # the pilots differ in their numbers of steps by 0.1 or so
    # Standard deviations of 256 particles have an error of 4 %.
    torch.testing.assert_close(plan.scales[-1], torch.full((3,), 0.1).double(), rtol=0.2, atol=0)
    assert 0.4 < min(plan.acceptance_rates[-3:]) <= max(plan.acceptance_rates) < 1
