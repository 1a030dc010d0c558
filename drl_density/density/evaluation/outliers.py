"""How unusual rows are: log density with its interval, p-values against reference rows, and a profile over noise levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from drl_density.errors import DataError
from drl_density.weights import normal_quantile

if TYPE_CHECKING:
    from drl_density.density.fitted import Density


def outlier_scores(
    density: Density, rows: Tensor, *, reference: Tensor | None, seed: int, num_noises: int = 4
) -> xr.Dataset:
    """See :meth:`drl_density.density.Density.outlier_scores`."""
    count = torch.Size(density.event_shape).numel()
    rows = torch.as_tensor(rows, dtype=torch.float64, device="cpu")
    if rows.ndim < 1 or len(rows) == 0 or rows[0].numel() != count or bool(rows.isnan().any()):
        raise DataError(f"expected complete rows of shape {tuple(density.event_shape)}, got {tuple(rows.shape)}")
    known = density.pool if reference is None else torch.as_tensor(reference, dtype=torch.float64, device="cpu")
    rows, known = rows.reshape(-1, count), known.reshape(-1, count).double()
    if len(known) < 20:
        raise DataError(f"expected at least 20 reference rows to rank against, got {len(known)}")
    values, expected = density.log_prob(rows).numpy(), density.log_prob(known).numpy()
    if not np.isfinite(expected).all():
        raise DataError(
            f"expected reference rows within the bounds of every column, {int((~np.isfinite(expected)).sum())} lie outside"
        )
    error = normal_quantile() * density.estimate.standard_error
    ranks = np.searchsorted(np.sort(expected), values, side="right")
    low, high = (1 + ranks) / (1 + len(expected)), (1 + len(expected) - ranks) / (1 + len(expected))
    is_impossible = np.isneginf(values)  # no draw of the density reaches such a row, whatever the references do
    low, high = np.where(is_impossible, 0.0, low), np.where(is_impossible, 1.0, high)
    inside = torch.as_tensor(np.isfinite(values))
    profile = np.full((len(rows), density.model.num_levels), -np.inf)
    profile[inside] = _profile(density, rows[inside], known, seed, num_noises)
    return xr.Dataset(
        {
            "log_density": ("row", values),
            "log_density_lower": ("row", values - error),
            "log_density_upper": ("row", values + error),
            "p_value": ("row", low),
            "typicality_p_value": ("row", np.minimum(1.0, 2 * np.minimum(low, high))),
            "profile": (("row", "level"), profile),
            "strangeness": ("row", -profile[:, 0] - profile.mean(1)),
        },
        attrs={"reference_rows": len(known), "units": "nats"},
    )


def _profile(density: Density, rows: Tensor, known: Tensor, seed: int, num_noises: int) -> np.ndarray:
    """Standardised log density of the noised rows at every level, relative to the reference rows' mean and spread."""
    model = density.model

    def at(u: Tensor, level: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed + level)
        with torch.no_grad():
            parts = [
                model.log_density(model.schedule.diffuse(u, level, generator=generator) if level else u, level)
                for _ in range(num_noises if level else 1)
            ]
        return torch.stack(parts).mean(0)

    u, base = (density.transform(x).to(model.device, model.dtype) for x in (rows, known))
    columns = []
    for level in range(model.num_levels):
        expected = at(base, level)
        columns.append((at(u, level) - expected.mean()) / expected.std())
    return torch.stack(columns, 1).double().cpu().numpy()
