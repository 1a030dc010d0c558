"""A correlated Gaussian prior, for which every posterior under a linear measurement is known."""

import pytest
import torch

from drl_density import NoiseSchedule
from drl_density.testing import gaussian_sequence


@pytest.fixture(scope="session")
def correlated():
    covariance = torch.tensor([[1.0, 0.6, 0.2], [0.6, 0.8, 0.1], [0.2, 0.1, 0.5]], dtype=torch.float64)
    return gaussian_sequence(torch.tensor([0.3, -0.2, 0.1]), covariance, NoiseSchedule.log_spaced(8, sigma_min=0.05))
