"""What networks declare, and that a generator decides their weights."""

import pytest
import torch
from torch import nn

from drl_density.networks import (
    LabelSum,
    ResidualEnergy,
    ResidualSettings,
    UNet,
    UNetEnergy,
    UNetEnergySettings,
    UNetSettings,
    checkpointable_modules,
    contract,
)
from drl_density.networks.images.attention import Attention
from drl_density.testing import seeded_generator
from tests.networks.images.tiny_networks import network


@pytest.mark.parametrize(
    ("made", "sizes"),
    [
        (ResidualEnergy, ResidualSettings((1, 8, 8), num_channels=8, attention_sizes=(8, 4), num_classes=3)),
        (ResidualEnergy, ResidualSettings((1, 8, 8), num_channels=8, is_normalized=False, starts_at_zero=True)),
        (UNetEnergy, UNetEnergySettings((1, 8, 8), num_channels=8, num_classes=3)),
        (UNet, UNetSettings((1, 8, 8), num_channels=8, multipliers=(1, 2), attention_sizes=(4,), num_classes=3)),
    ],
)
def test_the_generator_alone_decides_every_weight(made, sizes):
    """Whatever the global generator stands at."""
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(made(sizes, generator=seeded_generator()).state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_a_network_that_declares_nothing_has_nothing():
    assert not contract.has_bounded_growth(nn.Identity())
    assert not contract.is_integrable(nn.Identity())
    assert checkpointable_modules(nn.Identity()) == []


@pytest.mark.parametrize("flag", [True, False])
def test_declarations_are_attributes_or_properties(flag):
    declared = nn.Identity()
    declared.has_bounded_growth, declared.is_integrable = flag, flag
    assert contract.has_bounded_growth(declared) is flag
    assert contract.is_integrable(declared) is flag
    assert contract.has_bounded_growth(LabelSum(declared, [1], [1.0])) is flag


def test_residual_blocks_can_be_checkpointed_at_any_depth():
    net = network(attention_sizes=(4,))
    wrapped = nn.Sequential(nn.Identity(), net)
    assert checkpointable_modules(wrapped) == [net]
    blocks = net.checkpointed_blocks
    assert len(blocks) == 2
    assert not any(isinstance(block, Attention) for block in blocks)
