"""Sinusoidal features of the noise level."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LevelEmbedding(nn.Module):
    r"""Sines and cosines of a time made from the log-SNR, with frequencies from 1 down to 1/10000.

    Without a table the time is :math:`1000 \cdot \arctan(e^{-\lambda/2}) / (\pi/2)`. With a table of log-SNRs it is the
    level's place in the table, linear between entries and constant beyond the ends, so that level t of the table gives
    the time t exactly, as networks over discrete levels have it.

    Args:
        num_features: length of the embedding, even, at least 4.
        level_log_snr: falling log-SNRs of levels 0, 1, ..., or None.

    Source: Gao et al. 2021's release (time = level index); Zhu et al. 2024 (arctangent of the log-SNR).

    >>> LevelEmbedding(4, [2.0, 0.0]).time(torch.tensor([2.0, 1.0, -3.0])).tolist()
    [0.0, 0.5, 1.0]
    """

    def __init__(self, num_features: int, level_log_snr: Sequence[float] | None = None) -> None:
        super().__init__()
        if num_features < 4 or num_features % 2:
            raise ValueError(f"an embedding needs an even number of features, at least 4, got {num_features}")
        half = num_features // 2
        frequencies = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, dtype=torch.float64))
        self.register_buffer("frequencies", frequencies.float())
        table = None if level_log_snr is None else torch.tensor(level_log_snr, dtype=torch.float64).float()
        if table is not None and (table.ndim != 1 or not bool((table.diff() < 0).all())):
            raise ValueError(f"level_log_snr must fall from level to level, got {table.tolist()}")
        self.register_buffer("table", table)

    def time(self, log_snr: Tensor) -> Tensor:
        """The time of each log-SNR, same shape."""
        if self.table is None:
            return 1000 * torch.arctan(torch.exp(-0.5 * log_snr)) / (0.5 * math.pi)
        return interpolate(self.table, torch.arange(len(self.table)).to(self.table), log_snr)

    def forward(self, log_snr: Tensor) -> Tensor:
        """Features ``(..., num_features)`` of log-SNR ``(...)``."""
        angles = self.time(log_snr)[..., None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], -1)


def interpolate(table: Tensor, values: Tensor, log_snr: Tensor) -> Tensor:
    """``values`` ``(n,)`` given at falling log-SNRs ``table`` ``(n,)``, linear between, constant beyond the ends."""
    if len(table) == 1:
        return values[0].to(log_snr).expand(log_snr.shape)
    table, values = table.to(log_snr), values.to(log_snr)
    inside = log_snr.minimum(table[0]).maximum(table[-1]).contiguous()
    above = 1 + torch.searchsorted(-table[1:-1].contiguous(), -inside)
    before, after = table.take(above - 1), table.take(above)
    return torch.lerp(values.take(above - 1), values.take(above), (before - inside) / (before - after))
