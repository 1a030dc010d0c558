"""A U-Net as an energy: the inner product of an image with the network's output for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from drl_density.networks.images.image_inputs import as_images, with_label
from drl_density.networks.level_embedding import LevelEmbedding
from drl_density.records.fields import Chance, Interval, NonNegativeInt, PositiveInt, check_fields

BOUND = 10.0
"""Largest absolute output for a pixel, in units of the noise. Learned scores are of order 1, far inside the bound."""


@dataclass(frozen=True)
class UNetEnergySettings:
    """Sizes of a :class:`UNetEnergy`.

    Attributes:
        image_shape: channels, height and width of an image.
        num_channels: number of channels at the finest resolution, even and at least 4.
        multipliers: channels at each resolution, as multiples of ``num_channels``. Height and width are halved from one
            resolution to the next.
        num_blocks: number of residual blocks at each resolution except the coarsest, both on the way down and up.
        num_middle_blocks: number of residual blocks at the coarsest resolution, where blocks are cheapest and see most.
        patch_size: side in pixels of the patches that are folded into channels before the first convolution.
        num_classes: number of labels, as in :class:`~drl_density.networks.ResidualSettings`.
        dropout: share of features dropped inside every block in training mode.
        has_linear_readout: whether the output is a linear map of the features. Otherwise a SiLU comes before it, and a rate
            that is too high can push all features to where the SiLU is zero: the network is then silent for good.

    Raises:
        ValueError: images whose sides cannot be folded and halved that often, counts below 1, or a dropout outside [0, 1).

    >>> UNetEnergySettings((1, 28, 28), patch_size=2).multipliers
    (1, 2)
    """

    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    num_channels: Annotated[int, Interval(4)] = 32
    multipliers: tuple[PositiveInt, ...] = (1, 2)
    num_blocks: PositiveInt = 1
    num_middle_blocks: PositiveInt = 3
    patch_size: PositiveInt = 1
    num_classes: NonNegativeInt = 0
    dropout: Chance = 0.0
    has_linear_readout: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        factor = self.patch_size * 2 ** (len(self.multipliers) - 1)
        if any(size % factor for size in self.image_shape[1:]):
            raise ValueError(
                f"expected image_shape (channels, height, width) with sides divisible by {factor} for "
                f"{len(self.multipliers)} resolutions and patches of {self.patch_size} pixels a side, got "
                f"{tuple(self.image_shape)}; give fewer multipliers or smaller patches"
            )


class UNetEnergy(nn.Module):
    r"""Energy of a U-Net whose output u has the shape of the image.

    .. math:: g(x, \lambda) = \frac{1}{\sigma(\lambda)} \Big\langle x, \frac{u}{\sqrt{1 + (u / b)^2}} \Big\rangle,
        \qquad u = u(x, \lambda)

    Its gradient contains u itself. Scores are therefore learned pixel by pixel at full resolution, as a denoiser learns
    them, and are still the gradient of one function. Outputs are bounded by b, so that g grows at most linearly in x and the
    base keeps the density integrable. A new network is zero. There is no normalisation of features.

    Args:
        settings: sizes of the network.
        generator: source of the weights.

    Source: the inner product of Du et al. 2023 (arXiv 2302.11552); Salimans and Ho 2021 for energies of this kind;
        the bound is ours.

    >>> network = UNetEnergy(UNetEnergySettings((1, 8, 8), num_channels=8, patch_size=2))
    >>> network(torch.zeros(5, 64), torch.tensor(0.0)).shape
    torch.Size([5])
    """

    has_bounded_growth = True

    def __init__(self, settings: UNetEnergySettings, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.settings = settings
        widths = [settings.num_channels * multiplier for multiplier in settings.multipliers]
        level, pixels = 4 * settings.num_channels, settings.image_shape[0] * settings.patch_size**2
        self.embed_level = LevelEmbedding(settings.num_channels)
        self.level = nn.Sequential(nn.Linear(settings.num_channels, level), nn.SiLU(), nn.Linear(level, level))
        self.embed_label = nn.Embedding(settings.num_classes + 1, level) if settings.num_classes else None
        self.enter = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        before = widths[0]
        for width in widths[:-1]:
            self.down.append(_blocks(before, width, settings.num_blocks, level, settings.dropout))
            before = width
        self.middle = _blocks(before, widths[-1], settings.num_middle_blocks, level, settings.dropout)
        before = widths[-1]
        for width in reversed(widths[:-1]):
            self.up.append(_blocks(before + width, width, settings.num_blocks, level, settings.dropout))
            before = width
        self.leave = nn.Conv2d(before, pixels, 3, padding=1)
        self._initialize(generator)

    def _initialize(self, generator: torch.Generator | None) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu", generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=module.embedding_dim**-0.5, generator=generator)
        for module in self.modules():
            if isinstance(module, _Block):
                # Features are not normalised: smaller second convolutions keep their variance from growing block by block.
                with torch.no_grad():
                    module.second.weight.mul_(0.3)
        nn.init.zeros_(self.leave.weight)

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
        pixels = functional.pixel_unshuffle(as_images(x, settings.image_shape), settings.patch_size)
        level = with_label(self.level(self.embed_level(log_snr)), self.embed_label, log_snr, label)
        level = functional.silu(level)
        state, skips = self.enter(pixels), []
        for blocks in self.down:
            state = _through(blocks, state, level)
            skips.append(state)
            state = functional.avg_pool2d(state, 2)
        state = _through(self.middle, state, level)
        for blocks in self.up:
            state = torch.cat([functional.interpolate(state, scale_factor=2.0), skips.pop()], 1)
            state = _through(blocks, state, level)
        output = self.leave(state if settings.has_linear_readout else functional.silu(state))
        # A sum of thousands of terms becomes the log density: it keeps the weights' own precision under autocast too.
        with torch.autocast(x.device.type, enabled=False):
            output = output.to(pixels.dtype)
            output = output * (1 + (output / BOUND).square()).rsqrt()
            return (pixels * output).flatten(1).sum(1) * torch.sigmoid(-log_snr).rsqrt().to(pixels.dtype)


class _Block(nn.Module):
    """Residual block: two convolutions, the first shifted by features of the level."""

    def __init__(self, inputs: int, outputs: int, level: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.level = nn.Linear(level, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        inner = self.first(functional.silu(x)) + self.level(level)[..., None, None]
        return self.shortcut(x) + self.second(self.dropout(functional.silu(inner)))


def _blocks(inputs: int, outputs: int, count: int, level: int, dropout: float) -> nn.ModuleList:
    return nn.ModuleList(_Block(outputs if index else inputs, outputs, level, dropout) for index in range(count))


def _through(blocks: nn.Module, state: Tensor, level: Tensor) -> Tensor:
    for block in blocks.children():
        state = block(state, level)
    return state
