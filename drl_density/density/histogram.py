"""Independent pixels: the floor of a fit to images, without fitting a marginal to each of thousands of columns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from drl_density.datasets import Column


def histogram_log_density(train: Tensor, rows: Tensor, columns: Sequence[Column]) -> Tensor:
    """log density of dequantised ``rows`` ``(n, d)`` under every column's own histogram of ``train`` ``(m, d)``.

    One bin per value of the column's grid, each count raised by one: log((count + 1) / (m + K)) - log width, summed.

    Returns:
        ``(n,)``, float64.
    """
    width, lower, upper = (
        torch.tensor([getattr(column, name) for column in columns], dtype=torch.float64)
        for name in ("width", "lower", "upper")
    )
    num_bins = ((upper - lower) / width).round().long()
    most = int(num_bins.max())

    def bins(x: Tensor) -> Tensor:
        return ((x.double() - lower) / width).floor().long().minimum(num_bins - 1)

    offsets = most * torch.arange(len(columns))
    counts = torch.bincount((bins(train) + offsets).flatten(), minlength=most * len(columns))
    chosen = counts[bins(rows) + offsets].double()
    return ((chosen + 1).log() - (len(train) + num_bins).double().log() - width.log()).sum(1)
