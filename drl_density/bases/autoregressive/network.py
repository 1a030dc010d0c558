"""The network of an autoregressive density of images: from earlier pixels to the logits of the next one."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from drl_density.bases.autoregressive.settings import PixelSettings

NUM_TRAITS = 3
"""Numbers by which a value is read: its height, whether it is the lowest, and whether it lies outside the image."""


class PixelNetwork(nn.Module):
    r"""Logits :math:`h^\top e_v` of the values of one pixel, from earlier pixels and from its place.

    A first layer reads the pixels of the windows; residual layers follow. The last layer begins at 0, so that a new network
    leaves the histogram of every pixel as it is. The factors :math:`e_v` begin as waves over the values. Weights are
    buffers, since the density that they belong to is fixed once it is fitted.

    Args:
        settings: sizes of the images and of the network.
        generator: source of the initial weights.

    >>> network = PixelNetwork(PixelSettings((1, 2, 2), num_cells=3, width=8))
    >>> read = torch.zeros(5, network.num_read, dtype=torch.long)
    >>> network(read, torch.zeros(5, dtype=torch.long))
    tensor([[0., 0., 0.],
            [0., 0., 0.],
            [0., 0., 0.],
            [0., 0., 0.],
            [0., 0., 0.]])
    """

    traits: Tensor
    places: Tensor
    enter: Tensor
    enter_place: Tensor
    enter_bias: Tensor
    inner: Tensor
    inner_bias: Tensor
    leave: Tensor
    leave_bias: Tensor
    factors: Tensor

    def __init__(self, settings: PixelSettings, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        width, depth, rank = settings.width, settings.depth, settings.rank
        places = settings.places()
        self.num_read = settings.neighbours().shape[1]
        self.register_buffer("traits", _traits(settings.num_cells), persistent=False)
        self.register_buffer("places", places, persistent=False)

        def uniform(*shape: int, fan_in: int) -> Tensor:
            return (2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(fan_in)

        inputs = self.num_inputs + places.shape[1]
        self.register_buffer("enter", uniform(width, self.num_inputs, fan_in=inputs))
        self.register_buffer("enter_place", uniform(width, places.shape[1], fan_in=inputs))
        self.register_buffer("enter_bias", uniform(width, fan_in=inputs))
        self.register_buffer("inner", uniform(depth, width, width, fan_in=width))
        self.register_buffer("inner_bias", uniform(depth, width, fan_in=width))
        self.register_buffer("leave", torch.zeros(rank, width))
        self.register_buffer("leave_bias", torch.zeros(rank))
        self.register_buffer("factors", _factors(settings.num_cells, rank, generator))

    @property
    def num_inputs(self) -> int:
        """Numbers that the first layer reads of earlier pixels."""
        return NUM_TRAITS * self.num_read

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.enter.dtype

    def forward(self, read: Tensor, places: Tensor, drop: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Logits of the values ``(n, num_cells)``, relative to the histogram.

        Args:
            read: values of the earlier pixels, ``(n, num_read)``; ``num_cells`` for those outside the image.
            places: flat index of the value to be predicted, ``(n,)``.
            drop: function of the hidden units of every layer that leaves some of them out.
        """
        inputs = self.traits.index_select(0, read.flatten().int()).reshape(len(read), self.num_inputs)
        starts = functional.linear(self.places.to(self.dtype), self.enter_place, self.enter_bias)
        hidden = functional.linear(inputs.to(self.dtype), self.enter) + starts[places]
        for weight, bias in zip(self.inner, self.inner_bias, strict=True):
            hidden = hidden + functional.linear(_active(hidden, drop), weight, bias)
        code = functional.linear(_active(hidden, drop), self.leave, self.leave_bias)
        return code @ self.factors.T


def _active(hidden: Tensor, drop: Callable[[Tensor], Tensor] | None) -> Tensor:
    active = functional.gelu(hidden, approximate="tanh")
    return active if drop is None else drop(active)


def _traits(num_cells: int) -> Tensor:
    """How every value is read, and as the last row what lies outside the image, ``(num_cells + 1, NUM_TRAITS)``."""
    traits = torch.zeros(num_cells + 1, NUM_TRAITS)
    traits[:-1, 0] = torch.linspace(-1, 1, num_cells)
    traits[0, 1] = traits[-1, 2] = 1.0
    return traits


def _factors(num_cells: int, rank: int, generator: torch.Generator | None) -> Tensor:
    """Factors of every value ``(num_cells, rank)``: waves, the lowest and the highest value, and random numbers."""
    share = (torch.arange(num_cells) + 0.5) / num_cells
    waves = torch.cos(math.pi * torch.arange(1, rank // 2 + 1) * share[:, None])
    ends = torch.zeros(num_cells, 2)
    ends[0, 0] = ends[-1, 1] = 2.0
    noise = 0.3 * torch.randn(num_cells, rank, generator=generator)
    return torch.cat([ends, waves, noise], 1)[:, :rank].contiguous()
