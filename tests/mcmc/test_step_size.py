"""Step-size rules and the tuner that applies them."""

import math

import pytest
import torch

from drl_density.mcmc import (
    MALA,
    DualAveraging,
    Recording,
    RobbinsMonro,
    Tuner,
    run_chain,
)
from drl_density.testing import seeded_generator
from tests.mcmc.targets import KERNELS, normal

ADJUSTED = [name for name in KERNELS if name != "ULA"]


@pytest.fixture(params=KERNELS, ids=list(KERNELS))
def kernel(request):
    return KERNELS[request.param]()


@pytest.mark.parametrize("name", ["MALA", "HMC1"])
def test_adaptation_reaches_its_target_and_freezes(name):
    kernel = KERNELS[name]()
    sizes = []
    result = run_chain(
        kernel,
        normal,
        torch.randn(400, 40, generator=seeded_generator(15), dtype=torch.float64),
        num_steps=100,
        step_size=0.05,
        num_warmup=200,
        adaptation=DualAveraging(kernel.target_acceptance),
        recording=Recording(keep_draws=False, on_step=lambda step: sizes.append(step.index)),
        generator=seeded_generator(13),
    )
    assert len(sizes) == 300
    assert bool((result.stats["step_size"] == result.stats["step_size"][0, 0]).all())
    # Dual averaging ends within a few per cent of its target; 0.06 is four times the spread seen over 20 seeds.
    assert abs(float(result.stats["acceptance_rate"].mean()) - kernel.target_acceptance) < 0.06


def test_groups_adapt_apart():
    """Two groups of chains on densities of scales 1 and 10 end with step sizes about ten to one."""
    scale = torch.tensor([1.0] * 200 + [10.0] * 200)
    result = run_chain(
        MALA(),
        lambda x: -0.5 * (x / scale[:, None]).square().sum(1),
        torch.zeros(400, 3),
        num_steps=10,
        step_size=1.0,
        num_warmup=300,
        adaptation=DualAveraging(0.574),
        recording=Recording(groups=(scale > 5).long()),
        generator=seeded_generator(14),
    )
    ratio = float(result.step_size[1] / result.step_size[0])
    assert 8 < ratio < 12.5


def test_dual_averaging_is_the_published_recursion():
    """Three updates by hand: Hoffman and Gelman 2014, equation 6, with the anchor at twice the start."""
    rule, rates = DualAveraging(0.6, strength=0.1, delay=5.0, decay=0.5), (0.9, 0.2, 0.7)
    state, error, average = rule.init(0.5), 0.0, math.log(0.5)
    for count, rate in enumerate(rates, start=1):
        state = rule.update(state, torch.tensor(rate, dtype=torch.float64))
        error = (1 - 1 / (count + 5.0)) * error + (0.6 - rate) / (count + 5.0)
        log_step = math.log(1.0) - count**0.5 / 0.1 * error
        average = count**-0.5 * log_step + (1 - count**-0.5) * average
        assert float(rule.step_size(state)) == pytest.approx(math.exp(log_step))
    assert float(rule.final(state)) == pytest.approx(math.exp(average))
    assert state.num_updates == 3


@pytest.mark.parametrize("start", [0.5, torch.tensor([0.5, 2.0], dtype=torch.float64)], ids=["number", "tensor"])
def test_robbins_monro_is_its_recursion(start):
    rule, expected = RobbinsMonro(0.574, gain=0.8, decay=0.25), torch.as_tensor(start).double()
    state = rule.init(start)
    for index, rate in enumerate((1.0, 0.1, 0.574)):
        state = rule.update(state, torch.full_like(expected, rate))
        expected = expected * math.exp(0.8 * (rate - 0.574) / (1 + 0.25 * index))
        torch.testing.assert_close(torch.as_tensor(rule.step_size(state)).double(), expected)
    assert rule.final(state) is rule.step_size(state)


def test_a_rate_that_is_no_number_leaves_its_step_size():
    rule = RobbinsMonro(0.5)
    assert rule.step_size(rule.update(rule.init(0.3), torch.tensor(torch.nan))) == 0.3
    state = rule.update(rule.init(torch.tensor([0.3, 0.3])), torch.tensor([torch.nan, 1.0]))
    assert float(state.step_size[0]) == pytest.approx(0.3)
    assert float(state.step_size[1]) == pytest.approx(0.3 * math.exp(0.5))


@pytest.mark.parametrize("groups", [2, torch.tensor([0, 0, 1, 1])], ids=["blocks", "indices"])
def test_groups_share_their_mean_acceptance(groups):
    tuner = Tuner(RobbinsMonro(0.5), 1.0, groups=groups)
    tuner.update(torch.tensor([0.0, 1.0, 1.0, 1.0]))
    torch.testing.assert_close(tuner.current, torch.tensor([1.0, math.exp(0.5)], dtype=torch.float64))
    torch.testing.assert_close(tuner.step_sizes(4), tuner.current.repeat_interleave(2))


def test_groups_of_unequal_size_are_pooled_by_index():
    tuner = Tuner(RobbinsMonro(0.5), torch.ones(2).double(), groups=torch.tensor([1, 0, 1, 1]))
    tuner.update(torch.tensor([0.5, 1.0, 0.5, 0.2]))
    torch.testing.assert_close(tuner.current, torch.tensor([0.5, -0.1], dtype=torch.float64).exp())


def test_a_tuner_without_rule_or_frozen_stays():
    tuner = Tuner(None, 0.7)
    tuner.update(torch.ones(3))
    tuner.freeze()
    assert tuner.current == 0.7
    rule = DualAveraging(0.5)
    tuner, state = Tuner(rule, 0.7), rule.update(rule.init(0.7), torch.tensor(1.0))
    tuner.update(torch.ones(3))
    tuner.freeze()
    assert float(tuner.current) == float(rule.final(state))
    tuner.update(torch.zeros(3))
    assert float(tuner.current) == float(rule.final(state))


def test_each_chain_may_have_a_step_size_of_its_own():
    tuner = Tuner(RobbinsMonro(0.5), torch.tensor([1.0, 2.0]))
    tuner.update(torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(tuner.step_sizes(2), torch.tensor([1.0, 2.0 * math.exp(0.5)]))
