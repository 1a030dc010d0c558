"""Importance resampling from the base against quadrature, with even and with uneven weights."""

import pytest
import torch

from drl_density.samplers import importance, plan_progressive, sample_progressive
from drl_density.samplers.importance import sample_level_zero
from drl_density.testing import GaussianMixtureSequence, assert_z, seeded_generator
from tests.density.tilted import GRID, TiltedSystem

HEIGHTS = (1.0, 4.0)


def moments(system):
    """Means of x, x^2 and x_0 x_1 by quadrature on a grid of spacing 0.05."""
    axis = GRID[::5]
    points = torch.cartesian_prod(axis, axis)
    shares = system.log_density(points).softmax(0)
    return shares @ statistics(points)


def statistics(x):
    return torch.cat([x, x.square(), x.prod(1, keepdim=True)], 1)


@pytest.fixture(scope="module", params=HEIGHTS)
def system(request):
    return TiltedSystem(request.param)


@pytest.fixture(scope="module")
def plan():
    return plan_progressive(TiltedSystem().model, num_pilot=32, generator=seeded_generator(0))


@pytest.mark.parametrize("least", [0.1, 1.1])
def test_draws_have_the_moments_of_the_density(system, plan, monkeypatch, least):
    """Below the limit resampled draws move too; chosen without repeats, they are as good as independent."""
    monkeypatch.setattr(importance, "LEAST_EVEN_EFFICIENCY", least)
    found = sample_level_zero(system.model, 6000, plan=plan, generator=seeded_generator(1))
    values = statistics(found.draws.double())
    assert_z(values, moments(system))
    with pytest.raises(AssertionError, match="beyond"):
        assert_z(values, moments(TiltedSystem(0.0)))
    assert found.stats["acceptance_rate"].shape == ((1 if least < 1 else 2), 6000)
    assert 0 < float(found.stats["efficiency"].mean()) < 1
    assert len(found.draws.unique(dim=0)) > 5700


def test_moves_keep_exact_draws_exact(system, plan):
    exact = system.sample(6000, 0, generator=seeded_generator(2))
    moved, _ = importance._moved(system.model, exact, plan.final_step_size, seeded_generator(3))
    assert_z(statistics(moved), moments(system))
    assert not torch.equal(moved, exact)


def test_equal_seeds_give_equal_draws_and_blocks_are_drawn_apart(system, plan, monkeypatch):
    one, same, other = (
        sample_level_zero(system.model, 40, plan=plan, generator=seeded_generator(seed)).draws for seed in (4, 4, 5)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    monkeypatch.setattr(importance, "MOST_NUMBERS", 100)
    found = sample_level_zero(system.model, 40, plan=plan, generator=seeded_generator(4))
    assert found.draws.shape == (40, 2)
    assert found.stats["efficiency"].shape == (1, 40)


def test_other_sequences_and_poor_weights_keep_the_progressive_sampler(system, plan, monkeypatch):
    model = GaussianMixtureSequence.example().model
    own = plan_progressive(model, num_pilot=16, generator=seeded_generator(0))
    found, usual = (
        sampler(model, 3, plan=own, generator=seeded_generator(6))
        for sampler in (sample_level_zero, sample_progressive)
    )
    assert torch.equal(found.draws, usual.draws)
    monkeypatch.setattr(importance, "LEAST_EFFICIENCY", 1.1)
    assert set(sample_level_zero(system.model, 3, plan=plan).stats) == {"acceptance_rate", "step_size"}
