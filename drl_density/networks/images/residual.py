"""The residual energy network of the diffusion recovery likelihood papers, for images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from drl_density.networks.images.attention import Attention
from drl_density.networks.images.image_inputs import as_images, with_label
from drl_density.networks.level_embedding import LevelEmbedding
from drl_density.networks.spectral_norm import SpectralConv2d, SpectralLinear
from drl_density.records.fields import NonNegativeInt, PositiveInt, check_fields

Activation = Callable[[Tensor], Tensor]

MULTIPLIERS = {
    8: (1, 2),
    16: (1, 2, 2),
    28: (1, 2, 2),
    32: (1, 2, 2, 2),
    64: (1, 2, 2, 2, 4),
    128: (1, 2, 2, 2, 4, 4),
    256: (1, 2, 2, 2, 4, 4, 8),
}
"""Channel multipliers by image side. 32, 64 and 128 are from Gao et al. 2021's release; the others continue its pattern."""

NEARLY_ZERO = 1e-10
"""Variance of the initial weights of each block's second convolution, from Gao et al. 2021's release (``nn.py``)."""


@dataclass(frozen=True)
class ResidualSettings:
    """Sizes and options of a :class:`ResidualEnergy`.

    Attributes:
        image_shape: channels, height and width of an image.
        num_channels: number of channels of the first feature map.
        multipliers: channels at each resolution, as multiples of ``num_channels``. Height and width are halved from one
            resolution to the next.
        num_blocks: number of residual blocks at each resolution.
        patch_size: side in pixels of the patches that are folded into channels before the first convolution.
        readout: what the energy reads. "sum" sums the features over the places, as in the papers; "places" has a weight for
            each feature at each place, with which small networks learn digits where sums learn strokes.
        attention_sizes: heights of feature maps with attention after every block; none by default.
        is_normalized: whether every convolution and dense layer except the readout is spectrally normalised.
        activation: "leaky_relu" of slope 0.2, as in the papers, or "silu", which is smooth.
        starts_at_zero: whether the readout starts at zero, so that a new sequence equals its base, and the blocks at random.
            The papers do the opposite. With both at zero the network would be linear and start on a plateau.
        level_log_snr: log-SNRs of discrete levels, for the papers' time index; see
            :class:`~drl_density.networks.level_embedding.LevelEmbedding`.
        num_classes: number of labels 1..num_classes of a conditional energy, 0 for none. Label 0 means unlabelled.

    Raises:
        ValueError: images too small for their halvings or not divisible into the patches, or a misspelt choice.
    """

    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    num_channels: PositiveInt = 128
    multipliers: tuple[PositiveInt, ...] = (1, 2, 2, 2)
    num_blocks: PositiveInt = 2
    patch_size: PositiveInt = 1
    readout: Literal["sum", "places"] = "sum"
    attention_sizes: tuple[PositiveInt, ...] = ()
    is_normalized: bool = True
    activation: Literal["leaky_relu", "silu"] = "leaky_relu"
    starts_at_zero: bool = False
    level_log_snr: tuple[float, ...] | None = None
    num_classes: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_fields(self)
        least = self.patch_size * 2 ** (len(self.multipliers) - 1)
        if min(self.image_shape[1:]) < least or any(size % self.patch_size for size in self.image_shape[1:]):
            raise ValueError(
                f"expected image_shape (channels, height, width) of at least {least} pixels a side for "
                f"{len(self.multipliers)} resolutions, in patches of {self.patch_size} pixels a side, got "
                f"{tuple(self.image_shape)}; give fewer multipliers or smaller patches"
            )

    @property
    def last_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the features that the energy is read from."""
        factor = self.patch_size * 2 ** (len(self.multipliers) - 1)
        return self.num_channels * self.multipliers[-1], self.image_shape[1] // factor, self.image_shape[2] // factor


class ResidualEnergy(nn.Module):
    r"""Encoder-only residual network with a readout that depends on the noise level, and no normalisation of features.

    .. math:: g(x, \lambda) = \Big\langle v(\lambda), \textstyle\sum_{\text{places}} \mathrm{relu}(h(x, \lambda)) \Big\rangle

    With the readout "places" v has an entry for each feature at each place, and nothing is summed before the product.
    Each block adds conv(act(conv(act(h)) + dense(act(level)))), whose second convolution starts at zero unless the
    readout does; resolutions are joined by average pooling. Every part grows at most linearly in x. There is no additive
    constant.

    With ``is_checkpointed`` set, blocks recompute their activations in the backward pass instead of storing them. Spectral
    norms must then be fixed between both passes by :func:`frozen_power_iteration`, as a gradient step does.

    Args:
        settings: sizes and options of the network.
        generator: source of the weights.

    Source: Gao et al. 2021's release (``network.py``, ``nn.py``).

    >>> network = ResidualEnergy(ResidualSettings((1, 8, 8), num_channels=8, multipliers=(1, 2), num_blocks=1))
    >>> network(torch.zeros(5, 64), torch.tensor(0.0)).shape
    torch.Size([5])
    """

    has_bounded_growth = True
    is_checkpointed = False

    def __init__(self, settings: ResidualSettings, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.settings = settings
        rules = {"is_normalized": settings.is_normalized, "generator": generator}
        width = 4 * settings.num_channels
        self.embed_level = LevelEmbedding(settings.num_channels, settings.level_log_snr)
        self.level_in = SpectralLinear(settings.num_channels, width, **rules)
        self.level_out = SpectralLinear(width, width, **rules)
        self.embed_label = nn.Embedding(settings.num_classes + 1, width) if settings.num_classes else None
        if self.embed_label is not None:
            nn.init.normal_(self.embed_label.weight, std=width**-0.5, generator=generator)
        pixels = settings.image_shape[0] * settings.patch_size**2
        self.enter = SpectralConv2d(pixels, settings.num_channels, **rules)
        self.resolutions = nn.ModuleList()
        size, channels = settings.image_shape[1] // settings.patch_size, settings.num_channels
        for multiplier in settings.multipliers:
            blocks = nn.ModuleList()
            for _ in range(settings.num_blocks):
                outputs = settings.num_channels * multiplier
                blocks.append(_Block(channels, outputs, width, settings, generator))
                channels = outputs
                if size in settings.attention_sizes:
                    blocks.append(Attention(channels, generator=generator))
            self.resolutions.append(blocks)
            size //= 2
        read = math.prod(settings.last_shape) if settings.readout == "places" else channels
        self.readout = SpectralLinear(width, read, is_normalized=False, generator=generator)
        if settings.starts_at_zero:
            nn.init.zeros_(self.readout.kernel.weight)

    @property
    def checkpointed_blocks(self) -> list[nn.Module]:
        """The residual blocks, whose activations are recomputed with ``is_checkpointed``."""
        return [block for blocks in self.resolutions for block in _layers(blocks) if isinstance(block, _Block)]

    def forward(self, x: Tensor, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        """Evaluate g, shape ``(batch,)``.

        Args:
            x: images ``(batch, channels, height, width)`` or flat rows of pixels.
            log_snr: ``()`` for all rows or ``(batch,)``.
            label: integers 0..num_classes, ``()`` or ``(batch,)``; None means unlabelled.

        Raises:
            ValueError: labels given to a network without them, or images of another shape.
        """
        settings = self.settings
        images = as_images(x, settings.image_shape)
        act = _ACTIVATIONS[settings.activation]
        level = self.level_out(act(self.level_in(self.embed_level(log_snr))))
        level = act(with_label(level, self.embed_label, log_snr, label))
        state = self.enter(functional.pixel_unshuffle(images, settings.patch_size))
        for index, blocks in enumerate(self.resolutions):
            if index:
                state = functional.avg_pool2d(state, 2)
            for block in _layers(blocks):
                if not isinstance(block, _Block):
                    state = block(state)
                elif self.is_checkpointed and torch.is_grad_enabled():
                    state = checkpoint(block, state, level, act, use_reentrant=False, preserve_rng_state=False)
                else:
                    state = block(state, level, act)
        features = torch.relu(state) if settings.activation == "leaky_relu" else act(state)
        # Sums of thousands of terms become the log density: they keep the weights' own precision under autocast too.
        with torch.autocast(x.device.type, enabled=False):
            dtype = self.readout.bias.dtype
            read = features.flatten(1) if settings.readout == "places" else features.to(dtype).sum((2, 3))
            return (read.to(dtype) * self.readout(level.to(dtype))).sum(-1)


class _Block(nn.Module):
    """Residual block: two convolutions, the first shifted by features of the level."""

    def __init__(
        self, inputs: int, outputs: int, width: int, settings: ResidualSettings, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        rules = {"is_normalized": settings.is_normalized, "generator": generator}
        self.level = SpectralLinear(width, outputs, **rules)
        self.first = SpectralConv2d(inputs, outputs, **rules)
        variance = 1.0 if settings.starts_at_zero else NEARLY_ZERO
        self.second = SpectralConv2d(outputs, outputs, is_zero=True, variance=variance, **rules)
        self.shortcut = None if inputs == outputs else SpectralConv2d(inputs, outputs, **rules)

    def forward(self, x: Tensor, level: Tensor, act: Activation) -> Tensor:
        inner = self.first(act(x), self.level(level))
        inner = self.second(act(inner))
        return inner + (x if self.shortcut is None else self.shortcut(x))


def _leaky_relu(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2)


def _layers(blocks: nn.Module) -> Iterator[nn.Module]:
    """Iterate over the layers of one resolution, which ``nn.ModuleList`` returns as plain modules."""
    return blocks.children()


_ACTIVATIONS: dict[str, Activation] = {"leaky_relu": _leaky_relu, "silu": functional.silu}
