"""Sequences in closed form for long chains."""

import torch

import drl_density as drl
from drl_density.testing import GaussianMixtureSequence, gaussian_sequence, seeded_generator

SCHEDULE = drl.NoiseSchedule.log_spaced(8, sigma_min=0.05)


SMALL = 0.03 * torch.eye(2, dtype=torch.float64)


MEANS = torch.tensor([[-1.5, 0.0], [1.5, 0.5]], dtype=torch.float64)


GAUSSIAN = gaussian_sequence(torch.tensor([0.3, -0.2]), torch.tensor([[1.0, 0.5], [0.5, 0.7]]), SCHEDULE)


def two_modes(weight):
    weights = torch.tensor([weight, 1 - weight], dtype=torch.float64)
    return GaussianMixtureSequence(weights, MEANS, torch.stack([SMALL, SMALL]), SCHEDULE)


def rows_of(system, count=400, level=0.0):
    return system.sample(count, level, generator=seeded_generator(1))
