"""Likelihoods under densities that share the model's scores or constants but not its normaliser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from drl_density.density.evaluation.sections.scored_rows import ScoredRows
from drl_density.density.fitted import FittedModel
from drl_density.model import EnergySequence
from drl_density.partition_function import (
    AISSettings,
    annealing_log_likelihood,
    flow_log_likelihood,
    plan_annealing,
    plan_reverse_path,
    reverse_weights,
    sequence_path,
)

if TYPE_CHECKING:
    import xarray as xr

FLOW_COLUMNS = 10
"""Columns up to which the probability flow is scored: its exact trace takes a gradient for every column."""
MOST_ROWS = 32
"""Rows scored under the other densities at most, which bounds the cost of a report."""
STEPS_PER_LEVEL = 4
"""Densities per level on the path of the annealing sampler."""
NUM_PILOT, NUM_POOL = 64, 128
"""Particles that tune the annealing, and stored draws that tune the reverse path."""


@dataclass(frozen=True)
class OtherDensities:
    """Mean log-likelihoods by name of the density, and a note on what is missing.

    Attributes:
        figures: mean log-likelihood of each density, nats per row.
        left_out: reason why the probability flow is missing; empty where it is not.
    """

    figures: dict[str, float]
    left_out: str

    def groups(self) -> dict[str, xr.Dataset]:
        """``other_densities``, one value for each density."""
        import xarray as xr

        values = {"mean_log_likelihood": ("density", list(self.figures.values()))}
        dataset = xr.Dataset(values, coords={"density": list(self.figures)}, attrs={"left_out": self.left_out})
        return {"other_densities": dataset}

    def attributes(self) -> dict[str, str | float]:
        """No attributes: all figures are in the group."""
        return {}


def score_other_densities(scored: ScoredRows, *, num_particles: int, generator: torch.Generator) -> OtherDensities:
    """Score the first rows under every other density.

    A density that is its reference alone has no others beside it. There are no more rows, and no larger pilot, than
    particles, so that one number bounds the cost of a report.
    """
    density, values = scored.density, scored.log_likelihood
    if density.model.is_base_alone:
        return OtherDensities({}, "The density is its reference alone, so no other density is scored.")
    most = min(MOST_ROWS, num_particles)
    model, few = density.model, scored.rows[:most]
    flat, jacobian = density.transform.with_log_jacobian(few)
    u = flat.to(model.device, model.dtype)
    first = f"first {len(few)} rows"
    annealed = _annealing_sampler(model, u, generator, num_particles)
    diffused = _diffusion_sampler(density, u, generator)
    figures = {
        "normalised by its learned constant": float(values.mean()) + scored.log_z - float(model.log_normalizer(0)),
        f"annealing sampler (errs low), {first}": float((annealed + jacobian).mean()),
        f"diffusion sampler (lower bound), {first}": float((diffused + jacobian).mean()),
    }
    if len(few) < len(scored.rows):
        figures[f"energy-based model, {first}"] = float(values[:most].mean())
    if few.shape[1] > FLOW_COLUMNS:
        reason = (
            f"The probability flow is left out above {FLOW_COLUMNS} columns: its trace takes a gradient per column."
        )
        return OtherDensities(figures, reason)
    figures[f"probability flow, {first}"] = float((flow_log_likelihood(model, u) + jacobian).mean())
    return OtherDensities(figures, "")


def _annealing_sampler(model: EnergySequence, u: Tensor, generator: torch.Generator, num_particles: int) -> Tensor:
    """Log-likelihood of the sampler that anneals from noise to level 0, which errs low."""
    path = sequence_path(model, steps_per_level=STEPS_PER_LEVEL)
    settings = AISSettings(num_pilot_particles=min(NUM_PILOT, num_particles))
    plan = plan_annealing(path, settings, generator=generator)
    return annealing_log_likelihood(path, plan, settings, u, generator=generator)


def _diffusion_sampler(density: FittedModel, u: Tensor, generator: torch.Generator) -> Tensor:
    """Evidence lower bound of the Gaussian reverse chain whose means are the model's denoisers."""
    model = density.model
    draws = density.to_model(density.pool[:NUM_POOL].double()).to(model.dtype)
    path = plan_reverse_path(model, draws, generator=generator)
    with torch.no_grad():
        return model.log_density(u, 0).double().cpu() - reverse_weights(path, u, generator=generator)
