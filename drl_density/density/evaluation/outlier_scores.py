"""How unusual rows are: log density, p-values against reference rows, and a profile over noise levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drl_density.density.fitted import FittedModel
from drl_density.density.seeds import random_generator
from drl_density.errors import DataError
from drl_density.records.brief import brief
from drl_density.weights import normal_interval

LEAST_REFERENCE = 20
"""Reference rows at least, so that p-values reach 0.05."""
NUM_NOISES = 4
"""Noised copies of a row over which its profile is averaged at every level."""


@dataclass(frozen=True, eq=False)
class OutlierScores:
    """How unusual each row is.

    Attributes:
        log_density: normalised log density of each row, nats, ``(row,)``; minus infinity outside declared bounds.
        standard_error: standard error of log Z, which all rows share.
        p_value: share of reference rows with a lower log density, ``(row,)``.
        typicality_p_value: two-sided p-value, small also for rows that are more likely than typical ones, ``(row,)``.
        profile: standardised log density of the noised row at every level, ``(row, level)``.
        num_reference: number of reference rows.
    """

    log_density: Tensor
    standard_error: float
    p_value: Tensor
    typicality_p_value: Tensor
    profile: Tensor
    num_reference: int

    __repr__ = brief

    @property
    def strangeness(self) -> Tensor:
        """One number to rank rows by, higher is stranger: minus the profile at level 0, minus its mean over levels."""
        return -self.profile[:, 0] - self.profile.mean(1)

    def interval(self, probability: float = 0.95) -> tuple[Tensor, Tensor]:
        """Ends of the interval of ``log_density`` by the error of log Z, nats, each ``(row,)``.

        Args:
            probability: chance in (0, 1) that the interval covers the truth.
        """
        return normal_interval(self.log_density, self.standard_error, probability)


def outlier_scores(
    density: FittedModel,
    rows: Any,
    *,
    reference: Any = None,
    seed: int | None = None,
) -> OutlierScores:
    """See :meth:`drl_density.density.Density.outlier_scores`."""
    x = density.rows(rows)
    known = density.pool.double() if reference is None else density.rows(reference)
    if len(known) < LEAST_REFERENCE:
        raise DataError(f"expected at least {LEAST_REFERENCE} reference rows to rank against, got {len(known)}")
    values, expected = density.log_prob(x), density.log_prob(known)
    outside = int((~expected.isfinite()).sum())
    if outside:
        raise DataError(f"expected reference rows within the bounds of every column, {outside} lie outside")
    # A reference row counts for itself, so that no p-value is 0 (Davison and Hinkley 1997, section 4.2).
    ranks = torch.as_tensor(np.searchsorted(np.sort(expected.numpy()), values.numpy(), side="right"))
    low, high = (1 + ranks) / (1 + len(expected)), (1 + len(expected) - ranks) / (1 + len(expected))
    is_impossible = values.isneginf()  # no draw of the density reaches such a row, whatever the reference rows do
    low, high = low.masked_fill(is_impossible, 0.0), high.masked_fill(is_impossible, 1.0)
    inside = values.isfinite()
    profile = torch.full((len(x), density.model.num_levels), -torch.inf, dtype=torch.float64)
    if bool(inside.any()):
        profile[inside] = _profile(density, x[inside], known, random_generator(seed).initial_seed())
    two_sided = (2 * low.minimum(high)).clamp(max=1.0)
    return OutlierScores(
        values, density.estimate.standard_error, low.double(), two_sided.double(), profile, len(expected)
    )


def _profile(density: FittedModel, rows: Tensor, known: Tensor, seed: int) -> Tensor:
    """Log density of the noised rows at every level, standardised by the mean and spread of the reference rows."""
    model = density.model

    def at(u: Tensor, level: int) -> Tensor:
        # Rows and reference rows see the same sequence of noise at a level, which makes them comparable.
        source = torch.Generator().manual_seed(seed + level)
        with torch.no_grad():
            parts = [
                model.log_density(model.schedule.diffuse(u, level, generator=source) if level else u, level)
                for _ in range(NUM_NOISES if level else 1)
            ]
        return torch.stack(parts).mean(0)

    u, base = density.to_states(rows), density.to_states(known)
    columns = []
    for level in range(model.num_levels):
        expected = at(base, level)
        columns.append((at(u, level) - expected.mean()) / expected.std())
    return torch.stack(columns, 1).double().cpu()
