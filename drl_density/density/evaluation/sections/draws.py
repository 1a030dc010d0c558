"""Draws of the model in a report, to be looked at beside the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from drl_density.density.fitted import FittedModel

if TYPE_CHECKING:
    import xarray as xr

MOST_DRAWS, LEAST_DRAWS, MOST_CELLS = 1000, 64, 65_536
"""Draws kept at most and at least, and their cells: half a megabyte at most, except for images of a thousand pixels."""


@dataclass(frozen=True)
class ReportDraws:
    """Stored draws of a fit, in data units.

    Attributes:
        density: the fit that the report is about.
    """

    density: FittedModel

    def groups(self) -> dict[str, xr.Dataset]:
        """``draws``, float32, and fewer of them the more columns there are."""
        import xarray as xr

        most = min(MOST_DRAWS, max(LEAST_DRAWS, MOST_CELLS // self.density.num_features))
        rows = self.density.pool[:most].numpy().astype(np.float32)
        names = [column.name for column in self.density.columns]
        return {"draws": xr.Dataset({"x": (("draw", "feature"), rows)}, coords={"feature": names})}

    def attributes(self) -> dict[str, str | float]:
        """The shape of a data point, such as "1x28x28"."""
        return {"event_shape": "x".join(str(size) for size in self.density.event_shape)}
