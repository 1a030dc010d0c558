"""Everything about paths that is fixed before they are walked: grid, kernels, and the chains at level 0."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.mcmc import Kernel
from drl_density.model import EnergySequence
from drl_density.partition_function.sequence_paths.chains import LevelZeroChains, draw_planning_rows, tune_chains
from drl_density.partition_function.sequence_paths.kernels import ReverseKernels, measure_kernels, noised_rows
from drl_density.partition_function.sequence_paths.noise_grid import even_grid, placed_grid
from drl_density.partition_function.sequence_paths.particles import paths_up

MOST_PLANNING_ROWS, LEAST_PLANNING_ROWS = 128, 16
"""Rows that plan at most, and below which rows of the model's own chains plan instead."""
PLACING_ROWS, PLACING_SHARE, LEAST_PLACING_STEPS = 64, 6, 24
"""Rows whose increments place the grid; steps of the final grid for each of that pilot's, and least number of its steps."""


@dataclass(frozen=True, eq=False)
class SequencePlan:
    """Grid, kernels and chains of a sequence, and the rows that are left to walk from.

    Attributes:
        kernels: grid and reverse kernels.
        chains: adjusted chains at level 0.
        rows: clean rows of data that did not plan, ``(n, *event)``; ``None`` without data.
        is_from_data: whether rows of data planned, and not the model's own.
    """

    kernels: ReverseKernels
    chains: LevelZeroChains
    rows: Tensor | None
    is_from_data: bool

    def starts(self, rows: Tensor, shape: tuple[int, int], *, generator: torch.Generator | None = None) -> Tensor:
        """States of level 0 ``(replicate, path, *event)`` from rows, each taken as rarely as their number allows.

        Args:
            rows: clean rows ``(n, *event)``.
            shape: replicates, and paths in each.
        """
        count = shape[0] * shape[1]
        rounds = math.ceil(count / len(rows))
        chosen = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(rounds)])[:count]
        states = noised_rows(self.kernels.model, rows[chosen.to(rows.device)], generator=generator).states
        return states.reshape(*shape, *rows.shape[1:])


def plan_paths(
    model: EnergySequence,
    *,
    kernel: Kernel,
    num_steps: int,
    data: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> SequencePlan:
    """Plan paths on rows that are never walked from.

    Half of the rows of data plan, at most 128. Without 32 rows of data, the model's own draws do: down the levels without
    weights, then by adjusted chains. A grid of few even steps shows where the paths' increments vary most, and the final
    grid is denser there.

    Args:
        model: sequence whose level 0 is the target.
        kernel: adjusted kernel of the chains at level 0.
        num_steps: steps of the final grid.
        data: clean rows ``(n, *event)`` in model space.

    >>> from drl_density.mcmc import MALA
    >>> from drl_density.testing import GaussianMixtureSequence
    >>> system = GaussianMixtureSequence.example()
    >>> plan = plan_paths(system.model, kernel=MALA(), num_steps=32, data=system.sample(64, None))
    >>> plan.kernels.grid.num_steps, plan.rows.shape
    (32, torch.Size([32, 2]))
    """
    pilot = even_grid(model.schedule, min(num_steps, max(LEAST_PLACING_STEPS, num_steps // PLACING_SHARE)))
    rows, planning = data, None
    if data is not None and len(data) >= 2 * LEAST_PLANNING_ROWS:
        order = torch.randperm(len(data), generator=generator).to(data.device)
        count = min(MOST_PLANNING_ROWS, len(data) // 2)
        planning, rows = noised_rows(model, data[order[:count]], generator=generator), data[order[count:]]
    is_from_data = planning is not None
    if planning is None:
        planning = draw_planning_rows(model, pilot, kernel, MOST_PLANNING_ROWS, generator=generator)
    coarse = measure_kernels(model, pilot, planning, generator=generator)
    increments = paths_up(coarse, planning.states[None, :PLACING_ROWS], generator=generator).increments[0]
    grid = placed_grid(model.schedule, pilot, increments.var(0), num_steps)
    kernels = measure_kernels(model, grid, planning, generator=generator)
    chains, _ = tune_chains(model, kernel, planning.states, generator=generator)
    return SequencePlan(kernels, chains, rows, is_from_data)
