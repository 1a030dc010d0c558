"""Small image networks that tests of several modules share."""

import torch
from torch import nn

from drl_density.networks import (
    ResidualEnergy,
    ResidualSettings,
    SpectralWeight,
    UNetEnergy,
    UNetEnergySettings,
    settle_power_iteration,
)
from drl_density.testing import seeded_generator

TINY = ResidualSettings((1, 8, 8), num_channels=8, multipliers=(1, 2), num_blocks=1)


def network(**changes):
    settings = ResidualSettings(**{**TINY.__dict__, **changes})
    return ResidualEnergy(settings, generator=seeded_generator()).double()


def images(count=4, generator=None):
    return torch.randn(count, 1, 8, 8, dtype=torch.float64, generator=generator or seeded_generator(1))


def wake(net):
    """Give the convolutions that start at zero something to do."""
    for module in net.modules():
        if isinstance(module, SpectralWeight) and module.is_zero:
            nn.init.normal_(module.weight, std=0.5, generator=seeded_generator(2))
    settle_power_iteration(net, num_iterations=100)
    return net


def unet_energy(**changes):
    sizes = UNetEnergySettings((1, 8, 8), **{"num_channels": 4, "num_middle_blocks": 1, **changes})
    net = UNetEnergy(sizes, generator=seeded_generator()).double()
    assert float(net(images(), torch.zeros(4, dtype=torch.float64)).detach().abs().max()) == 0.0
    nn.init.normal_(net.leave.weight, generator=seeded_generator(3))
    return net
