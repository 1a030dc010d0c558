"""Second derivatives of attention and of the U-Net energy."""

import torch
from torch import nn

from drl_density.networks.images.attention import Attention
from drl_density.testing import seeded_generator
from tests.networks.images.tiny_networks import images, unet_energy


class _Layout(nn.Module):
    def __init__(self, layout):
        super().__init__()
        self.layout = layout

    def forward(self, x):
        return x.contiguous(memory_format=self.layout)


def test_second_derivatives_are_right():
    """Score matching differentiates twice: the U-Net energy and attention against finite differences.

    With channels innermost torch would choose an attention kernel that has no second derivative.
    """
    net, attention = unet_energy(multipliers=(1, 1)), Attention(4).double()
    nn.init.normal_(attention.out.weight, generator=seeded_generator(6))
    x = images(2).requires_grad_(True)
    log_snr = torch.zeros(2, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda x: net(x, log_snr), (x,), atol=1e-4)
    state = torch.randn(2, 4, 2, 2, generator=seeded_generator(7), dtype=torch.float64).requires_grad_(True)
    for layout in (torch.contiguous_format, torch.channels_last):
        inner = nn.Sequential(_Layout(layout), attention.to(memory_format=layout))
        assert torch.autograd.gradgradcheck(inner, (state,), atol=1e-4)


def test_a_new_layer_is_the_identity_and_pixels_see_each_other():
    layer = Attention(4, num_heads=2, num_groups=2, generator=seeded_generator(0)).double()
    x = torch.randn(2, 4, 3, 3, generator=seeded_generator(1), dtype=torch.float64)
    assert torch.equal(layer(x), x)
    nn.init.normal_(layer.out.weight, generator=seeded_generator(2))
    changed = x.clone()
    changed[:, :, 0, 0] += 1
    difference = (layer(changed) - layer(x)).abs().amax(1)
    assert bool((difference > 1e-6).all())


def test_heads_attend_by_themselves():
    """Two heads are two layers over half of the channels each."""
    layer = Attention(4, num_heads=2, generator=seeded_generator(0)).double()
    nn.init.eye_(layer.out.weight.data.view(4, 4))
    x = torch.randn(1, 4, 2, 3, generator=seeded_generator(1), dtype=torch.float64)
    query, key, value = layer.project(x).flatten(2).chunk(3, 1)
    for head in (slice(0, 2), slice(2, 4)):
        weights = (query[:, head].mT @ key[:, head] / 2**0.5).softmax(-1)
        seen = value[:, head] @ weights.mT
        torch.testing.assert_close((layer(x) - x).flatten(2)[:, head], seen)
