"""A mixture of two modes in one dimension and short training runs on it, for the tests."""

import torch

from drl_density import NoiseSchedule, TrainingSettings
from drl_density.model import EnergySequence
from drl_density.networks import MLP, MLPSettings
from drl_density.testing import seeded_generator
from drl_density.training import Evaluation, new_state

WEIGHT, SCALE = 0.3, 0.25


def draw(num_rows, generator):
    """0.3 N(-1, 0.25^2) + 0.7 N(0.6, 0.25^2)."""
    is_left = torch.rand(num_rows, generator=generator) < WEIGHT
    return (torch.where(is_left, -1.0, 0.6) + SCALE * torch.randn(num_rows, generator=generator))[:, None]


def fresh(seed=0, *, width=32, rate=3e-3, num_fourier=16):
    generator = torch.Generator().manual_seed(seed)
    sizes = MLPSettings(1, width=width, num_blocks=1, num_fourier_features=num_fourier)
    model = EnergySequence(
        NoiseSchedule.log_spaced(6, sigma_min=0.05), MLP(sizes, generator=generator), (1,), generator=generator
    )
    return new_state(model, learning_rate=rate, weight_decay=0.0, average_decay=0.98, seed=seed)


def settings(**changes):
    return TrainingSettings(
        **{"num_steps": 40, "batch_size": 32, "evaluate_every": 10, "learning_rate": 3e-3, **changes}
    )


def evaluation(**changes):
    return Evaluation(draw(256, seeded_generator(1)), **changes)
