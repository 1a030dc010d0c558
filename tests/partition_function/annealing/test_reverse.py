"""Walks back to the base, and the likelihood of the annealing sampler."""

import math

import pyro.distributions as dist
import torch

import drl_density as drl
from drl_density.partition_function import (
    annealing_log_likelihood,
    geometric_path,
    plan_annealing,
    reverse_anneal,
)
from drl_density.testing import assert_z
from drl_density.weights import log_mean_exp


def test_annealing_sampler_errs_low():
    target = dist.MultivariateNormal(torch.ones(3), 0.2 * torch.eye(3) + 0.1)
    settings = drl.AISSettings(num_particles=200, num_replicates=4)
    generator = torch.Generator().manual_seed(0)
    path = geometric_path(dist.Normal(torch.zeros(3), 1.5).to_event(1), target.log_prob, num_bridges=30)
    plan = plan_annealing(path, settings, generator=generator)
    torch.manual_seed(0)
    x = target.sample((300,))
    gap = annealing_log_likelihood(path, plan, settings, x, generator=generator) - target.log_prob(x)
    assert -0.3 < float(gap.mean()) < 0.01


def test_reverse_annealing_brackets_log_z():
    target = dist.MultivariateNormal(torch.ones(3), 0.2 * torch.eye(3) + 0.1)
    base = dist.Normal(torch.zeros(3), 1.5).to_event(1)
    settings = drl.AISSettings(num_particles=200, num_replicates=4, resample_below=None)
    generator = torch.Generator().manual_seed(0)
    path = geometric_path(base, lambda x: target.log_prob(x) + 2.0, num_bridges=30)
    plan = plan_annealing(path, settings, generator=generator)
    torch.manual_seed(0)
    weights = reverse_anneal(path, plan, settings, target.sample((800,)), generator=generator)
    shares = (2.0 - weights).exp()
    assert_z(float(shares.mean()), 1.0, float(shares.std()) / math.sqrt(len(shares)))
    assert float(weights.mean()) > 2.0
    assert float(-log_mean_exp(-weights)) < float(weights.mean())


def test_a_walk_that_no_forward_one_can_take_has_weight_infinity():
    """The base holds the right half of the target only: half of the walks back lose it."""
    base = dist.Uniform(torch.zeros(1), torch.ones(1), validate_args=False).to_event(1)
    path = geometric_path(base, lambda x: torch.where(x[:, 0].abs() < 1, 0 * x[:, 0], -math.inf), num_bridges=2)
    settings = drl.AISSettings(num_pilot_particles=64, num_transitions=1)
    generator = torch.Generator().manual_seed(0)
    plan = plan_annealing(path, settings, generator=generator)
    draws = 2 * torch.rand(2000, 1, generator=generator) - 1
    weights = reverse_anneal(path, plan, settings, draws, generator=generator)
    assert_z((-weights).exp(), 0.5)
    assert bool((weights == math.inf).any())
    assert not bool(weights.isnan().any())
