"""Points inside the cells of given values of closed supports.

A label, a yes or no, or a rating is spread over its cell, so conditioning on it means the whole cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from drl_density.datasets import Column
from drl_density.density.data_units import on_support

NUM_NODES = 32
"""Points over which a conditional averages a cell; a power of two, as Sobol points are balanced there."""


def given_in_cells(columns: Sequence[Column], is_missing: Tensor) -> Tensor:
    """Which given values stand for a whole cell (columns with a closed support), of the shape of ``is_missing``."""
    return ~is_missing & torch.tensor([column.is_closed for column in columns])


def cell_positions(
    columns: Sequence[Column],
    rows: Tensor,
    is_missing: Tensor,
    num_groups: int,
    *,
    num_strata: int = 1,
    generator: torch.Generator | None = None,
    uniform: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Rows with given values at random points of their cells.

    A group of points is a Latin hypercube sample: in every column each stratum of the cell holds one of them. The average
    of a smooth function over it has a far smaller error than over independent points, and groups are independent.

    Args:
        rows: rows ``(n, d)`` in data units.
        is_missing: which cells are not given, ``(n, d)``.
        num_groups: independent groups of points.
        num_strata: strata of a cell, and points of a group; with 1 all points are independent.
        generator: source of the uniform numbers behind the points.
        uniform: these numbers themselves, of shape :func:`numbers_of_positions`.

    Returns:
        Rows ``(n, num_groups * num_strata, d)``, group after group, and the mask ``(n, d)`` of values that stand for a cell.

    Source: McKay, Beckman and Conover 1979 (Latin hypercube sampling).
    """
    in_cell = given_in_cells(columns, is_missing)
    places = rows[:, None].repeat(1, num_groups * num_strata, 1)
    if bool(in_cell.any()):
        widths = torch.tensor([column.width for column in columns], dtype=torch.float64)
        if uniform is None:
            shape = (len(rows), *numbers_of_positions(num_groups, num_strata, rows.shape[1]))
            uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        order, within = uniform.unbind(1)
        shares = ((order.argsort(2) + within) / num_strata).flatten(1, 2)
        spread = on_support(columns, places) + (shares - 0.5) * widths
        places = torch.where(in_cell[:, None], spread, places)
    return places, in_cell


def numbers_of_positions(num_groups: int, num_strata: int, num_features: int) -> tuple[int, ...]:
    """Shape of the uniform numbers that :func:`cell_positions` needs for one row."""
    return 2, num_groups, num_strata, num_features


def cell_nodes(columns: Sequence[Column], row: Tensor, is_missing: Tensor) -> tuple[Tensor, Tensor]:
    """Evenly spread points ``(N, d)`` in one row's given cells, and a mask ``(d,)`` of those cells; N is 1 without any.

    The points are a Sobol sequence with a fixed seed, so that the same condition always gives the same density.
    """
    in_cell = given_in_cells(columns, is_missing)
    count = int(in_cell.sum())
    if not count:
        return row[None], in_cell
    from scipy.stats import qmc

    places = torch.where(in_cell, on_support(columns, row[None]), row[None]).repeat(NUM_NODES, 1)
    widths = torch.tensor([column.width for column in columns], dtype=torch.float64)
    spread = torch.as_tensor(qmc.Sobol(count, seed=0).random(NUM_NODES))  # pyright: ignore[reportCallIssue] newer name: rng
    places[:, in_cell] += (spread - 0.5) * widths[in_cell]
    return places, in_cell
