"""Toys against their own densities."""

import pytest
import torch

from drl_density import load_dataset
from drl_density.datasets import (
    TOYS,
)
from drl_density.testing import assert_z, seeded_generator


@pytest.mark.parametrize("name", TOYS)
def test_toys_integrate_to_one(name):
    """Midpoint rule on 1,600^2 cells; the jumps of the checkerboard fall on cell borders."""
    toy = TOYS[name]()
    half, cells = (16.0, 1600) if name == "banana" else (8.0, 1600)
    ticks = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells * 2 * half - half
    mass = sum(float(toy.log_density(torch.cartesian_prod(part, ticks)).exp().sum()) for part in ticks.split(100))
    # The banana's mass beyond |x_2| = 16 is that of |x_1| > 6: 2.7e-3; the others are whole to quadrature error.
    assert abs(mass * (2 * half / cells) ** 2 - 1) < (4e-3 if name == "banana" else 1e-3)


@pytest.mark.parametrize("name", TOYS)
def test_toy_samples_fit_their_density(name):
    """E[1{x in A}] by sampling against quadrature over A = [0, 3] x [-3, 1]."""
    toy = TOYS[name]()
    x = toy.sample(40_000, generator=seeded_generator(1))
    inside = (x[:, 0] > 0) & (x[:, 0] < 3) & (x[:, 1] > -3) & (x[:, 1] < 1)
    first = (torch.arange(1200, dtype=torch.float64) + 0.5) / 400
    second = (torch.arange(1600, dtype=torch.float64) + 0.5) / 400 - 3
    mass = float(toy.log_density(torch.cartesian_prod(first, second)).exp().sum()) / 400**2
    assert_z(inside.double(), mass)


def test_toys_have_a_known_density():
    data = load_dataset("eight_gaussians", seed=0, num_rows=500)
    assert data.log_density(data.test).shape == (len(data.test),)
    assert data.likelihood_label == "density"
