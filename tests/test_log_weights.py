"""Weights of particles that die, and the tail of weights."""

import math

import torch

from drl_density.log_weights import alive_mean, carried_weights, pareto_k
from drl_density.testing import seeded_generator
from drl_density.weights import log_mean_exp


def test_a_dead_particle_stays_dead():
    infinite = math.inf
    now = torch.tensor([1.0, -infinite, math.nan, 1.0, 1.0])
    before = torch.tensor([0.5, 0.5, 0.5, -infinite, 0.5])
    weights = torch.tensor([0.0, 0.0, 0.0, 0.0, -infinite])
    assert carried_weights(weights, now, before).tolist() == [0.5, *[-infinite] * 4]


def test_the_mean_over_the_alive_is_a_bound():
    generator = seeded_generator(0)
    weights = torch.randn(3, 400, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(alive_mean(weights, 1), weights.mean(1))
    weights[torch.rand(weights.shape, generator=generator) < 0.6] = -math.inf
    assert bool((alive_mean(weights, 1) < log_mean_exp(weights, 1)).all())
    even = torch.where(weights.isfinite(), 2.0, -math.inf).double()
    torch.testing.assert_close(alive_mean(even, 1), log_mean_exp(even, 1))  # equal weights leave no gap
    assert alive_mean(torch.full((2, 3), -math.inf), 1).tolist() == [-math.inf] * 2


def test_weights_of_zero_say_nothing_about_the_tail():
    tail = torch.randn(2000, generator=seeded_generator(1), dtype=torch.float64)
    assert pareto_k(torch.cat([tail, torch.full((3000,), -math.inf)])) == pareto_k(tail)
