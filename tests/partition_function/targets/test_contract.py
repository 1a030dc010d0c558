"""What is read off a target before anything is evaluated."""

import pyro.distributions as dist
import pytest
import torch

import drl_density as drl
from drl_density.partition_function.targets.contract import require_one_target, support_of


def test_the_support_is_that_of_the_components_of_a_mixture():
    mixture = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Gamma(torch.ones(2), 1.0))
    assert str(support_of(mixture)) == "GreaterThanEq(lower_bound=0.0)"
    energy = drl.EnergyDistribution.from_log_density(lambda x: x, (2,))
    assert support_of(energy) is energy.support


def test_a_function_is_no_target():
    with pytest.raises(TypeError, match=r"got function: wrap .*from_log_density\(log_density, event_shape="):
        require_one_target(lambda x: -x.square().sum(-1))


def test_a_batch_is_no_target():
    with pytest.raises(ValueError, match=r"without batch shape, got \(3,\).*to_event"):
        require_one_target(dist.Normal(torch.zeros(3, 2), 1.0).to_event(1))
