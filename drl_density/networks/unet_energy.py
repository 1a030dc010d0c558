"""A U-Net as an energy: the inner product of an image with the network's answer to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from drl_density.networks.image_inputs import as_images, with_label
from drl_density.networks.level_embedding import LevelEmbedding

BOUND = 10.0
"""Largest absolute answer for a pixel, in units of the noise; scores that were learned stay far inside."""


@dataclass(frozen=True)
class UNetEnergySettings:
    """Size of a :class:`UNetEnergy`.

    Attributes:
        image_shape: (channels, height, width).
        num_channels: of the feature maps at the finest resolution, even, at least 4.
        multipliers: of the channels at each resolution, halved from one to the next.
        num_blocks: residual blocks at each resolution but the coarsest, on the way down and again on the way up.
        num_middle_blocks: residual blocks at the coarsest resolution, where they cost least and see most.
        patch_size: pixels of a side that are folded into channels before the first convolution.
        num_classes: as in :class:`~drl_density.networks.ResidualSettings`.
        dropout: share of features dropped inside every block in training mode.

    Raises:
        ValueError: images whose sides cannot be folded and halved as often as asked, counts below 1, or a dropout that
            is no share.

    >>> UNetEnergySettings((1, 28, 28), patch_size=2).multipliers
    (1, 2)
    """

    image_shape: tuple[int, int, int]
    num_channels: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    num_blocks: int = 1
    num_middle_blocks: int = 3
    patch_size: int = 1
    num_classes: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        for name in ("num_blocks", "num_middle_blocks", "patch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        factor = self.patch_size * 2 ** (len(self.multipliers) - 1)
        if len(self.image_shape) != 3 or any(size % factor for size in self.image_shape[1:]):
            raise ValueError(
                f"expected image_shape (channels, height, width) with sides divisible by {factor} for "
                f"{len(self.multipliers)} resolutions and patches of {self.patch_size} pixels a side, got "
                f"{tuple(self.image_shape)}; give fewer multipliers or smaller patches"
            )


class UNetEnergy(nn.Module):
    r"""Energy of a U-Net whose answer u has the shape of the image.

    .. math:: g(x, \lambda) = \frac{1}{\sigma(\lambda)} \Big\langle x, \frac{u}{\sqrt{1 + (u / b)^2}} \Big\rangle,
        \qquad u = u(x, \lambda)

    Its gradient contains u itself, so scores are learned much as a denoiser learns them, pixel by pixel at full resolution,
    and it is still the gradient of one function. Answers are bounded by b, so that g grows at most linearly in x and the
    base keeps the density integrable. A new network answers zero. There is no normalisation of features.

    Args:
        settings: sizes.
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
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=module.embedding_dim**-0.5, generator=generator)
        for module in self.modules():
            if isinstance(module, _Block):
                with torch.no_grad():
                    module.second.weight.mul_(0.3)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        """g for images ``(batch, c, h, w)``, or flat rows of them, and ``log_snr`` ``(batch,)`` or ``()``: ``(batch,)``.

        ``label`` ``(batch,)`` or ``()`` holds integers 0..num_classes; None tells nothing.

        Args:
            x: pixels.

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
        answer = self.leave(functional.silu(state))
        # A sum of thousands of terms, and what becomes the log density, in the weights' own precision under autocast too.
        with torch.autocast(x.device.type, enabled=False):
            answer = answer.to(pixels.dtype)
            answer = answer * (1 + (answer / BOUND).square()).rsqrt()
            return (pixels * answer).flatten(1).sum(1) * torch.sigmoid(-log_snr).rsqrt().to(pixels.dtype)


class _Block(nn.Module):
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


def _through(blocks: nn.ModuleList, state: Tensor, level: Tensor) -> Tensor:
    for block in blocks:
        state = block(state, level)
    return state
