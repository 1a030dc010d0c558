"""A user's own distribution as a base."""

import torch
from torch.distributions import Normal

from drl_density.partition_function.annealing.path import ExactBase
from drl_density.partition_function.target_bases.contract import GivenBase


def test_a_given_base_hands_on_its_two_functions():
    base = GivenBase(
        lambda x: Normal(1.0, 2.0).log_prob(x).sum(1),
        lambda count, generator: torch.ones(count, 3),
        torch.Size((3,)),
    )
    assert isinstance(base, ExactBase)
    assert base.draw(2, None).tolist() == [[1.0] * 3] * 2
    torch.testing.assert_close(base.log_prob(base.draw(2, None)), 3 * Normal(0.0, 2.0).log_prob(torch.zeros(2)))
