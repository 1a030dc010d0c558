"""What a density gains over its own reference: on the scored rows, and by the stages of the fit on validation rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from drl_density.density.data_units import in_passes
from drl_density.density.fitted import FittedModel

if TYPE_CHECKING:
    import xarray as xr


def reference_log_density(density: FittedModel, rows: Tensor) -> Tensor | None:
    """Log density of rows under the untouched reference of a fit, the fixed base of its model, in data units.

    Args:
        density: the fit.
        rows: dequantised rows ``(n, d)`` in data units, float64.

    Returns:
        Log densities ``(n,)`` in nats, float64, on the CPU; None for a model without a base.
    """
    model = density.model
    if model.base is None:
        return None
    log_snr = model.schedule.log_snr_at(0.0).to(model.device)

    def evaluate(part: Tensor) -> Tensor:
        u, jacobian = density.transform.with_log_jacobian(part)
        states = u.to(model.device, model.dtype).reshape(-1, *model.event_shape)
        return model.base_at(states, log_snr).double().cpu() + jacobian.double()

    with torch.no_grad():
        return in_passes(evaluate, rows)


@dataclass(frozen=True)
class ReferenceGain:
    """The reference's log density of the scored rows, and the stages of the fit.

    Attributes:
        density: the fit that the report is about.
        rows: dequantised rows ``(n, d)`` in data units.
        known: log density of the rows under the reference ``(n,)``, where it is that of the density; None evaluates it.
    """

    density: FittedModel
    rows: Tensor
    known: Tensor | None = None

    def groups(self) -> dict[str, xr.Dataset]:
        """``reference`` with the log density of every row, and ``stages``; each only where there is one."""
        import xarray as xr

        found, stages = {}, self.density.provenance.stages
        values = reference_log_density(self.density, self.rows) if self.known is None else self.known
        if values is not None:
            found["reference"] = xr.Dataset(
                {"log_likelihood": ("obs_id", values.numpy())}, coords={"obs_id": np.arange(len(values))}
            )
        if stages:
            columns = {
                name: [getattr(stage, name) for stage in stages] for name in ("validation", "gain", "gain_error")
            }
            columns["is_kept"] = [int(stage.kept) for stage in stages]
            found["stages"] = xr.Dataset(
                {name: ("stage", values) for name, values in columns.items()},
                coords={"stage": [stage.name for stage in stages]},
            )
        return found

    def attributes(self) -> dict[str, str | float]:
        """No attributes: all figures are in the groups."""
        return {}
