"""Variational dequantisation: uniform at the start, a density of its own, and a bound between uniform and exact."""

import math

import torch

from drl_density.testing import assert_z, seeded_generator
from drl_density.transforms import VariationalDequantization, dequantization_bound, train_dequantization


def log_density(rows):
    """Independent N(2.2, 0.4^2): steep inside the cells of whole numbers."""
    return torch.distributions.Normal(2.2, 0.4).log_prob(rows).sum(-1)


def exact(x):
    normal = torch.distributions.Normal(torch.tensor(2.2, dtype=torch.float64), 0.4)
    return (normal.cdf(x + 0.5) - normal.cdf(x - 0.5)).log().sum(-1)


ROWS = torch.tensor([[1.0, 2.0], [2.0, 3.0], [3.0, 1.0]], dtype=torch.float64).repeat(40, 1)


def test_it_starts_uniform():
    noise = VariationalDequantization((1, 3, 3), generator=seeded_generator(0))
    with torch.no_grad():
        noised = noise(torch.full((500, 9), 7.0), generator=seeded_generator(1))
    shares = noised.rows - 6.5
    assert float(noised.log_noise_density.abs().max()) < 1e-12
    assert bool(((shares > 0) & (shares < 1)).all())
    assert_z(shares.flatten(), 0.5)
    assert_z((shares - 0.5).square().flatten(), 1 / 12)


def test_its_density_is_normalised():
    """E_q[1 / q] is the volume of the cell, here w^2 = 4; scales above one keep the variance finite."""
    noise = VariationalDequantization((2,), width=2.0, value_range=(0, 4), generator=seeded_generator(0))
    with torch.no_grad():
        noise.readout.bias.copy_(torch.tensor([0.4, -0.3, 0.3, 0.2]))
    noised = noise(torch.tensor([[2.0, 4.0]]).expand(20_000, -1), generator=seeded_generator(1))
    assert bool(((noised.rows - torch.tensor([2.0, 4.0])).abs() < 1).all())
    assert_z((-noised.log_noise_density).exp().detach(), 4.0)


def test_learned_noise_lies_between_uniform_and_exact():
    noise = VariationalDequantization((2,), value_range=(0, 4), num_hidden=32, generator=seeded_generator(0))
    draws = {"num_samples": 100}
    with torch.no_grad():
        before = dequantization_bound(noise, log_density, ROWS[:3], generator=seeded_generator(1), **draws)
    sizes = {"num_steps": 150, "batch_size": 64, "learning_rate": 2e-2}
    found = train_dequantization(noise, log_density, ROWS, **sizes, generator=seeded_generator(2))
    assert all(map(math.isfinite, found))
    with torch.no_grad():
        after = dequantization_bound(noise, log_density, ROWS[:3], generator=seeded_generator(3), **draws)
    truth = exact(ROWS[:3])
    # The bound's gap falls from KL(uniform | posterior of u), 0.4 to 1.1 nats here, by at least four fifths.
    assert bool((truth - after < 0.2 * (truth - before)).all())
    # A mean of 100 draws whose spread is at most a nat: four standard errors are 0.4.
    assert bool((after < truth + 0.4).all())
