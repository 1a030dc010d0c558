"""Labels in energies and initialisers."""

import pytest
import torch
from torch import nn

from drl_density.networks import (
    UNet,
    UNetSettings,
    guide_by_label,
)
from drl_density.networks.images.image_inputs import as_images, with_label
from drl_density.testing import seeded_generator
from tests.networks.images.tiny_networks import images, network, wake


def test_labels_reach_energy_and_initialiser():
    net = wake(network(num_classes=3)).eval()
    x, log_snr = images(), torch.zeros(4, dtype=torch.float64)
    label = torch.tensor([1, 2, 3, 0])
    values = net(x, log_snr, label)
    assert torch.equal(net(x, log_snr), net(x, log_snr, torch.zeros_like(label)))
    assert torch.allclose(guide_by_label(net, 2, 0.0)(x, log_snr)[1], values[1])
    with pytest.raises(ValueError, match="no labels"):
        network()(x, log_snr, label)
    start = UNet(UNetSettings((1, 8, 8), num_channels=8, multipliers=(1, 1), num_blocks=1, num_classes=3)).double()
    for parameter in start.parameters():
        nn.init.normal_(parameter, std=0.1, generator=seeded_generator(5))
    start.eval()
    assert not torch.equal(start(x, log_snr, label)[0], start(x, log_snr)[0])
    assert torch.equal(start(x, log_snr, label)[3], start(x, log_snr)[3])


def test_flat_rows_become_images():
    x = images(3)
    assert torch.equal(as_images(x.flatten(1), (1, 8, 8)), x)
    with pytest.raises(ValueError, match=r"expected images of shape \(1, 8, 8\), got rows of \(63,\)"):
        as_images(torch.zeros(2, 63), (1, 8, 8))


def test_a_missing_label_is_label_zero():
    level, embed = torch.zeros(3, 4), nn.Embedding(2, 4)
    log_snr = torch.zeros(3)
    assert torch.equal(with_label(level, embed, log_snr, None), embed.weight[0].expand(3, 4))
    assert torch.equal(with_label(level, embed, log_snr, torch.tensor([1, 0, 1])), embed.weight[[1, 0, 1]])
    assert with_label(level, None, log_snr, None) is level
