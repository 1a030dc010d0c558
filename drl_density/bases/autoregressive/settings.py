"""Sizes of an autoregressive density of images, and the order of its values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from drl_density.errors import DataError
from drl_density.records.fields import Interval, PositiveInt, check_fields

STRIDES = (1, 2, 4)
"""Distances of the pixels that are read, which grow with the distance from the pixel that is predicted."""


@dataclass(frozen=True)
class PixelSettings:
    """Sizes of :class:`~drl_density.bases.AutoregressivePixels`.

    Attributes:
        shape: channels, height and width of an image.
        num_cells: number of values of a pixel, such as 256 grey levels.
        reach: columns that the densest window reaches to both sides; it covers half as many rows above.
        num_windows: windows that are read, each of twice the distance between pixels of the one before, up to 3.
        width: number of hidden units in every layer.
        depth: number of residual layers after the first layer.
        rank: number of factors in the table of logits over the values of a pixel.

    >>> PixelSettings((1, 28, 28)).num_features
    784
    """

    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    num_cells: Annotated[int, Interval(2, 2**15 - 1)] = 256
    reach: PositiveInt = 5
    num_windows: Annotated[int, Interval(1, len(STRIDES))] = 2
    width: PositiveInt = 128
    depth: PositiveInt = 2
    rank: PositiveInt = 64

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def num_features(self) -> int:
        """Number d of values of an image."""
        channels, height, width = self.shape
        return channels * height * width

    def order(self) -> Tensor:
        """Flat indices of the values ``(d,)`` in their order: pixel by pixel in rows, and by channel inside a pixel."""
        channels, height, width = self.shape
        return torch.arange(self.num_features).reshape(channels, height * width).T.flatten()

    def neighbours(self) -> Tensor:
        """Flat indices of the earlier values that each value is predicted from, ``(d, taps)``; d stands for none.

        They are all channels of the pixels in the windows, and the earlier channels of the pixel itself.
        """
        channels, height, width = self.shape
        outside = self.num_features
        flat = torch.arange(outside)
        channel, row, column = flat // (height * width), flat // width % height, flat % width
        down, right = torch.tensor(self._offsets(), dtype=torch.long).reshape(-1, 2).T
        rows, columns = row[:, None] + down, column[:, None] + right
        is_inside = (rows >= 0) & (columns >= 0) & (columns < width)
        place = torch.where(is_inside, rows * width + columns, 0)
        others = torch.arange(channels) * (height * width)
        read = torch.where(is_inside[..., None], place[..., None] + others, outside).flatten(1)
        own = (flat % (height * width))[:, None] + others[:-1]
        return torch.cat([read, torch.where(torch.arange(channels - 1) < channel[:, None], own, outside)], 1)

    def places(self) -> Tensor:
        """Functions of the place of every value, ``(d, places)``: waves over rows and columns, and the channel."""
        channels, height, width = self.shape
        flat = torch.arange(self.num_features)
        shares = ((flat // width % height + 0.5) / height, (flat % width + 0.5) / width)
        angles = [torch.pi * frequency * share for frequency in range(1, 5) for share in shares]
        waves = [wave(angle) for angle in angles for wave in (torch.cos, torch.sin)]
        own = flat // (height * width)
        return torch.stack([*waves, *((own == channel).float() for channel in range(channels))], 1)

    def _offsets(self) -> list[tuple[int, int]]:
        """Rows and columns from a pixel to the earlier pixels in its windows, each once."""
        found: dict[tuple[int, int], None] = {}
        for stride in STRIDES[: self.num_windows]:
            above, aside = stride * ((self.reach + 1) // 2), stride * self.reach
            rows, columns = range(-above, 1, stride), range(-aside, aside + 1, stride)
            found |= dict.fromkeys(pair for pair in itertools.product(rows, columns) if pair < (0, 0))
        return list(found)


def image_shape(event_shape: Sequence[int]) -> tuple[int, int, int]:
    """Channels, height and width of an event; one row of pixels for a vector.

    Args:
        event_shape: ``(d,)``, ``(height, width)`` or ``(channels, height, width)``.

    Raises:
        DataError: another number of dimensions.

    >>> image_shape((28, 28))
    (1, 28, 28)
    """
    sizes = [int(size) for size in event_shape]
    if not 1 <= len(sizes) <= 3:
        raise DataError(f"expected events (d,), (height, width) or (channels, height, width), got {tuple(event_shape)}")
    channels, height, width = [1] * (3 - len(sizes)) + sizes
    return channels, height, width
