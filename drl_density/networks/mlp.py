"""A residual multilayer perceptron for vectors, conditioned on the noise level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from drl_density.networks.distinct_levels import by_row, distinct_levels
from drl_density.records.fields import Chance, NonNegativeInt, PositiveFloat, PositiveInt, check_fields


@dataclass(frozen=True)
class MLPSettings:
    """Sizes of an :class:`MLP`.

    Attributes:
        num_features: length d of the input vector.
        width: number of hidden units in every layer.
        num_blocks: number of residual blocks.
        num_fourier_features: number of random Fourier features of the input, 0 for none. They let the energy bend in low
            dimension.
        fourier_scale: standard deviation of the features' frequencies, in radians per unit of x.
        dropout: share of hidden units dropped in training mode.
    """

    num_features: PositiveInt
    width: PositiveInt = 128
    num_blocks: PositiveInt = 2
    num_fourier_features: NonNegativeInt = 0
    fourier_scale: PositiveFloat = 2.0
    dropout: Chance = 0.0

    def __post_init__(self) -> None:
        check_fields(self)


class MLP(nn.Module):
    r"""Residual GELU network :math:`g(x, \lambda)` with a readout that depends on the noise level.

    Each block is :math:`h \leftarrow h + W_2\,\mathrm{gelu}(W_1 h (1 + a(\lambda)) + b(\lambda))`; the output is
    :math:`\langle v(\lambda), \mathrm{gelu}(h)\rangle`. The readout starts at zero, so a new sequence of models equals its
    base. Every part grows at most linearly in x.

    Args:
        settings: sizes of the network.
        generator: source of the random frequencies and weights.

    >>> network = MLP(MLPSettings(num_features=3))
    >>> network(torch.zeros(5, 3), torch.zeros(5)).shape
    torch.Size([5])
    """

    frequencies: Tensor
    level_frequencies: Tensor

    has_bounded_growth = True

    def __init__(self, settings: MLPSettings, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.settings = settings
        width = settings.width
        num_inputs = settings.num_features + 2 * settings.num_fourier_features
        frequencies = torch.randn(settings.num_features, settings.num_fourier_features, generator=generator)
        self.register_buffer("frequencies", frequencies * settings.fourier_scale)
        # Log-SNRs span 10 to 20 units: periods of 4 to 63 units resolve single levels, and the longest does not repeat.
        self.register_buffer("level_frequencies", torch.linspace(0.1, 1.5, 12))
        self.embed_level = nn.Sequential(nn.Linear(25, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.embed = nn.Linear(num_inputs, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(settings.num_blocks))
        self.project = nn.ModuleList(nn.Linear(width, width) for _ in range(settings.num_blocks))
        self.modulate = nn.Linear(width, 2 * width * settings.num_blocks)
        self.readout = nn.Linear(width, width + 1)
        self.dropout = nn.Dropout(settings.dropout)
        self._initialize(generator)

    def _initialize(self, generator: torch.Generator | None) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                bound = 1 / math.sqrt(module.in_features)
                nn.init.uniform_(module.weight, -bound, bound, generator=generator)
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        for module in (self.readout, self.modulate):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    def _level_embedding(self, log_snr: Tensor) -> Tensor:
        scaled = log_snr[..., None] / 4
        angles = log_snr[..., None] * self.level_frequencies
        return self.embed_level(torch.cat([scaled, angles.sin(), angles.cos()], -1))

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Evaluate g(x, lambda), shape ``(batch,)``.

        Args:
            x: vectors of shape ``(batch, num_features)``.
            log_snr: ``()`` for all rows or ``(batch,)``.

        Raises:
            ValueError: vectors of another length.
        """
        if x.shape[-1] != self.settings.num_features:
            raise ValueError(f"expected vectors of length {self.settings.num_features}, got shape {tuple(x.shape)}")
        distinct, row_level = distinct_levels(log_snr)
        level = self._level_embedding(distinct)
        inputs = x
        if self.settings.num_fourier_features:
            angles = x @ self.frequencies
            inputs = torch.cat([x, angles.sin(), angles.cos()], -1)
        state = self.embed(inputs)
        modulation = self.modulate(level).chunk(2 * len(self.hidden), -1)
        for index, (hidden, project) in enumerate(zip(self.hidden, self.project, strict=True)):
            gain, shift = by_row(1 + modulation[2 * index], row_level), by_row(modulation[2 * index + 1], row_level)
            state = state + project(self.dropout(functional.gelu(hidden(state) * gain + shift)))
        readout = by_row(self.readout(level), row_level)
        return (readout[..., :-1] * functional.gelu(state)).sum(-1) + readout[..., -1]
