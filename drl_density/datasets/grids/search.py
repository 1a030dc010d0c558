"""Finds the grid that the values of a column lie on."""

from __future__ import annotations

import numpy as np

from drl_density.datasets.grids.atoms import atom_grid, atoms_grid
from drl_density.datasets.grids.grid import DISTINCT, Counts, Grid, decimal_grid, gap_grid, is_whole


def find_grid(values: np.ndarray, counts: Counts | None = None) -> Grid:
    """The coarsest decimal grid that holds at least 98 % of the values, or width 0 for a continuous column.

    A column counts as rounded when fewer than 60 % of its values are distinct, or when all are whole numbers. Repeated
    values that lie on no decimal grid get the median gap between neighbours. Grids are looked for from the range of the
    values downwards, so that a change of unit by a power of ten changes the grid by the same factor.

    Args:
        values: finite values.
        counts: counts of the whole column where ``values`` are a sample of it.

    >>> find_grid(np.repeat([1.1, 1.2, 1.4], 10))
    Grid(width=0.1, offset=0.0)
    """
    distinct = np.unique(values)
    num_values, num_distinct = (len(values), len(distinct)) if counts is None else counts[:2]
    if len(distinct) < 2:
        return Grid(0.0, 0.0)
    if num_distinct > DISTINCT * num_values and not is_whole(values):
        return atoms_grid(values) or Grid(0.0, 0.0)
    gap = float(np.median(np.diff(distinct)))
    return decimal_grid(values, distinct) or atoms_grid(values) or atom_grid(values) or gap_grid(values, gap)
