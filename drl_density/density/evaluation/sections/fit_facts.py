"""What a report says about the fit itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drl_density.density.data_units import reported_noise
from drl_density.density.fitted import FittedModel

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class FitFacts:
    """Name, validation figures and faults of a fit.

    Attributes:
        density: the fit that the report is about.
    """

    density: FittedModel

    def groups(self) -> dict[str, xr.Dataset]:
        """No groups: all facts are scalars."""
        return {}

    def attributes(self) -> dict[str, str | float]:
        """Validation figures, the constant learned in training, the noise of level 0, and remarks."""
        density = self.density
        return {
            "name": density.provenance.name,
            "learned_constant": float(density.model.log_normalizer(0)),
            "level_noise": reported_noise(density.model),
            "validation_model": density.baselines.model,
            "validation_gaussian": density.baselines.gaussian,
            "validation_independent": density.baselines.independent,
            "remarks": "; ".join(density.remarks),
        }
