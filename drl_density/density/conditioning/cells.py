"""Places inside the cells of given labels: a label is spread over its cell, so conditioning on it means the whole cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from scipy.stats import qmc
from torch import Tensor

if TYPE_CHECKING:
    from drl_density.density.fitted import Density

NUM_NODES = 32


def labels_given(density: Density, is_missing: Tensor) -> Tensor:
    """Cells that hold a given label (columns of kind "binary" or "categorical"), shape of ``is_missing``."""
    return ~is_missing & torch.tensor([column.is_label for column in density.columns])


def cell_positions(
    density: Density, rows: Tensor, is_missing: Tensor, num_places: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """(rows ``(n, num_places, d)`` whose given labels lie anywhere in their cells, mask ``(n, d)`` of those cells)."""
    in_cell = labels_given(density, is_missing)
    places = rows[:, None].repeat(1, num_places, 1)
    if bool(in_cell.any()):
        widths = torch.tensor([column.width for column in density.columns], dtype=torch.float64)
        uniform = torch.rand(places.shape, generator=generator, dtype=torch.float64)
        places = places + torch.where(in_cell[:, None], (uniform - 0.5) * widths, 0.0)
    return places, in_cell


def cell_nodes(density: Density, row: Tensor, is_missing: Tensor) -> tuple[Tensor, Tensor]:
    """(evenly spread places of one row's given labels ``(N, d)``, mask ``(d,)`` of those cells); N = 1 without labels."""
    in_cell = labels_given(density, is_missing)
    count = int(in_cell.sum())
    if not count:
        return row[None], in_cell
    places = row.repeat(NUM_NODES, 1)
    widths = torch.tensor([column.width for column in density.columns], dtype=torch.float64)
    spread = torch.as_tensor(qmc.Sobol(count, seed=0).random(NUM_NODES))
    places[:, in_cell] += (spread - 0.5) * widths[in_cell]
    return places, in_cell
