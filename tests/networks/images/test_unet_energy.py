"""The U-Net energy: bound, inner product, dropout, inputs, refusals."""

import pytest
import torch
from torch import nn

from drl_density.networks import (
    UNetEnergy,
    UNetEnergySettings,
)
from drl_density.networks.images.unet_energy import BOUND
from drl_density.testing import seeded_generator
from tests.networks.images.tiny_networks import images, unet_energy


@pytest.mark.parametrize("changes", [{}, {"patch_size": 2}, {"multipliers": (1, 2, 2), "num_blocks": 2}])
def test_the_inner_product_is_bounded_by_the_sum_of_pixels(changes):
    """|g| <= b |x|_1 / sigma, also far out, where every answer is at its bound."""
    net = unet_energy(**changes)
    x = images(64)
    log_snr = torch.linspace(-4, 4, 64, dtype=torch.float64)
    limit = BOUND * x.abs().flatten(1).sum(1) * torch.sigmoid(-log_snr).rsqrt()
    with torch.no_grad():
        far = net(1e9 * x, log_snr).abs() / (1e9 * limit)
    assert net.has_bounded_growth
    assert bool((far <= 1).all())
    assert float(far.max()) > 0.2


def test_the_inner_product_pairs_each_pixel_with_its_own_answer():
    """With answers held constant the gradient is the answer over sigma, pixel by pixel, in patches as without."""
    log_snr = torch.tensor(0.7, dtype=torch.float64)
    for patch in (1, 2):
        net = unet_energy(patch_size=patch)
        nn.init.zeros_(net.leave.weight)
        nn.init.normal_(net.leave.bias, generator=seeded_generator(4))
        x = images().requires_grad_(True)
        (gradient,) = torch.autograd.grad(net(x, log_snr).sum(), x)
        answer = net.leave.bias.detach()
        answer = answer / (1 + (answer / BOUND).square()).sqrt() / torch.sigmoid(-log_snr).sqrt()
        expected = answer.reshape(patch, patch).repeat(8 // patch, 8 // patch).expand(4, 1, 8, 8)
        assert torch.allclose(gradient, expected, atol=1e-12)


def test_the_unet_energy_drops_features_in_training_mode_alone():
    sizes = UNetEnergySettings((1, 8, 8), num_channels=8, dropout=0.5)
    net = UNetEnergy(sizes, generator=seeded_generator()).double()
    nn.init.normal_(net.leave.weight, generator=seeded_generator(3))
    x, log_snr = images(), torch.tensor(0.0, dtype=torch.float64)
    plain = UNetEnergy(UNetEnergySettings((1, 8, 8), num_channels=8)).double()
    plain.load_state_dict(net.state_dict())
    assert torch.equal(net.eval()(x, log_snr), plain.train()(x, log_snr))
    torch.manual_seed(0)
    once, again = net.train()(x, log_snr), net(x, log_snr)
    assert not torch.equal(once, again)
    blocks = [module for module in net.modules() if isinstance(module, nn.Dropout)]
    assert len(blocks) == 5
    assert {block.p for block in blocks} == {0.5}


def test_the_unet_energy_takes_flat_rows_shared_levels_and_labels():
    net = unet_energy(num_classes=2, patch_size=2)
    nn.init.normal_(net.embed_label.weight, generator=seeded_generator(5))
    x, log_snr = images(), torch.full((4,), 0.3, dtype=torch.float64)
    plain = net(x, log_snr)
    assert torch.equal(net(x.flatten(1), log_snr), plain)
    assert torch.allclose(net(x, log_snr[0]), plain, atol=1e-12)
    assert torch.allclose(net(x, log_snr, torch.zeros(4, dtype=torch.long)), plain, atol=1e-12)
    assert not torch.allclose(net(x, log_snr, torch.ones(4, dtype=torch.long)), plain)
    assert not torch.allclose(net(x, log_snr + 1), plain)


UNET_BAD = [
    (lambda: UNetEnergySettings((1, 9, 8)), "sides divisible by 2"),
    (lambda: UNetEnergySettings((1, 8, 8), patch_size=4, multipliers=(1, 1, 1)), "sides divisible by 16"),
    (lambda: UNetEnergySettings((1, 8, 8), num_middle_blocks=0), "num_middle_blocks must be at least 1"),
    (lambda: UNetEnergySettings((1, 8, 8), dropout=1.0), "dropout must lie in"),
    (lambda: unet_energy()(torch.zeros(2, 3), torch.zeros(())), "expected images of shape"),
    (lambda: unet_energy()(images(), torch.zeros(()).double(), torch.ones(4).long()), "has no labels"),
]


@pytest.mark.parametrize(("call", "message"), UNET_BAD, ids=[row[1] for row in UNET_BAD])
def test_bad_input_to_the_unet_energy(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_features_far_below_zero_silence_the_network_but_not_with_a_linear_readout():
    """A SiLU is zero there, and so is every gradient; a linear map of the features learns as before."""
    norms = {}
    for is_linear in (False, True):
        net = unet_energy(has_linear_readout=is_linear, multipliers=(1,))
        with torch.no_grad():
            net.enter.weight.zero_()
            net.enter.bias.fill_(-100.0)
            for block in net.middle.children():
                block.second.weight.zero_()
        net(images(), torch.tensor(0.0, dtype=torch.float64)).sum().backward()
        norms[is_linear] = float(net.leave.weight.grad.norm())
    assert norms[False] < 1e-9
    assert norms[True] > 1.0
