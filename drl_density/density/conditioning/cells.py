"""Points inside the cells of given labels: a label is spread over its cell, so conditioning on it means the whole cell."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from drl_density.datasets import Column

NUM_NODES = 32
"""Points over which a conditional averages a cell; a power of two, as Sobol points are balanced there."""


def labels_given(columns: Sequence[Column], is_missing: Tensor) -> Tensor:
    """Which cells hold a given label (columns of kind "binary" or "categorical"), of the shape of ``is_missing``."""
    return ~is_missing & torch.tensor([column.is_label for column in columns])


def cell_positions(
    columns: Sequence[Column],
    rows: Tensor,
    is_missing: Tensor,
    num_places: int,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Rows ``(n, num_places, d)`` with given labels at random points of their cells, and those cells' mask ``(n, d)``."""
    in_cell = labels_given(columns, is_missing)
    places = rows[:, None].repeat(1, num_places, 1)
    if bool(in_cell.any()):
        widths = torch.tensor([column.width for column in columns], dtype=torch.float64)
        uniform = torch.rand(places.shape, generator=generator, dtype=torch.float64)
        places = places + torch.where(in_cell[:, None], (uniform - 0.5) * widths, 0.0)
    return places, in_cell


def cell_nodes(columns: Sequence[Column], row: Tensor, is_missing: Tensor) -> tuple[Tensor, Tensor]:
    """Evenly spread points ``(N, d)`` of one row's given labels, and a mask ``(d,)`` of those cells; N is 1 without labels.

    The points are a Sobol sequence with a fixed seed, so that the same condition always gives the same density.
    """
    in_cell = labels_given(columns, is_missing)
    count = int(in_cell.sum())
    if not count:
        return row[None], in_cell
    from scipy.stats import qmc

    places = row.repeat(NUM_NODES, 1)
    widths = torch.tensor([column.width for column in columns], dtype=torch.float64)
    spread = torch.as_tensor(qmc.Sobol(count, seed=0).random(NUM_NODES))  # pyright: ignore[reportCallIssue] newer name: rng
    places[:, in_cell] += (spread - 0.5) * widths[in_cell]
    return places, in_cell
