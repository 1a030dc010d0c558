"""Filling the holes of rows by draws given what each row does hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from drl_density.density.conditioning.condition import observed_log_density, sample_rows, to_data
from drl_density.errors import DataError
from drl_density.inverse_problems import ConditionalSettings

if TYPE_CHECKING:
    from drl_density.density.fitted import Density


@dataclass(frozen=True)
class Imputation:
    """Completed rows and how far they can be trusted; figures are NaN for complete and for empty rows.

    Attributes:
        rows: ``(imputation, row, d)`` in data units; observed cells exactly as given.
        is_missing: ``(row, d)``.
        least_ess: least weight ESS share of each row on the way.
        acceptance_rate: of the final chains.
        r_hat: worst split R-hat of a missing cell over the row's final chains, one per imputation.
        ess: least bulk effective sample size of a missing cell over those chains.
        log_density: of the observed cells, the missing ones integrated out, nats.
        log_density_error: its standard error by the disagreement of independent replicates, log Z's left out.
    """

    rows: Tensor
    is_missing: Tensor
    least_ess: Tensor
    acceptance_rate: Tensor
    r_hat: Tensor
    ess: Tensor
    log_density: Tensor
    log_density_error: Tensor

    @property
    def is_doubtful(self) -> Tensor:
        """Rows with R-hat above 1.1, fewer than 100 effective draws, or replicates that differ by a factor, ``(row,)``."""
        return (self.r_hat > 1.1) | (self.ess < 100) | (self.log_density_error > 0.5)


def impute(
    density: Density,
    rows: Tensor,
    *,
    num_imputations: int,
    seed: int,
    settings: ConditionalSettings | None,
) -> Imputation:
    """See :meth:`drl_density.density.Density.impute`."""
    count = torch.Size(density.event_shape).numel()
    rows = torch.as_tensor(rows, dtype=torch.float64, device="cpu")
    if num_imputations < 1:
        raise DataError(f"num_imputations must be at least 1, got {num_imputations}")
    if rows.ndim < 1 or len(rows) == 0 or rows[0].numel() != count:
        raise DataError(f"expected rows of shape {tuple(density.event_shape)}, got {tuple(rows.shape)}")
    rows = rows.reshape(len(rows), count)
    if bool(rows.isinf().any()):
        raise DataError(f"row {int(rows.isinf().any(1).nonzero()[0])} holds an infinite value; mark holes with NaN")
    is_missing = rows.isnan()
    result = rows.expand(num_imputations, -1, -1).clone()
    generator = torch.Generator().manual_seed(seed)
    figures = torch.full((6, len(rows)), torch.nan, dtype=torch.float64)
    is_empty, has_holes = is_missing.all(1), is_missing.any(1)
    partly = has_holes & ~is_empty
    if bool(partly.any()):
        found = sample_rows(
            density,
            rows[partly],
            is_missing[partly],
            num_draws=num_imputations,
            settings=settings or ConditionalSettings(),
            generator=generator,
        )
        drawn = to_data(density, found.draws).transpose(0, 1)
        result[:, partly] = torch.where(is_missing[partly], drawn, rows[partly])
        evidence = observed_log_density(density, rows[partly], found)
        chains = (found.least_ess, found.acceptance_rate.double(), found.r_hat, found.ess)
        figures[:, partly] = torch.stack([*chains, *evidence])
    if bool(is_empty.any()):
        draws = density.sample(num_imputations * int(is_empty.sum()), generator=generator)
        result[:, is_empty] = draws.reshape(num_imputations, -1, count).to(result)
    return Imputation(result, is_missing, *figures)
