"""The probability flow of exact scores against the density."""

import torch

from drl_density.partition_function import (
    flow_log_likelihood,
)
from drl_density.testing import GaussianMixtureSequence


def test_probability_flow_of_a_gaussian_is_its_density():
    """The flow of exact scores gives the exact density, up to the integrator's error (Heun, 400 steps)."""
    system = GaussianMixtureSequence.example(dim=2, seed=0)
    x = system.sample(20, 0, generator=torch.Generator().manual_seed(0))
    # the top of the schedule still holds a little signal (alpha = 0.1), which bounds the agreement
    gap = flow_log_likelihood(system.model, x, num_steps=400) - system.log_prob(x, 0)
    assert float(gap.abs().mean()) < 0.1
