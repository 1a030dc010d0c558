"""Targets without levels: which log density is read off them, and which are refused."""

import pyro.distributions as dist
import pytest
import torch

import drl_density as drl
from drl_density.partition_function.targets.over_reals import log_density_over_reals


def test_the_unnormalised_log_density_comes_first():
    energy = drl.EnergyDistribution.from_log_density(lambda x: -x.square().sum(-1), (2,)).normalize(7.0)
    assert float(log_density_over_reals(energy)(torch.ones(1, 2))) == -2.0
    normal = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    torch.testing.assert_close(log_density_over_reals(normal)(torch.ones(1, 2)), normal.log_prob(torch.ones(1, 2)))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (dist.Normal(torch.zeros(3, 2), 1.0).to_event(1), "without batch shape, got \\(3,\\)"),
        (dist.Gamma(torch.ones(2), 1.0).to_event(1), "over all reals"),
        (dist.Poisson(torch.ones(2)).to_event(1), "over all reals"),
    ],
    ids=["batch", "bounded", "discrete"],
)
def test_targets_without_a_density_over_all_reals_are_refused(target, words):
    with pytest.raises(ValueError, match=words):
        log_density_over_reals(target)
