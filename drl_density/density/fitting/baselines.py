"""The floor that a fit must beat: a Gaussian, and independent pixels without a marginal fitted to each of thousands."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from drl_density.bases import NoisedGaussianMixture
from drl_density.datasets import Column
from drl_density.density.fitted import Baselines
from drl_density.density.fitting.completions import weigh_completions
from drl_density.density.fitting.selection import (
    validation_sizes,
)
from drl_density.density.fitting.table import Table
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.model import EnergySequence
from drl_density.transforms import MarginalGaussianization, fit_marginal_gaussianization

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


def observed_baselines(table: Table, model: EnergySequence, log_z: float, *, seed: int) -> tuple[float, float, float]:
    """Mean validation log density of the observed cells, in data units: model, Gaussian in model space, independent."""
    rows = table.held_out(table.dataset.validation, seed=seed, least=256, most=1024)
    is_hole = rows.isnan()
    filled = torch.where(is_hole, table.middle, rows)
    u = table.transform(filled)
    jacobian = table.slopes(filled).masked_fill(is_hole, 0.0).sum(1).mean()
    is_fitted = isinstance(table.transform, MarginalGaussianization)
    train = table.rows(table.dataset.train, torch.Generator().manual_seed(seed))
    marginals = table.transform if is_fitted else fit_marginal_gaussianization(train)
    independent = marginals.marginal_log_density(filled).masked_fill(is_hole, 0.0).sum(1).mean()
    completed = table.completed_rows()
    covariance = completed.T.cov() + 1e-6 * torch.eye(u.shape[1], dtype=u.dtype)
    gaussian = NoisedGaussianMixture(torch.ones(1), completed.mean(0)[None], covariance[None]).conditional()
    held_out = weigh_completions(u, is_hole, table.bases.best, table.bases.sigma_min, seed=seed)
    with torch.no_grad():
        tilted = held_out.mean(model.log_density(held_out.rows, 0)) - log_z
    observed = gaussian.observed_log_density(u, is_hole).mean()
    return float(tilted + jacobian), float(observed + jacobian), float(independent)


def validation_baselines(
    table: Table, model: EnergySequence, log_z: float, settings: FitSettings, *, seed: int
) -> Baselines:
    """Validation figures of the model, a Gaussian in model space, and independent marginals, in data units."""
    if table.drawn is not None:
        return Baselines(*observed_baselines(table, model, log_z, seed=seed))
    data_rows = table.validation_rows(seed=seed, **validation_sizes(settings))
    generator = torch.Generator().manual_seed(0)
    most = max(1000, 2**27 // data_rows.shape[1])  # a gigabyte
    train = table.rows(table.some_training_rows(generator, most=min(50_000, most)), generator)
    u_train, u = table.transform(train), table.transform(data_rows)
    jacobian = table.transform.log_abs_det_jacobian(data_rows, u)
    gaussian = gaussian_log_density(u_train, u) + jacobian
    with torch.no_grad():
        tilted = model.log_density(u.float(), 0).double() - log_z + jacobian
    columns = table.dataset.columns
    is_pixels = settings.is_over_images
    if is_pixels and all(column.width and math.isfinite(column.upper - column.lower) for column in columns):
        independent = histogram_log_density(table.dataset.train, data_rows, columns)
    else:
        is_fitted = isinstance(table.transform, MarginalGaussianization)
        marginals = table.transform if is_fitted else fit_marginal_gaussianization(train)
        with torch.no_grad():
            independent = marginals.marginal_log_density(data_rows).sum(-1)
    return Baselines(float(tilted.mean()), float(gaussian.mean()), float(independent.mean()))
