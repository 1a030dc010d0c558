"""The floor that a fit must beat: a Gaussian, and independent pixels without a marginal fitted to each of thousands."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from drl_density.datasets import Column

LARGEST_COVARIANCE = 4096
"""Dimensions up to which the Gaussian has a full covariance; beyond, its columns are independent."""

CELLS_AT_ONCE = 2**24
"""Cells of training rows that are counted into histograms at a time."""


def gaussian_log_density(train: Tensor, rows: Tensor) -> Tensor:
    """log density of ``rows`` ``(n, d)`` under the Gaussian of the mean and covariance of ``train`` ``(m, d)``.

    Above :data:`LARGEST_COVARIANCE` columns only their variances are used: the covariance of 128-pixel images takes 19 GB.

    Returns:
        ``(n,)``.
    """
    mean, num_columns = train.mean(0), train.shape[1]
    if num_columns > LARGEST_COVARIANCE:
        return torch.distributions.Normal(mean, (train.var(0) + 1e-6).sqrt()).log_prob(rows).sum(-1)
    covariance = train.T.cov() + 1e-6 * torch.eye(num_columns, dtype=train.dtype)
    return torch.distributions.MultivariateNormal(mean, covariance).log_prob(rows)


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
    counts = torch.zeros(most * len(columns), dtype=torch.long)
    for part in train.split(max(1, CELLS_AT_ONCE // len(columns))):
        counts += torch.bincount((bins(part) + offsets).flatten(), minlength=len(counts))
    chosen = counts[bins(rows) + offsets].double()
    return ((chosen + 1).log() - (len(train) + num_bins).double().log() - width.log()).sum(1)
