"""A Gaussian sequence whose best reverse kernels are known in closed form."""

import torch

from drl_density.partition_function.sequence_paths.kernels import ReverseKernels
from drl_density.partition_function.sequence_paths.noise_grid import even_grid
from drl_density.schedule import NoiseSchedule
from drl_density.testing import gaussian_sequence

MEAN = torch.tensor([0.3, -0.2, 0.0], dtype=torch.float64)
SPREADS = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
"""Variances of the clean coordinates."""
# At a log-SNR of -16 level T differs from N(0, I) by less than 1e-6 nats.
SYSTEM = gaussian_sequence(MEAN, torch.diag(SPREADS), NoiseSchedule(torch.linspace(4, -16, 6)))


def exact_errors(grid):
    """Variance of the clean row given each noisier state of the grid, ``(N, 3)``."""
    signal, noise = torch.sigmoid(grid.log_snrs[1:, None]), torch.sigmoid(-grid.log_snrs[1:, None])
    return SPREADS * noise / (signal * SPREADS + noise)


def exact_kernels(num_steps):
    """The kernels that are the conditionals of the sequence itself."""
    grid = even_grid(SYSTEM.schedule, num_steps)
    return ReverseKernels(SYSTEM.model, grid, exact_errors(grid), True)
