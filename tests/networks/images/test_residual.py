"""The residual energy: its layers, start, readout, levels, growth and sizes."""

import math

import pytest
import torch
from torch import nn

from drl_density.networks import (
    MULTIPLIERS,
    ResidualEnergy,
    ResidualSettings,
    SpectralWeight,
)
from drl_density.networks.spectral_norm import SpectralConv2d, SpectralLinear
from drl_density.testing import assert_z, seeded_generator
from tests.networks.images.tiny_networks import images, network, wake


def test_every_layer_but_the_readout_is_normalised_and_second_convolutions_start_at_zero():
    net = network()
    plain = [name for name, part in net.named_modules() if isinstance(part, SpectralWeight) and not part.is_normalized]
    assert plain == ["readout.kernel"]
    zero = [name for name, part in net.named_modules() if isinstance(part, SpectralWeight) and part.is_zero]
    assert zero == [f"resolutions.{index}.0.second.kernel" for index in (0, 1)]
    assert all(float(net.get_submodule(name).weight.detach().abs().max()) < 1e-4 for name in zero)
    assert net.resolutions[0][0].second.gain.requires_grad
    layers = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
    assert not any(isinstance(part, layers) for part in net.modules())
    assert sum(isinstance(part, SpectralConv2d | SpectralLinear) for part in net.modules()) == 11


def test_weights_start_uniform_with_the_variance_of_the_mean_fan():
    """Variance v / fan, the fan (inputs + outputs) / 2 times the kernel's places; v is 1, and 1e-10 where zero is meant."""
    net = network(num_channels=16)
    block = net.resolutions[1][0]
    for part, fan, variance in ((net.level_in, 40, 1), (block.first, 24 * 9, 1), (block.second, 32 * 9, 1e-10)):
        weight = part.kernel.weight.detach().flatten()
        assert_z(weight.square(), variance / fan)
        assert 0.99 < float(weight.abs().max()) / math.sqrt(3 * variance / fan) <= 1 + 1e-6


def test_the_readout_meets_what_is_positive_and_adds_nothing():
    """<v, sum of relu(h)> under leaky ReLUs too, whatever the biases; exactly zero where no feature is positive."""
    net = wake(network())
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.5, generator=seeded_generator(3))
    seen, last, log_snr = {}, net.resolutions[-1][-1], torch.zeros(4, dtype=torch.float64)
    last.register_forward_hook(lambda part, inputs, out: seen.update(state=out))
    net.readout.register_forward_hook(lambda part, inputs, out: seen.update(answer=out))
    with torch.no_grad():
        values = net(images(), log_snr)
        assert 0.1 < float((seen["state"] < 0).double().mean()) < 0.9
        expected = (seen["state"].clamp(min=0).sum((2, 3)) * seen["answer"]).sum(1)
        torch.testing.assert_close(values, expected, rtol=1e-10, atol=0)
        last.register_forward_hook(lambda part, inputs, out: -out.abs())
        assert torch.equal(net(images(), log_snr), torch.zeros_like(values))


def test_the_readout_of_places_weighs_every_feature_at_every_place():
    """<v, h> over places and features, of images folded into patches: 4 x 4 patches, halved once."""
    net = wake(network(patch_size=2, readout="places", activation="silu"))
    seen = {}
    net.resolutions[-1][-1].register_forward_hook(lambda part, inputs, out: seen.update(state=out))
    net.readout.register_forward_hook(lambda part, inputs, out: seen.update(answer=out))
    with torch.no_grad():
        values = net(images(), torch.zeros(4, dtype=torch.float64))
    assert seen["state"].shape[1:] == net.settings.last_shape == (16, 2, 2)
    expected = (nn.functional.silu(seen["state"]).flatten(1) * seen["answer"]).sum(1)
    torch.testing.assert_close(values, expected, rtol=1e-10, atol=0)
    net.resolutions[-1][-1].register_forward_hook(lambda part, inputs, out: out.flip((2, 3)))
    with torch.no_grad():  # what a sum over places cannot see: the same features at other places
        assert float((net(images(), torch.zeros(4, dtype=torch.float64)) - values).abs().max()) > 1e-3


def test_every_block_hears_the_level():
    net = wake(network(num_blocks=2)).eval()
    log_snr = torch.zeros(4, dtype=torch.float64)
    blocks = [block for blocks in net.resolutions for block in blocks]
    assert len(blocks) == 4
    with torch.no_grad():
        before = net(images(), log_snr)
        for block in blocks:
            kept = block.level.kernel.weight.clone()
            nn.init.normal_(block.level.kernel.weight, generator=seeded_generator(3))
            assert float((net(images(), log_snr) / before - 1).abs().max()) > 1e-3
            block.level.kernel.weight.copy_(kept)
            assert torch.equal(net(images(), log_snr), before)


@pytest.mark.parametrize("starts_at_zero", [True, False])
def test_readout_and_blocks_do_not_both_start_at_zero(starts_at_zero):
    """Where both are near zero, neither has a gradient to leave by."""
    settings = ResidualSettings(
        (1, 8, 8), num_channels=8, multipliers=(1, 2), num_blocks=1, is_normalized=False, starts_at_zero=starts_at_zero
    )
    net = ResidualEnergy(settings, generator=seeded_generator())
    seconds = [net.resolutions[index][0].second.kernel.weight.detach() for index in (0, 1)]
    assert bool(net.readout.kernel.weight.detach().any()) != starts_at_zero
    assert all((float(weight.std()) > 0.05) == starts_at_zero for weight in seconds)


@pytest.mark.parametrize("activation", ["leaky_relu", "silu"])
def test_growth_is_at_most_linear(activation):
    """On a ray far out every layer is linear up to bounded terms: doubling x at 1e6 doubles g to 1e-3."""
    net = wake(network(activation=activation, attention_sizes=(4,)))
    nn.init.normal_(net.resolutions[1][1].out.weight, generator=seeded_generator(4))
    x, log_snr = 1e6 * images(), torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        ratio = net(2 * x, log_snr) / net(x, log_snr)
    assert net.has_bounded_growth
    assert bool((ratio.abs() < 2.05).all())


def test_rows_may_be_flat_and_levels_shared():
    net = wake(network()).eval()
    x, log_snr = images(), torch.full((4,), 0.7, dtype=torch.float64)
    values = net(x, log_snr)
    assert torch.allclose(net(x.flatten(1), log_snr[0]), values, atol=1e-12)
    with pytest.raises(ValueError, match="expected images of shape"):
        net(x[..., :7], log_snr)


def test_papers_sizes():
    """34.8 million parameters at 32 pixels with 8 blocks; every listed resolution ends at 4 pixels or more."""
    net = ResidualEnergy(ResidualSettings((3, 32, 32), num_blocks=8, multipliers=MULTIPLIERS[32]))
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 1) == 34.8
    for size, multipliers in MULTIPLIERS.items():
        assert size // 2 ** (len(multipliers) - 1) >= 4
    for multipliers, patch_size in (((1, 2, 2, 2), 1), ((1, 2), 4), ((1,), 3)):
        with pytest.raises(ValueError, match="fewer multipliers or smaller patches"):
            ResidualSettings((1, 4, 4), multipliers=multipliers, patch_size=patch_size)
