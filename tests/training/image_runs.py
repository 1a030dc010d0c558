"""A small image network and the state of its training, for the tests."""

import torch

from drl_density import NoiseSchedule
from drl_density.model import EnergySequence
from drl_density.networks import (
    ResidualEnergy,
    ResidualSettings,
)
from drl_density.testing import seeded_generator
from drl_density.training import new_state


def draw(num_rows, generator):
    return torch.randn(num_rows, 1, 8, 8, generator=generator)


def fresh(network=None):
    settings = ResidualSettings((1, 8, 8), num_channels=8, multipliers=(1, 2), num_blocks=1)
    network = network or ResidualEnergy(settings, generator=seeded_generator(0))
    model = EnergySequence(NoiseSchedule.linear_beta(), network, (1, 8, 8), generator=seeded_generator(1))
    return new_state(model, learning_rate=1e-3, weight_decay=0.0, average_decay=0.9, seed=2)
