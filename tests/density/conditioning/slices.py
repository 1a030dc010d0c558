"""Slices of the tiny density on a grid, for conditionals and marginals."""

import math

import torch

GRID = torch.linspace(-8, 8, 4001, dtype=torch.float64)


STEP = float(GRID[1] - GRID[0])


def log_mass(log_density):
    return float(log_density.logsumexp(0)) + math.log(STEP)


def slice_of(density, value):
    """log p(x1 = value, x0) on the grid of x0."""
    return density.log_prob(torch.stack([GRID, torch.full_like(GRID, value)], 1))
