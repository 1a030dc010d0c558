"""Cells of the single values that many rows of a table share, in model space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from drl_density.bases.atoms import AtomCells
from drl_density.datasets import Column
from drl_density.transforms import DataTransform
from drl_density.transforms.marginals import frequent_values

LEAST_EQUAL = 5
"""Rows with one value from which it is an atom of the reference: on a public table 3 and 9 both scored worse."""

MOST_ATOMS = 600
"""Atoms of a table, the most frequent ones: their number multiplies the time of a fit."""

NUM_BINS = 8
"""Bins of a cell, within which the transform is taken for the normal one."""

LEAST_STEPS = 64
"""Steps of float32 that a cell is wide at least: rows on its ends may be rounded out of it."""

INSIDE = 1e-9
"""Share of a cell by which its ends are moved inwards: on a bound of the column the transform is infinite."""

LEAST_GAP = 1e-8
"""Normal mass up to which an interval between two cells, or beyond the last one, is added to a cell."""


def atom_cells(rows: Tensor, columns: Sequence[Column], transform: DataTransform) -> AtomCells | None:
    """Find the values that at least five rows share, and their cells in model space.

    Only columns with a rounding width have such cells. Where two values lie closer than the width, as where a few values
    miss the grid of their column, the less frequent one is left out.

    Args:
        rows: Complete rows ``(n, d)`` in data units, not dequantised.
        columns: Properties of each column, of which the rounding width counts.
        transform: Transform from data to model space, of each column by itself.

    Returns:
        The cells, or None without any.

    >>> from drl_density.datasets import load_dataset
    >>> from drl_density.density.fitting.table import prepare_table
    >>> x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)).double()
    >>> x[:60, 0] = 0.0
    >>> table = prepare_table(load_dataset(x, columns={"x0": {"width": 0.01}}, seed=0), "standardize")
    >>> atom_cells(x, table.dataset.columns, table.transform).columns.tolist()
    [0]
    """
    found: list[tuple[int, int, float]] = []
    for place, column in enumerate(columns):
        if column.width:
            own = frequent_values(rows[:, place].double(), column.width, least=LEAST_EQUAL, most=MOST_ATOMS)
            found += [(count, place, value) for value, count in own]
    places, edges = [], []
    kept = sorted((place, value) for _, place, value in sorted(found, reverse=True)[:MOST_ATOMS])
    for place, column in enumerate(columns):
        values = torch.tensor([value for where, value in kept if where == place], dtype=torch.float64)
        if len(values):
            own = _edges(rows[:1].double(), place, values, column.width, transform)
            places += [place] * len(own)
            edges.append(own)
    return AtomCells(torch.tensor(places), torch.cat(edges), len(columns)) if places else None


def _edges(row: Tensor, place: int, values: Tensor, width: float, transform: DataTransform) -> Tensor:
    """Ends of the bins of the cells of one column, ``(A, M + 1)``, float64 numbers of float32; narrow cells are left out.

    Args:
        row: Some row ``(1, d)``.
        place: Index of the column.
        values: Values in the middle of the cells, ascending, ``(A,)``.
        width: Width of the cells.
        transform: Transform from data to model space.
    """
    offsets = width * (1 - 2 * INSIDE) * torch.linspace(-0.5, 0.5, NUM_BINS + 1, dtype=torch.float64)
    points = row.repeat(len(values) * (NUM_BINS + 1), 1)
    points[:, place] = (values[:, None] + offsets).flatten()
    edges = transform(points)[:, place].reshape(len(values), NUM_BINS + 1)
    sizes = torch.where(edges.isfinite(), edges.abs(), 1.0).amax(1)
    step = torch.finfo(torch.float32).eps * torch.maximum(sizes, torch.ones_like(sizes))
    is_wide = ((edges[:, 1:] - edges[:, :-1]) * NUM_BINS >= LEAST_STEPS * step[:, None]).all(1)
    edges, step = edges[is_wide], step[is_wide]
    # Rows are rounded to float32 before they are scored, and may leave their cell by a step.
    edges[:, 0], edges[:, -1] = edges[:, 0] - 2 * step, edges[:, -1] + 2 * step
    edges = edges.float().double()
    lower, upper = edges[:, 0], edges[:, -1]
    mass = torch.special.ndtr(lower[1:]) - torch.special.ndtr(upper[:-1])
    lower[1:] = torch.where(mass > LEAST_GAP, lower[1:], upper[:-1])
    if len(edges):
        lower[0] = torch.where(torch.special.ndtr(lower[0]) > LEAST_GAP, lower[0], -torch.inf)
        upper[-1] = torch.where(torch.special.ndtr(-upper[-1]) > LEAST_GAP, upper[-1], torch.inf)
    return edges[(edges[:, 1:] > edges[:, :-1]).all(1)]
