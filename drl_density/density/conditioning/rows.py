"""Conditional draws of whole rows by sequential Monte Carlo, with checks of what is given."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from drl_density.datasets.column import MOST_SHOWN
from drl_density.density.conditioning.cells import cell_positions
from drl_density.density.fitted import FittedModel
from drl_density.errors import DataError, DataWarning
from drl_density.inverse_problems import ConditionalResult, ConditionalSettings, plan_conditional, sample_conditional

FAR = 2.0
"""Multiples of the largest distance of any stored draw from the median beyond which a given value is called far."""


def sample_rows(
    density: FittedModel,
    rows: Tensor,
    is_missing: Tensor,
    *,
    num_samples: int,
    settings: ConditionalSettings,
    generator: torch.Generator | None = None,
) -> ConditionalResult:
    """Conditional draws of whole rows ``(n, d)`` in data units; the result is in model space.

    A given label, or value of another closed support, stands for its whole cell: every replicate takes its own point in it,
    weighted by the Jacobian there.

    Raises:
        DataError: observed values out of bounds, or a transform that mixes columns.
    """
    filled = torch.where(is_missing, density.middle, rows.double())
    u = density.to_model(filled)
    refuse_outside(density, u, rows, is_missing)
    places, in_cell = cell_positions(density.columns, filled, is_missing, settings.num_replicates, generator=generator)
    # An error for a transform that mixes columns.
    states, slopes = density.transform.with_column_log_jacobian(places)
    offsets = (slopes * in_cell[:, None]).sum(-1)
    pool = density.to_model(density.pool.double())
    _warn_of_far(density, u, rows, is_missing, pool)
    plan = plan_conditional(density.model, pool, u, is_missing, settings=settings, generator=generator)
    return sample_conditional(
        density.model,
        states,
        is_missing,
        num_samples,
        plan=plan,
        settings=settings,
        log_offsets=offsets,
        generator=generator,
    )


def _warn_of_far(density: FittedModel, u: Tensor, rows: Tensor, is_missing: Tensor, pool: Tensor) -> None:
    """Warn of observed values further out than twice what any stored draw reaches."""
    middle = pool.median(0).values
    reach = (pool - middle).abs().amax(0)
    far = (((u - middle).abs() > FAR * reach) & ~is_missing).nonzero()
    if len(far):
        row, column = far[0].tolist()
        warnings.warn(
            f"{len(far)} observed values lie far outside the data, the first {float(rows[row, column]):g} in row {row}, "
            f"column {density.columns[column].name!r}: what is drawn given them is extrapolation",
            DataWarning,
            stacklevel=4,
        )


def refuse_outside(density: FittedModel, u: Tensor, rows: Tensor, is_missing: Tensor) -> None:
    """Raise a DataError for the first observed value that has no place in model space, or none in a closed support."""
    is_off = torch.stack([~column.has(rows[:, place]) for place, column in enumerate(density.columns)], 1)
    bad = ((~u.isfinite() | is_off) & ~is_missing).nonzero()
    if len(bad):
        row, index = bad[0].tolist()
        column = density.columns[index]
        fault = "lies outside the bounds that the density was fitted with"
        if column.is_closed:
            known = ", ".join(f"{value:.12g}" for value in column.values[:MOST_SHOWN])
            fault = f"is none of the values of the fit ({known})"
        raise DataError(
            f"row {row}: {float(rows[row, index]):.12g} of column {column.name!r} {fault}, so there is nothing to condition "
            "on"
        )


def observed_log_density(density: FittedModel, rows: Tensor, result: ConditionalResult) -> tuple[Tensor, Tensor]:
    """Log density of the observed cells of rows ``(n, d)`` with NaN, and its error without that of log Z, each ``(n,)``.

    A value of a closed support counts with its cell's mean density, which is its probability for cells of width 1.
    """
    is_missing = rows.isnan()
    slopes = density.transform.column_log_jacobian(torch.where(is_missing, density.middle, rows))
    is_point = ~is_missing & ~density.is_closed
    return result.log_z - density.estimate.log_z + (slopes * is_point).sum(1), result.standard_error
