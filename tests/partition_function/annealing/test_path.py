"""Annealing paths: their ends, their bridges, and the draws of their bases."""

import pyro.distributions as dist
import pytest
import torch

from drl_density import EnergySequence, NoiseSchedule, geometric_path, sequence_path
from drl_density.errors import NumericalError
from drl_density.partition_function.annealing.path import base_draws, bridge, check_integrable
from drl_density.testing import seeded_generator
from tests.partition_function.known_answers import SYSTEM

BASE = dist.Normal(torch.zeros(2), 1.5).to_event(1)


def target(x):
    return -2 * x.square().sum(-1)


def test_bridges_are_geometric_means_of_base_and_target():
    x = torch.tensor([[0.3, -1.0]])
    between = bridge(BASE, target, 0.25)(x)
    torch.testing.assert_close(between, 0.75 * BASE.log_prob(x) + 0.25 * target(x))
    assert bridge(BASE, target, 1.0) is target
    path = geometric_path(BASE, target, num_bridges=4)
    torch.testing.assert_close(path.log_densities[0](x), between)
    assert path.levels == (0.25, 0.5, 0.75, 1.0)


def test_a_path_along_a_sequence_ends_at_the_level_asked_for():
    path = sequence_path(SYSTEM.model, level=1.5, steps_per_level=3)
    x = SYSTEM.sample(5, 1.5, generator=seeded_generator(0))
    torch.testing.assert_close(path.log_densities[-1](x), SYSTEM.model.log_density(x, 1.5))
    assert path.levels[0] == 6.0
    assert path.levels[-1] == 1.5
    assert len(path.levels) == 15  # 4.5 levels of 3 steps, rounded up, and both ends


def test_draws_of_a_base_follow_the_generator_and_leave_torchs_own_alone():
    draw = base_draws(BASE)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first, second = (draw(4, seeded_generator(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.rand(3), expected)


def test_models_without_a_finite_integral_are_refused():
    model = EnergySequence(NoiseSchedule.log_spaced(2), torch.nn.Linear(2, 1), (2,), has_base=False)
    with pytest.raises(NumericalError, match="improper"):
        check_integrable(model)
