"""Targets and log weights whose log Z is known, and small sizes of runs on them."""

import math

import torch
from torch.distributions import Normal

from drl_density import AISSettings, NoiseSchedule, SandwichSettings
from drl_density.testing import GaussianMixtureSequence, seeded_generator

SYSTEM = GaussianMixtureSequence.example(dim=3, schedule=NoiseSchedule.log_spaced(6))
SMALL = AISSettings(num_particles=64, num_replicates=40, num_pilot_particles=128)
SMALL_SANDWICH = SandwichSettings(num_particles=128, num_replicates=6, num_mixing_steps=20)


def normal_weights(log_z, spread, count, seed):
    """Log weights of a log-normal pair: forward N(c - v/2, v), reverse N(c + v/2, v) satisfy Crooks' relation exactly."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, count, generator=generator, dtype=torch.float64) * spread
    return log_z - spread**2 / 2 + noise[0], log_z + spread**2 / 2 + noise[1]


def funnel(x):
    """Neal's funnel, normalised: the spread of the others is exp(first / 2)."""
    first, rest = x[..., 0], x[..., 1:]
    inner = -0.5 * (rest.square() * torch.exp(-first)[..., None] + first[..., None] + math.log(2 * math.pi)).sum(-1)
    return Normal(0.0, 3.0, validate_args=False).log_prob(first) + inner


def three_gaussians(seed=0):
    """Weights, means and covariances of three Gaussians in two dimensions."""
    generator = seeded_generator(seed)
    factors = torch.randn(3, 2, 2, generator=generator, dtype=torch.float64)
    covariances = 0.1 * torch.eye(2).double() + factors @ factors.mT
    means = 2 * torch.randn(3, 2, generator=generator, dtype=torch.float64)
    return torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64), means, covariances


def half_plane(value):
    """Log density of a standard normal plane in its right half, and ``value`` in the left one."""
    normal = Normal(0.0, 1.0, validate_args=False)
    return lambda x: torch.where(x[:, 0] > 0, normal.log_prob(x).sum(-1), value)
