"""The initialiser of cooperative training: a U-Net that proposes a cleaner state from a noisier one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from drl_density.networks.images.attention import Attention
from drl_density.networks.images.image_inputs import as_images, with_label
from drl_density.networks.level_embedding import LevelEmbedding
from drl_density.records.fields import Chance, NonNegativeInt, PositiveInt, check_fields


@dataclass(frozen=True)
class UNetSettings:
    """Sizes of a :class:`UNet`.

    Attributes:
        image_shape: channels, height and width of an image.
        num_channels: number of channels of the first feature map.
        multipliers: channels at each resolution, as multiples of ``num_channels``.
        num_blocks: number of residual blocks at each resolution on the way down; the way up has one more.
        attention_sizes: heights of feature maps with attention after every block.
        num_groups: largest number of groups of the group normalisation; it must divide the channels.
        dropout: share of features dropped in training mode.
        num_classes: number of labels, as in :class:`~drl_density.networks.ResidualSettings`.
        starts_at_base: whether u shifts draws of the cleaner state under the base of the sequence, and not the noisier
            state; :func:`~drl_density.training.propose` makes these draws.

    Raises:
        ValueError: images whose sides cannot be halved that often.
    """

    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    num_channels: PositiveInt = 64
    multipliers: tuple[PositiveInt, ...] = (1, 1, 1)
    num_blocks: PositiveInt = 3
    attention_sizes: tuple[PositiveInt, ...] = (8, 16)
    num_groups: PositiveInt = 32
    dropout: Chance = 0.1
    num_classes: NonNegativeInt = 0
    starts_at_base: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        factor = 2 ** (len(self.multipliers) - 1)
        if any(size % factor for size in self.image_shape[1:]):
            raise ValueError(
                f"expected image_shape (channels, height, width) with sides divisible by {factor} for "
                f"{len(self.multipliers)} resolutions, got {tuple(self.image_shape)}; give fewer multipliers"
            )


class UNet(nn.Module):
    r"""A residual U-Net :math:`x^+ + u(x^+, \lambda^+)` with an output of the shape of its input; a new one is the identity.

    Args:
        settings: sizes of the network.
        generator: source of the weights.

    Source: Zhu et al. 2024's release (``models/unet.py``); Ho et al. 2020 for the architecture.

    >>> UNet(UNetSettings((1, 8, 8), num_channels=8, num_blocks=1))(torch.ones(2, 64), torch.tensor(0.0)).shape
    torch.Size([2, 64])
    """

    def __init__(self, settings: UNetSettings, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.settings = settings
        channels, width = settings.num_channels, 4 * settings.num_channels
        self.embed_level = LevelEmbedding(channels)
        self.level = nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))
        self.embed_label = nn.Embedding(settings.num_classes + 1, width) if settings.num_classes else None
        self.enter = nn.Conv2d(settings.image_shape[0], channels, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        size, skips = settings.image_shape[1], [channels]
        for index, multiplier in enumerate(settings.multipliers):
            for _ in range(settings.num_blocks):
                self.down.append(_Block(channels, settings.num_channels * multiplier, width, settings, size))
                channels = settings.num_channels * multiplier
                skips.append(channels)
            if index < len(settings.multipliers) - 1:
                self.down.append(_Block(channels, channels, width, settings, 0, resample=0.5))
                skips.append(channels)
                size //= 2
        self.middle = nn.ModuleList(_Block(channels, channels, width, settings, size) for size in (-1, 0))
        for index, multiplier in reversed(list(enumerate(settings.multipliers))):
            for _ in range(settings.num_blocks + 1):
                outputs = settings.num_channels * multiplier
                self.up.append(_Block(channels + skips.pop(), outputs, width, settings, size))
                channels = outputs
            if index:
                self.up.append(_Block(channels, channels, width, settings, 0, resample=2.0))
                size *= 2
        self.norm = _group_norm(channels, settings.num_groups)
        self.leave = nn.Conv2d(channels, settings.image_shape[0], 3, padding=1)
        self._initialize(generator)

    @property
    def starts_at_base(self) -> bool:
        """Whether the change to the input is meant for draws of the cleaner state under the base."""
        return self.settings.starts_at_base

    def _initialize(self, generator: torch.Generator | None) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=module.embedding_dim**-0.5, generator=generator)
        for module in self.modules():
            if isinstance(module, _Block):
                nn.init.zeros_(module.second.weight)
            elif isinstance(module, Attention):
                nn.init.zeros_(module.out.weight)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        """Compute the means of proposals, in the shape of ``x``.

        Args:
            x: noisier states ``(batch, channels, height, width)`` or flat rows of them.
            log_snr: log-SNR of the noisier states, ``()`` or ``(batch,)``.
            label: integers 0..num_classes, ``()`` or ``(batch,)``; None means unlabelled.

        Raises:
            ValueError: labels given to a network without them, or images of another shape.
        """
        level = with_label(self.level(self.embed_level(log_snr)), self.embed_label, log_snr, label)
        level = functional.silu(level)
        images = as_images(x, self.settings.image_shape)
        state = self.enter(images)
        skips = [state]
        for block in self.down:
            state = block(state, level)
            skips.append(state)
        for block in self.middle:
            state = block(state, level)
        for block in self.up:
            state = block(state if block.resample else torch.cat([state, skips.pop()], 1), level)
        return (images + self.leave(functional.silu(self.norm(state)))).reshape(x.shape)


class _Block(nn.Module):
    """Residual block whose second normalisation is scaled and shifted by features of the level.

    It ends in attention if ``size``, the height of its feature map, is among ``attention_sizes`` or equal to -1.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int, settings: UNetSettings, size: int, *, resample: float = 0.0
    ) -> None:
        super().__init__()
        self.resample = resample
        self.norm_in, self.norm_out = (_group_norm(count, settings.num_groups) for count in (inputs, outputs))
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.level = nn.Linear(width, 2 * outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.dropout = nn.Dropout(settings.dropout)
        has_attention = size == -1 or size in settings.attention_sizes
        groups = _num_groups(outputs, settings.num_groups)
        self.attention = Attention(outputs, num_groups=groups) if has_attention else nn.Identity()

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        state = functional.silu(self.norm_in(x))
        if self.resample < 1 and self.resample:
            state, x = functional.avg_pool2d(state, 2), functional.avg_pool2d(x, 2)
        elif self.resample:
            state, x = (functional.interpolate(value, scale_factor=2.0) for value in (state, x))
        scale, shift = self.level(level)[..., None, None].chunk(2, -3)
        state = self.norm_out(self.first(state)) * (1 + scale) + shift
        state = self.second(self.dropout(functional.silu(state)))
        return self.attention(state + self.shortcut(x))


def _num_groups(num_channels: int, most: int) -> int:
    return max(count for count in range(1, most + 1) if num_channels % count == 0)


def _group_norm(num_channels: int, most: int) -> nn.GroupNorm:
    return nn.GroupNorm(_num_groups(num_channels, most), num_channels, eps=1e-6)
