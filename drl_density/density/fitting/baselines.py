"""The baselines that a fit must beat: a Gaussian, and independent columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from drl_density.bases import NoisedGaussianMixture
from drl_density.datasets import Column
from drl_density.density.fitting.completions import weigh_completions
from drl_density.density.fitting.plan import FitPlan
from drl_density.density.fitting.table import TableWithBases, TableWithMissing
from drl_density.density.provenance import Baselines
from drl_density.model import EnergySequence
from drl_density.transforms import fit_marginal_gaussianization

LARGEST_COVARIANCE = 4096
"""Dimensions up to which the Gaussian has a full covariance; beyond, its columns are independent."""

CELLS_AT_ONCE = 2**24
"""Values of training rows that are counted into histograms at a time."""

MOST_CELLS, ROWS_PER_COLUMN = 2**23, 10
"""Values of training rows that the Gaussian is fitted to, 64 megabytes in float64; or rows for each column, if more."""

LEAST_ROWS_PER_COLUMN = 2
"""Rows for each column from which the covariance of the Gaussian is not shrunk."""

RIDGE = 1e-6
"""Variance added to every direction of model space, so that duplicated columns keep an invertible covariance."""


def gaussian_log_density(train: Tensor, rows: Tensor) -> Tensor:
    """log density of ``rows`` ``(n, d)`` under the Gaussian with the mean and covariance of ``train`` ``(m, d)``.

    Above :data:`LARGEST_COVARIANCE` columns only their variances are used: the covariance of 128-pixel images takes 19 GB.
    That of fewer than twice as many rows as columns is shrunk (Ledoit and Wolf 2004), since it is singular or nearly so.

    Returns:
        Log densities ``(n,)``.
    """
    mean, num_columns = train.mean(0), train.shape[1]
    if num_columns > LARGEST_COVARIANCE:
        return torch.distributions.Normal(mean, (train.var(0) + RIDGE).sqrt()).log_prob(rows).sum(-1)
    if len(train) < LEAST_ROWS_PER_COLUMN * num_columns:
        from sklearn.covariance import ledoit_wolf

        covariance = torch.as_tensor(ledoit_wolf(train.numpy())[0]).to(train)
    else:
        covariance = train.T.cov()
    covariance = covariance + RIDGE * torch.eye(num_columns, dtype=train.dtype)
    return torch.distributions.MultivariateNormal(mean, covariance).log_prob(rows)


def histogram_log_density(train: Tensor, rows: Tensor, columns: Sequence[Column]) -> Tensor:
    """log density of dequantised ``rows`` ``(n, d)`` under a histogram of each column of ``train`` ``(m, d)``.

    Each value of a column's grid has one bin, whose count is raised by one: log((count + 1) / (m + K)) - log width, summed
    over columns, for K bins.

    Returns:
        Log densities ``(n,)``, float64.
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


def validation_baselines(
    plan: FitPlan, model: EnergySequence, log_z: float, *, reference: float | None = None
) -> Baselines:
    """Mean validation log density of the model, of a Gaussian in model space, and of independent marginals, in data units.

    Args:
        plan: Plan of the fit.
        model: Fitted sequence.
        log_z: log Z of its level 0.
        reference: Mean log density of the validation rows in model space, where it is known for a density that is its
            reference alone; None computes it.
    """
    if isinstance(plan.table, TableWithMissing):
        return _observed_baselines(plan.table, plan, model, log_z)
    table, held_out = plan.table, plan.held_out
    data_rows = table.validation_rows(seed=plan.seed, least=held_out.least, most=held_out.most)
    generator = torch.Generator().manual_seed(0)
    most = max(1000, MOST_CELLS // data_rows.shape[1], ROWS_PER_COLUMN * data_rows.shape[1])
    train = table.rows(table.some_training_rows(generator=generator, most=min(50_000, most)), generator=generator)
    u_train, (u, jacobian) = table.transform(train), table.transform.with_log_jacobian(data_rows)
    gaussian = gaussian_log_density(u_train, u) + jacobian
    if reference is None:
        with torch.no_grad():
            reference = float(model.log_density(u.float(), 0).double().mean())
    columns = table.dataset.columns
    if plan.is_over_images and all(column.width and math.isfinite(column.upper - column.lower) for column in columns):
        independent = histogram_log_density(table.dataset.train, data_rows, columns)
    else:
        with torch.no_grad():
            independent = _marginal_log_density(table, train, data_rows).sum(-1)
    return Baselines(reference - log_z + float(jacobian.mean()), float(gaussian.mean()), float(independent.mean()))


def _observed_baselines(table: TableWithMissing, plan: FitPlan, model: EnergySequence, log_z: float) -> Baselines:
    """The same figures for the observed values of rows with missing values."""
    held_out = plan.held_out
    rows = table.held_out(table.dataset.validation, seed=plan.seed, least=held_out.least, most=held_out.most)
    is_missing = rows.isnan()
    filled = torch.where(is_missing, table.medians, rows)
    u = table.transform(filled)
    jacobian = table.slopes(filled).masked_fill(is_missing, 0.0).sum(1).mean()
    train = table.rows(table.dataset.train, generator=torch.Generator().manual_seed(plan.seed))
    marginals = _marginal_log_density(table, train, filled)
    independent = marginals.masked_fill(is_missing, 0.0).sum(1).mean()
    completed = table.completed_rows()
    covariance = completed.T.cov() + RIDGE * torch.eye(u.shape[1], dtype=u.dtype)
    gaussian = NoisedGaussianMixture(torch.ones(1), completed.mean(0)[None], covariance[None]).conditional()
    weighted = weigh_completions(u, is_missing, table.bases.best, table.bases.sigma_min, seed=plan.seed)
    with torch.no_grad():
        tilted = weighted.mean(model.log_density(weighted.rows, 0)) - log_z
    observed = gaussian.observed_log_density(u, is_missing).mean()
    return Baselines(float(tilted + jacobian), float(observed + jacobian), float(independent))


def _marginal_log_density(table: TableWithBases, train: Tensor, rows: Tensor) -> Tensor:
    """log density of each column of ``rows`` under its own marginal: the transform's, or one fitted to ``train``."""
    held = table.transform.marginal_log_density(rows)
    return fit_marginal_gaussianization(train).marginal_log_density(rows) if held is None else held
