"""How unusual rows are: log density, p-values against reference rows, and a profile over noise levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from drl_density.density.data_units import in_passes, most_scored_images, rows_at_once
from drl_density.density.fitted import FittedModel, dequantized_rows
from drl_density.density.reference import ReferenceScores
from drl_density.density.tables import as_columns
from drl_density.errors import DataError
from drl_density.records.brief import brief
from drl_density.records.intervals import normal_interval

if TYPE_CHECKING:
    import pandas as pd

LEAST_REFERENCE = 20
"""Reference rows at least, so that p-values reach 0.05."""
MOST_REFERENCE = 2000
"""Test rows whose scores a fit keeps at most: p-values near 0.05 then have a standard error of 0.005."""
MOST_IMAGE_PASSES = 65_536
"""Images that pass through the network for the kept scores of a fit at most; at many levels, fewer test rows are scored."""
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
        reference: what the reference rows are, in words.
    """

    log_density: Tensor
    standard_error: float
    p_value: Tensor
    typicality_p_value: Tensor
    profile: Tensor
    num_reference: int
    reference: str = ""

    __repr__ = brief

    @property
    def strangeness(self) -> Tensor:
        """One number to rank rows by, higher is stranger: minus the profile at level 0, minus its mean over levels."""
        return -self.profile[:, 0] - self.profile.mean(1)

    def to_frame(self, *, index: Any = None) -> pd.DataFrame:
        """The figures as a pandas DataFrame with one row for each scored row.

        Args:
            index: index of the frame; 0, 1, ... when None.

        Returns:
            A frame with the columns ``log_density``, ``log_density_lower``, ``log_density_upper``, ``p_value``,
            ``typicality_p_value``, ``strangeness``, and ``level_0``, ``level_1``, ... for the profile.
        """
        lower, upper = self.interval()
        parts = {"log_density": self.log_density, "log_density_lower": lower, "log_density_upper": upper}
        parts |= {name: getattr(self, name) for name in ("p_value", "typicality_p_value", "strangeness")}
        return as_columns(parts | {f"level_{t}": part for t, part in enumerate(self.profile.T)}, index)

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
) -> OutlierScores:
    """See :meth:`drl_density.density.Density.outlier_scores`."""
    x = density.rows(rows, least=0)
    known = reference if isinstance(reference, ReferenceScores) else reference_scores(density, reference)
    values, expected = density.log_density_of(x, codes="exact"), known.log_density
    # A reference row counts for itself, so that no p-value is 0 (Davison and Hinkley 1997, section 4.2).
    ranks = torch.as_tensor(np.searchsorted(np.sort(expected.numpy()), values.numpy(), side="right")).double()
    low, high = (1 + ranks) / (1 + len(expected)), (1 + len(expected) - ranks) / (1 + len(expected))
    is_impossible = values.isneginf()  # no draw of the density reaches such a row, whatever the reference rows do
    low, high = low.masked_fill(is_impossible, 0.0), high.masked_fill(is_impossible, 1.0)
    inside = values.isfinite()
    profile = torch.full((len(x), density.model.num_levels), -torch.inf, dtype=torch.float64)
    if bool(inside.any()):
        profile[inside] = (_profile(density, x[inside], values[inside]) - known.profile.mean(0)) / known.profile.std(0)
    # The smaller of both sides can be just above one half, as a reference row counts for itself.
    two_sided = (2 * low.minimum(high)).clamp(max=1.0)
    return OutlierScores(values, density.estimate.standard_error, low, two_sided, profile, len(expected), known.words)


def reference_scores(density: FittedModel, rows: Any = None, *, words: str = "") -> ReferenceScores:
    """Scores of rows to rank others against.

    Args:
        density: the fit that scores them.
        rows: complete rows ``(n, *event)`` in data units. When None, the scores that are kept with the fit, or those of its
            stored draws where it keeps none.
        words: what the rows are.

    Raises:
        DataError: fewer than 20 rows, incomplete rows, or rows outside the bounds of a column.
    """
    if rows is None and density.reference is not None:
        return density.reference
    known = density.pool.double() if rows is None else density.rows(rows, codes="cells")
    words = f"{len(known)} draws of the model" if rows is None else words or f"{len(known)} given rows"
    if len(known) < LEAST_REFERENCE:
        raise DataError(f"expected at least {LEAST_REFERENCE} reference rows to rank against, got {len(known)}")
    expected = density.log_density_of(known)
    outside = int((~expected.isfinite()).sum())
    if outside:
        raise DataError(f"expected reference rows within the bounds of every column, {outside} lie outside")
    return ReferenceScores(expected, _profile(density, known, expected), words)


def held_out_scores(density: FittedModel, rows: Tensor, *, seed: int) -> ReferenceScores | None:
    """Scores of a fit's test rows, dequantised once, to be kept with the fit.

    Incomplete rows are left out, and of many rows a random part is taken.

    Args:
        density: the fit.
        rows: its test rows ``(n, d)`` in data units, NaN for missing values.
        seed: seed of the choice of rows and of the dequantisation.

    Returns:
        The scores, or None where there are fewer than 20 complete rows, or rows outside the bounds of a column.
    """
    generator = torch.Generator().manual_seed(seed)
    complete = rows[~rows.isnan().any(1)] if rows.is_floating_point() else rows
    if len(complete) < LEAST_REFERENCE:
        return None
    most = MOST_REFERENCE
    if len(density.event_shape) > 1:
        passes = MOST_IMAGE_PASSES // (1 + NUM_NOISES * (density.model.num_levels - 1))
        scored = 2 * most_scored_images(density.num_features) if density.model.is_base_alone else most
        most = max(LEAST_REFERENCE, min(most, passes, scored))
    chosen = torch.randperm(len(complete), generator=generator)[:most].sort().values
    known = dequantized_rows(density, complete[chosen], generator=generator)[0]
    log_density = density.log_density_of(known)
    if not bool(log_density.isfinite().all()):
        return None
    of_all = "" if len(known) == len(rows) else f" of {len(rows)}"
    return ReferenceScores(log_density, _profile(density, known, log_density), f"the fit's {len(known)}{of_all} test rows")


def _profile(density: FittedModel, rows: Tensor, log_density: Tensor) -> Tensor:
    """Mean log density of noised copies of each row at every level, ``(row, level)``, float64; level 0 without noise.

    All rows, the reference rows among them, get the same noise, whatever their number and order. So the profile of a row
    depends on the row alone, and comparisons of rows are free of the noise that they share.
    """
    model, u = density.model, density.to_states(rows)
    jacobian = in_passes(lambda part: density.transform.with_log_jacobian(part)[1], rows)
    size = rows_at_once(density.num_features, model.device)
    profile = torch.empty(len(rows), model.num_levels, dtype=torch.float64)
    profile[:, 0] = log_density + density.estimate.log_z - jacobian  # known already, and level 0 costs most
    for level in range(1, model.num_levels):
        source = torch.Generator().manual_seed(level)
        noises = torch.randn((NUM_NOISES, *u.shape[1:]), generator=source).to(u)
        alpha, sigma = (float(scale(level)) for scale in (model.schedule.alpha_at, model.schedule.sigma_at))
        total = torch.zeros(len(rows), dtype=torch.float64)
        for noise in noises:
            with torch.no_grad():
                noised = ((alpha * part + sigma * noise) for part in u.split(size))
                total += torch.cat([model.log_density(part, level).double().cpu() for part in noised])
        profile[:, level] = total / len(noises)
    return profile
