"""Weights of particles that die, and the tail of weights."""

import math

import torch

from drl_density.log_weights import alive_mean, carried_weights, chosen_by_share, pareto_k
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


def test_components_are_chosen_by_their_share():
    """Shares up to a factor, one set for each row; 1, to which a uniform number may round, means the last one."""
    shares = torch.tensor([[1.0, 2.0, 5.0], [3.0, 0.0, 1.0]], dtype=torch.float64)
    places = torch.tensor([[0.1, 0.2, 0.9, 1.0], [0.1, 0.74, 0.76, 1.0]], dtype=torch.float64)
    assert chosen_by_share(shares.cumsum(1), places).tolist() == [[0, 1, 2, 2], [0, 0, 2, 2]]
    uniform = torch.rand(2, 20_000, generator=seeded_generator(2), dtype=torch.float64)
    found = chosen_by_share(shares.cumsum(1), uniform)
    for index in range(3):
        expected = shares[:, index] / shares.sum(1)
        error = (expected * (1 - expected) / 20_000).sqrt()
        assert bool((((found == index).double().mean(1) - expected).abs() <= 5 * error).all())
