"""The initialiser: a new one is the identity."""

import pytest
import torch

from drl_density.networks import (
    UNet,
    UNetSettings,
)
from tests.networks.images.tiny_networks import images


def test_new_initialiser_is_the_identity_and_learns():
    start = UNet(UNetSettings((1, 8, 8), num_channels=8, multipliers=(1, 2), attention_sizes=(4,)), generator=None)
    x = images().float()
    assert torch.equal(start.eval()(x, torch.zeros(())), x)
    (start.train()(x, torch.zeros(4)) ** 2).sum().backward()
    assert float(start.leave.weight.grad.abs().sum()) > 0
    assert start(x.flatten(1), torch.zeros(())).shape == (4, 64)
    with pytest.raises(ValueError, match="divisible by 4"):
        UNetSettings((1, 6, 6))
