"""What combinators read off the densities that they combine."""

import math

import pyro.distributions as dist
import pytest
import torch

import drl_density as drl
from drl_density.distributions.experts import check_experts, integrable, largest_power, log_density_of, normalized

NORMAL = dist.Normal(torch.zeros(2), 1.0).to_event(1)
ENERGY = drl.EnergyDistribution(lambda x: -0.5 * x.square().sum(-1), (2,), is_integrable=True, largest_power=3.0)


def test_distributions_are_proper_and_bounded_and_energies_say_what_they_are():
    unknown = drl.EnergyDistribution.from_log_density(lambda x: x.sum(-1), (2,))
    assert [integrable(one) for one in (NORMAL, ENERGY, unknown)] == [True, True, False]
    assert [largest_power(one) for one in (NORMAL, ENERGY)] == [math.inf, 3.0]
    assert [normalized(one) for one in (NORMAL, ENERGY, ENERGY.normalize(1.0))] == [True, False, True]


def test_the_unnormalised_log_density_comes_first():
    x = torch.ones(1, 2)
    assert log_density_of(ENERGY.normalize(5.0))(x) == -1.0
    torch.testing.assert_close(log_density_of(NORMAL)(x), NORMAL.log_prob(x))


@pytest.mark.parametrize(
    ("experts", "weights", "words"),
    [
        ([], [], "at least one"),
        ([NORMAL], [1.0, 2.0], "as many weights"),
        ([NORMAL, dist.Normal(0.0, 1.0)], [1.0, 1.0], "one event shape"),
        ([NORMAL.expand((3,))], [1.0], "no batch shape"),
    ],
)
def test_what_does_not_fit_is_refused(experts, weights, words):
    with pytest.raises(ValueError, match=words):
        check_experts(experts, weights)
