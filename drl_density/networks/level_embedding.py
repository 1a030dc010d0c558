"""Sinusoidal features of the noise level."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LevelEmbedding(nn.Module):
    r"""Sines and cosines of a time made from the log-SNR, with frequencies from 1 down to 1/10000.

    Without a table the time is :math:`1000 \cdot \arctan(e^{-\lambda/2}) / (\pi/2)`. With a table of log-SNRs it is the
    position in the table: linear between entries, constant beyond the ends. Level t of the table thus has time t exactly, as
    in networks over discrete levels.

    Args:
        num_features: length of the embedding, even and at least 4.
        level_log_snr: falling log-SNRs of levels 0, 1, ..., or None for no table.

    Raises:
        ValueError: an odd or too short embedding, or a table that does not fall.

    Source: Gao et al. 2021's release (time = level index); Zhu et al. 2024 (arctangent of the log-SNR).

    >>> LevelEmbedding(4, [2.0, 0.0]).time(torch.tensor([2.0, 1.0, -3.0])).tolist()
    [0.0, 0.5, 1.0]
    """

    frequencies: Tensor
    table: Tensor | None

    def __init__(self, num_features: int, level_log_snr: Sequence[float] | None = None) -> None:
        super().__init__()
        if num_features < 4 or num_features % 2:
            raise ValueError(f"an embedding needs an even number of features, at least 4, got {num_features}")
        half = num_features // 2
        # Computed in float64 and rounded once, so that equal settings give equal frequencies on every device.
        frequencies = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, dtype=torch.float64))
        self.register_buffer("frequencies", frequencies.float())
        table = None if level_log_snr is None else torch.tensor(level_log_snr, dtype=torch.float64).float()
        if table is not None and (table.ndim != 1 or not bool((table.diff() < 0).all())):
            raise ValueError(f"level_log_snr must fall from level to level, got {table.tolist()}")
        self.register_buffer("table", table)

    def time(self, log_snr: Tensor) -> Tensor:
        """Map log-SNRs of any shape to their times, in the same shape."""
        if self.table is None:
            return 1000 * torch.arctan(torch.exp(-0.5 * log_snr)) / (0.5 * math.pi)
        return interpolate(self.table, torch.arange(len(self.table)).to(self.table), log_snr)

    def forward(self, log_snr: Tensor) -> Tensor:
        """Compute features ``(..., num_features)`` of log-SNRs ``(...)``."""
        angles = self.time(log_snr)[..., None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], -1)


def interpolate(table: Tensor, values: Tensor, log_snr: Tensor) -> Tensor:
    """Interpolate values linearly in the log-SNR; they stay constant beyond the ends of the table.

    Args:
        table: falling log-SNRs ``(n,)`` at which values are known.
        values: the known values ``(n,)``.
        log_snr: where to evaluate, any shape.

    Returns:
        The interpolated values, in the shape of ``log_snr``.

    >>> interpolate(torch.tensor([2.0, 0.0]), torch.tensor([5.0, 7.0]), torch.tensor([3.0, 1.0]))
    tensor([5., 6.])
    """
    if len(table) == 1:
        return values[0].to(log_snr).expand(log_snr.shape)
    table, values = table.to(log_snr), values.to(log_snr)
    inside = log_snr.minimum(table[0]).maximum(table[-1]).contiguous()
    above = 1 + torch.searchsorted(-table[1:-1].contiguous(), -inside)
    before, after = table.take(above - 1), table.take(above)
    return torch.lerp(values.take(above - 1), values.take(above), (before - inside) / (before - after))
