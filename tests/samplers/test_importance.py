"""The plan of draws of level 0, and those draws against quadrature, with even and with uneven weights."""

import dataclasses

import pytest
import torch

from drl_density import EnergySequence, NoiseSchedule
from drl_density.bases import NoisedGaussianMixture
from drl_density.networks import NoTilt
from drl_density.samplers import importance, plan_level_zero, plan_progressive, sample_level_zero, sample_progressive
from drl_density.samplers.importance import LevelZeroPlan, move_on_level_zero
from drl_density.testing import GaussianMixtureSequence, assert_z, seeded_generator
from tests.density.tilted import GRID, TiltedSystem

HEIGHTS = (1.0, 4.0)
CHAINS = LevelZeroPlan("independence", 0.08, 0.4)
"""A plan with chains, whose figures change the speed of draws and never their density."""


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


@pytest.mark.parametrize("plan", [None, CHAINS], ids=["importance", "independence"])
def test_draws_have_the_moments_of_the_density(system, plan):
    """Resampled draws that chains follow are chosen without repeats, and as good as independent."""
    found = sample_level_zero(system.model, 6000, plan=plan, generator=seeded_generator(1))
    values = statistics(found.draws.double())
    assert_z(values, moments(system))
    with pytest.raises(AssertionError, match="beyond"):
        assert_z(values, moments(TiltedSystem(0.0)))
    assert found.sampler == ("importance" if plan is None else "independence")
    assert found.stats["acceptance_rate"].shape == ((1 if plan is None else 3), 6000)
    assert 0 < float(found.stats["efficiency"].mean()) < 1
    assert len(found.draws.unique(dim=0)) > 5700


@pytest.mark.parametrize("step_size", [None, 0.4])
def test_chains_keep_exact_draws_exact(system, step_size):
    exact = system.sample(6000, 0, generator=seeded_generator(2))
    plan = dataclasses.replace(CHAINS, step_size=step_size)
    moved, rates = move_on_level_zero(system.model, exact, plan=plan, generator=seeded_generator(3))
    assert_z(statistics(moved), moments(system))
    assert rates.shape == (1 if step_size is None else 2, 6000)
    assert 0 < float(rates.mean()) < 1
    # About 28 proposals with an acceptance of at least a tenth leave 5 % of the chains where they were, at most.
    assert float((moved == exact).all(1).double().mean()) < 0.06


def test_chains_cross_to_other_modes(system):
    """All chains start in one of two modes, which Langevin steps do not leave, and end in both with the right shares."""
    start = torch.tensor([[-1.2, 0.3]], dtype=torch.float64).repeat(6000, 1)
    plan = LevelZeroPlan("independence", 0.02, 0.1)
    moved, _ = move_on_level_zero(system.model, start, plan=plan, generator=seeded_generator(4))
    assert_z(statistics(moved), moments(system))


def test_equal_seeds_give_equal_draws_and_blocks_are_drawn_apart(system, monkeypatch):
    one, same, other = (
        sample_level_zero(system.model, 40, generator=seeded_generator(seed)).draws for seed in (4, 4, 5)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    monkeypatch.setattr(importance, "MOST_NUMBERS", 400)
    found = sample_level_zero(system.model, 40, plan=CHAINS, generator=seeded_generator(4))
    assert found.draws.shape == (40, 2)
    assert found.stats["efficiency"].shape == (1, 40)


def test_draws_come_in_an_order_of_chance(system, monkeypatch):
    """Also where the proposals do not: neighbours among draws are no nearer than others."""
    made = importance.base_draws
    monkeypatch.setattr(importance, "base_draws", lambda *given: (x := made(*given))[x[:, 0].argsort()])
    x = sample_level_zero(system.model, 2000, generator=seeded_generator(1)).draws[:, 0].double()
    x = x - x.mean()
    assert_z(x[1:] * x[:-1], 0.0)


def test_the_efficiency_decides(system, monkeypatch):
    plan = plan_level_zero(system.model, generator=seeded_generator(5))
    assert plan.method == "importance"
    assert 0.1 < plan.efficiency < 1
    assert plan.progressive is plan.step_size is None
    monkeypatch.setattr(importance, "LEAST_EVEN_EFFICIENCY", 1.1)
    chains = plan_level_zero(system.model, generator=seeded_generator(5))
    assert (chains.method, chains.efficiency) == ("independence", plan.efficiency)
    assert "chains with independent proposals" in chains.describe()
    draws = system.sample(1000, 0, generator=seeded_generator(6))
    _, rates = move_on_level_zero(system.model, draws, plan=chains, generator=seeded_generator(7))
    assert abs(float(rates[1].mean()) - 0.574) < 0.1  # tuned to within the noise of 40 steps
    monkeypatch.setattr(importance, "LEAST_EFFICIENCY", 1.1)
    poor = plan_level_zero(system.model, generator=seeded_generator(5), num_pilot=16)
    assert (poor.method, poor.efficiency) == ("progressive", plan.efficiency)
    assert set(sample_level_zero(system.model, 3, plan=poor).stats) == {"acceptance_rate", "step_size"}


def test_other_sequences_have_the_progressive_sampler():
    model = GaussianMixtureSequence.example().model
    plan = plan_level_zero(model, num_pilot=16, generator=seeded_generator(0))
    assert plan.progressive == plan_progressive(model, num_pilot=16, generator=seeded_generator(0))
    assert plan.efficiency is None
    found = sample_level_zero(model, 3, plan=plan, generator=seeded_generator(6))
    usual = sample_progressive(model, 3, plan=plan.progressive, generator=seeded_generator(6))
    assert torch.equal(found.draws, usual.draws)
    assert found.sampler == "progressive"
    moved, rates = move_on_level_zero(model, usual.draws, plan=plan, generator=seeded_generator(7))
    assert moved.shape == usual.draws.shape
    assert rates.shape == (1, 3)
    with pytest.raises(ValueError, match="method"):
        LevelZeroPlan("gan")


class CountedBase(NoisedGaussianMixture):
    """A Gaussian of standard deviation 3 that counts its draws."""

    drawn = 0

    def sample(self, num_samples, *, generator=None):
        self.drawn += num_samples
        return super().sample(num_samples, generator=generator)


def test_without_a_network_as_many_draws_of_the_base_are_made_as_asked_for():
    base = CountedBase(torch.ones(1), torch.zeros(1, 2), 9 * torch.eye(2)[None])
    base.sample_at = lambda log_snr, count, *, generator=None, draw=None: base.sample(count, generator=generator)
    model = EnergySequence(NoiseSchedule.log_spaced(3), NoTilt(), (2,), base=base)
    plan = plan_level_zero(model)
    assert (plan, base.drawn) == (LevelZeroPlan("base", 1.0), 0)
    # Plans that were saved with older fits of a reference alone mean the same draws.
    for place, earlier in enumerate((plan, LevelZeroPlan("importance", 1.0), None), 1):
        found = sample_level_zero(model, 7, plan=earlier, generator=seeded_generator(0))
        assert torch.equal(found.draws, base.sample(7, generator=seeded_generator(0)))
        assert base.drawn == 14 * place
    assert found.sampler == "base"
    assert float(found.stats["efficiency"].min()) == 1.0
    moved, rates = move_on_level_zero(model, torch.full((7, 2), 99.0), plan=plan, generator=seeded_generator(0))
    assert torch.equal(moved, found.draws)
    assert rates.tolist() == [[1.0] * 7]
