"""What networks declare, and that a generator decides their weights."""

import pytest
import torch

from drl_density.networks import (
    ResidualEnergy,
    ResidualSettings,
    UNet,
    UNetEnergy,
    UNetEnergySettings,
    UNetSettings,
)
from drl_density.testing import seeded_generator


@pytest.mark.parametrize(
    ("network", "sizes"),
    [
        (ResidualEnergy, ResidualSettings((1, 8, 8), num_channels=8, attention_sizes=(8, 4), num_classes=3)),
        (ResidualEnergy, ResidualSettings((1, 8, 8), num_channels=8, is_normalized=False, starts_at_zero=True)),
        (UNetEnergy, UNetEnergySettings((1, 8, 8), num_channels=8, num_classes=3)),
        (UNet, UNetSettings((1, 8, 8), num_channels=8, multipliers=(1, 2), attention_sizes=(4,), num_classes=3)),
    ],
)
def test_the_generator_alone_decides_every_weight(network, sizes):
    """Whatever the global generator stands at."""
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(network(sizes, generator=seeded_generator()).state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
