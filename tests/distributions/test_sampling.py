"""Sampler policies and shapes of draws."""

import math

import pytest
import torch

from drl_density import ChainSampler, EnergyDistribution
from drl_density.distributions.sampling import SampleResult, as_shape
from drl_density.mcmc import HMC, ULA
from drl_density.testing import assert_z, seeded_generator


def test_sampling_keeps_statistics_and_honors_its_policy():
    target = EnergyDistribution.from_log_density(lambda x: -0.5 * x.square().sum(-1), (2,))
    target = target.with_sampler(ChainSampler(kernel=HMC(4), num_warmup=50, num_steps=20))
    torch.manual_seed(0)
    draws = target.sample((500,))
    assert target.last_result.stats["acceptance_rate"].shape == (20, 500)
    assert_z(draws.double().square(), 1.0)


def test_an_unadjusted_kernel_draws_nothing():
    with pytest.raises(ValueError, match="expected an adjusted kernel"):
        ChainSampler(kernel=ULA())


def test_shapes_and_numbers_of_draws():
    assert as_shape(3) == as_shape((3,)) == as_shape(torch.Size([3])) == torch.Size([3])
    assert as_shape(()) == torch.Size()
    with pytest.raises(ValueError, match=r"integers that are not negative, got \(2, -1\)"):
        as_shape((2, -1))


def test_a_fixed_step_size_is_kept():
    sampler = ChainSampler(num_warmup=20, num_steps=3, step_size=0.7, is_adapted=False)
    found = sampler(lambda x: -0.5 * x.square().sum(-1), torch.zeros(5, 2), seeded_generator(0))
    assert bool((found.stats["step_size"] == 0.7).all())
    assert 0 < found.acceptance_rate <= 1
    assert math.isnan(SampleResult(found.draws).acceptance_rate)
