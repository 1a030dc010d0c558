"""Long chains of the model in a report: do they mix, and how many steps do they need to forget their start?

A density without a network has independent draws, and no chain is run: draws of its base stand in their place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from drl_density.density.data_units import in_passes
from drl_density.density.fitted import FittedModel
from drl_density.diagnostics import chain_table, chains_to_groups
from drl_density.mcmc import MALA, DualAveraging, Recording, run_chain
from drl_density.partition_function.importance import base_draws
from drl_density.shapes import spread

if TYPE_CHECKING:
    import xarray as xr

CHAINS_PER_START = 4
"""Chains from data and as many from stored draws: R-hat needs several of each to tell the two apart."""
NUM_WARMUP = 200
"""Steps in which the step size settles; dual averaging is within a few per cent of its target by then."""
FIRST_STEP_SIZE = 0.3
"""Where adaptation of the step size starts, in units of the data's spread; small enough to be accepted anywhere."""
BASE_START = "the base"
"""Label of chains of independent draws, in place of where a chain began."""
MOST_DRAWN = 100
"""Independent draws in each of the eight chains: enough for their spread, and cheap beside the scores of a report."""
MOST_KEPT = 250
"""Draws kept of each chain, evenly thinned: enough for R-hat, ESS and the figure."""


@dataclass(frozen=True)
class ReportChains:
    """Adjusted chains at level 0, half started at data and half at stored draws; or as many chains of independent draws.

    Attributes:
        chains: groups ``posterior``, in data units, and ``sample_stats``.
        autocorrelation_time: steps that the slowest column needs to forget its start; 1 for independent draws.
    """

    chains: dict[str, xr.Dataset]
    autocorrelation_time: float

    def groups(self) -> dict[str, xr.Dataset]:
        """``posterior`` and ``sample_stats``, as ArviZ names them."""
        return self.chains

    def attributes(self) -> dict[str, str | float]:
        """The autocorrelation time in steps."""
        return {"autocorrelation_time": self.autocorrelation_time}


def run_report_chains(
    density: FittedModel, u_start: Tensor, *, num_steps: int, generator: torch.Generator
) -> ReportChains:
    """Run the chains of a report from model-space rows ``u_start`` ``(n, d)``."""
    import xarray as xr

    model, count = density.model, CHAINS_PER_START
    names = [column.name for column in density.columns]
    if model.is_base_alone:
        return _independent_draws(density, names, min(num_steps, MOST_DRAWN), generator)
    from_pool = density.to_model(density.pool[torch.randint(len(density.pool), (count,), generator=generator)])
    chosen = u_start[torch.randint(len(u_start), (count,), generator=generator)]
    scale = spread(u_start)
    kernel = MALA(scale=torch.where(scale > 0, scale, torch.ones_like(scale)))
    result = run_chain(
        kernel,
        lambda u: model.log_density(u, 0),
        torch.cat([chosen, from_pool.to(chosen)]).detach(),
        num_steps=num_steps,
        step_size=FIRST_STEP_SIZE,
        num_warmup=NUM_WARMUP,
        adaptation=DualAveraging(kernel.target_acceptance),
        recording=Recording(thin=max(1, num_steps // MOST_KEPT)),
        generator=generator,
    )
    starts = ["data"] * count + ["noise"] * count
    groups = chains_to_groups(density.to_data(result.draws), result.stats, names, starts=starts)
    least_ess = min(row["ess_bulk"] for row in chain_table(xr.DataTree.from_dict(groups)).values())
    return ReportChains(groups, num_steps * len(starts) / least_ess)


def _independent_draws(density: FittedModel, names: list[str], length: int, generator: torch.Generator) -> ReportChains:
    """Fresh draws of a density without a network, as chains whose every step is accepted."""
    model, count = density.model, 2 * CHAINS_PER_START
    u = base_draws(model, length * count, 0.0, generator).to(model.device, model.dtype)
    lp = in_passes(lambda part: model.log_density(part.to(u), 0).double().cpu(), u.flatten(1).cpu())
    stats = {"lp": lp.reshape(length, count), "acceptance_rate": torch.ones(length, count, dtype=torch.float64)}
    draws = density.to_data(u.flatten(1)).reshape(length, count, -1)
    return ReportChains(chains_to_groups(draws, stats, names, starts=[BASE_START] * count), 1.0)
