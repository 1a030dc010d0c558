"""The scored rows of a report: their log-likelihoods, their dequantisation, and how both came about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from drl_density.density.data_units import in_passes
from drl_density.density.fitted import FittedModel

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class ScoredRows:
    """Rows with their log-likelihoods.

    Attributes:
        density: the fit that scores them.
        rows: dequantised rows ``(n, d)`` in data units.
        widths: width of the noise that dequantised each column, ``(d,)``; 0 for none.
        log_likelihood: log density of each row at the point estimate of log Z, nats, ``(n,)``.
        log_z: point estimate of log Z, nats.
    """

    density: FittedModel
    rows: Tensor
    widths: Tensor
    log_likelihood: Tensor
    log_z: float

    def groups(self) -> dict[str, xr.Dataset]:
        """``log_likelihood`` and ``observed_data``, as ArviZ names them."""
        import xarray as xr

        return {
            "log_likelihood": xr.Dataset(
                {"x": (("chain", "draw", "obs_id"), self.log_likelihood[None, None].numpy())},
                coords={"chain": [0], "draw": [0], "obs_id": np.arange(len(self.rows))},
            ),
            "observed_data": xr.Dataset(
                {"x": (("obs_id", "feature"), self.rows.numpy()), "width": ("feature", self.widths.numpy())},
                coords={"feature": [column.name for column in self.density.columns]},
            ),
        }

    def attributes(self) -> dict[str, str | float]:
        """Figures of the audit trail from rows to nats and bits."""
        transform = self.density.transform
        jacobian = float(in_passes(lambda rows: transform.with_log_jacobian(rows)[1], self.rows).mean())
        return {
            "num_features": self.rows.shape[1],
            "scheme": self.scheme,
            "declared_range": self.declared_range,
            "transform": type(transform).__name__,
            "mean_log_jacobian": jacobian,
            "mean_model_log_density": float(self.log_likelihood.mean()) + self.log_z - jacobian,
        }

    @property
    def scheme(self) -> str:
        """Units and dequantisation, in words: reports of different schemes do not compare."""
        used, counts = self.widths[self.widths > 0].unique(return_counts=True)
        if not len(used):
            return "log density in data units, rows as given"
        parts = [f"{width:g} ({count} columns)" for width, count in zip(used.tolist(), counts.tolist(), strict=True)]
        return f"log density in data units, rows dequantised once by uniform noise of widths {', '.join(parts)}"

    @property
    def declared_range(self) -> str:
        """Least and largest value of whole numbers with one declared range, all of them dequantised; else empty."""
        columns = self.density.columns
        ends = {(column.lower + column.width / 2, column.upper - column.width / 2) for column in columns}
        is_whole = all(column.kind == "integer" and column.width == 1 for column in columns)
        if not is_whole or len(ends) > 1 or not bool((self.widths == 1).all()):
            return ""
        low, high = ends.pop()
        return f"{low:g}..{high:g}" if np.isfinite([low, high]).all() else ""
