"""Filling missing values by draws given what each row does hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from drl_density.datasets.tables.coding import decode_column
from drl_density.datasets.tables.frames import filled_column, is_pandas, pandas_frame
from drl_density.datasets.tables.meaning import composed
from drl_density.datasets.tables.raw_table import column_names
from drl_density.density.conditioning.proposals import LEAST_ESS
from drl_density.density.conditioning.rows import observed_log_density, sample_in_blocks
from drl_density.density.data_units import on_support
from drl_density.density.fitted import FittedModel, fresh_draws
from drl_density.errors import DataError
from drl_density.inverse_problems import ConditionalSettings
from drl_density.records.brief import brief
from drl_density.records.given import given_or_default
from drl_density.shapes import is_integer

if TYPE_CHECKING:
    import pandas as pd

LARGEST_R_HAT = 1.1
"""Limit of R-hat for many short chains (Gelman and Rubin 1992); the rank-normalised 1.01 asks for longer ones."""
LARGEST_ERROR = 0.5
"""Standard error of a row's log density, nats, above which replicates differ by a factor."""


@dataclass(frozen=True, eq=False)
class Imputation:
    """Completed rows and how far they can be trusted; figures are NaN for complete and for empty rows.

    A row's draws come from one of two places. Where the base of the model has conditionals in closed form and the network is
    bounded, they are chosen among independent draws of these by weight. All other rows, and those whose weights are too
    uneven, have particles that descend the noise levels and end with chains.

    Attributes:
        rows: completed rows ``(num_samples, row, d)`` in data units; observed cells exactly as given, drawn ones on the
            support of their columns.
        is_missing: which cells were filled, boolean ``(row, d)``.
        least_ess: weight ESS of each row's independent draws, as a share of them. For particles, the least on the way down
            the levels.
        acceptance_rate: acceptance of an independence Metropolis-Hastings chain whose proposals are the independent draws.
            For particles, the mean acceptance of the row's final chains.
        r_hat: worst split R-hat of a missing cell over the row's final chains. Independent draws have no chains; theirs is
            the R-hat that chains of the same ESS would have, sqrt(1 + 1 / ESS).
        ess: effective number of draws: the weight ESS of independent draws, or the least bulk effective sample size of a
            missing cell over the final chains.
        log_density: log density of the observed cells, the missing ones integrated out, nats.
        log_density_error: its standard error, without that of log Z, from 16 groups of independent draws or from the
            replicates of the particles.
    """

    rows: Tensor
    is_missing: Tensor
    least_ess: Tensor
    acceptance_rate: Tensor
    r_hat: Tensor
    ess: Tensor
    log_density: Tensor
    log_density_error: Tensor

    __repr__ = brief

    @property
    def is_doubtful(self) -> Tensor:
        """Rows with R-hat above 1.1, fewer than 100 effective draws, or replicates that differ by a factor, ``(row,)``."""
        return (self.r_hat > LARGEST_R_HAT) | (self.ess < LEAST_ESS) | (self.log_density_error > LARGEST_ERROR)


def impute(
    density: FittedModel,
    rows: Any,
    *,
    num_samples: int = 20,
    settings: ConditionalSettings | None = None,
    generator: torch.Generator | None = None,
) -> Imputation:
    """See :meth:`drl_density.density.Density.impute`."""
    if not is_integer(num_samples) or num_samples < 1:
        raise DataError(f"num_samples must be a positive integer, got {num_samples!r}")
    x = density.rows(rows, missing="keep", least=0)
    is_missing = x.isnan()
    result = x.expand(num_samples, -1, -1).clone()
    figures = torch.full((6, len(x)), torch.nan, dtype=torch.float64)
    is_empty = is_missing.all(1)
    partly = is_missing.any(1) & ~is_empty
    blocks = sample_in_blocks(
        density,
        x,
        is_missing,
        partly.nonzero().flatten(),
        num_samples=num_samples,
        settings=given_or_default(settings, ConditionalSettings),
        generator=generator,
    )
    for some, found in blocks:
        drawn = on_support(density.columns, density.to_data(found.draws).transpose(0, 1), density.bounds)
        result[:, some] = torch.where(is_missing[some], drawn, x[some])
        evidence = observed_log_density(density, x[some], found)
        chains = (found.least_ess, found.acceptance_rate.double(), found.r_hat, found.ess)
        figures[:, some] = torch.stack([*chains, *evidence])
    if bool(is_empty.any()):
        draws = fresh_draws(density, num_samples * int(is_empty.sum()), generator=generator).draws
        rows_drawn = draws.reshape(num_samples, -1, density.num_features).to(result)
        result[:, is_empty] = on_support(density.columns, rows_drawn, density.bounds)
    least_ess, acceptance_rate, r_hat, ess, log_density, error = figures
    return Imputation(result, is_missing, least_ess, acceptance_rate, r_hat, ess, log_density, error)


def completed_frame(density: FittedModel, frame: Any, found: Imputation) -> pd.DataFrame:
    """The imputations of a frame as one pandas DataFrame, with the levels "imputation" and the frame's own index.

    Observed cells, further columns and the types of all columns are those of the frame. A type that cannot hold a drawn
    value, such as whole numbers for a fraction, is replaced by one that can.

    Args:
        density: the fit that filled the cells.
        frame: frame whose missing values were filled.
        found: completions of its rows.
    """
    import pandas as pd

    own = frame if is_pandas(frame) else pandas_frame(frame)
    number, count = found.rows.shape[:2]
    places = np.tile(np.arange(count), number)
    names = [composed(name) for name in column_names(list(own.columns))]
    is_filled = found.is_missing.repeat(number, 1).numpy()
    flat = found.rows.flatten(0, 1).numpy()
    parts = [own.iloc[:, place].take(places).reset_index(drop=True) for place in range(own.shape[1])]
    for place, column in enumerate(density.columns):
        filled = is_filled[:, place]
        if filled.any():
            at = names.index(composed(column.name))
            parts[at] = filled_column(parts[at], filled, decode_column(flat[filled, place], column))
    whole = pd.concat(parts, axis=1)
    whole.columns = own.columns
    levels = [own.index.get_level_values(level).take(places) for level in range(own.index.nlevels)]
    whole.index = pd.MultiIndex.from_arrays(
        [np.repeat(np.arange(number), count), *levels], names=["imputation", *own.index.names]
    )
    whole.attrs = {
        **own.attrs,
        "filled_cells": int(found.is_missing.sum()),
        "doubtful_rows": int(found.is_doubtful.sum()),
    }
    return whole
