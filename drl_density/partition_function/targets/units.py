"""Units in which a target's coordinates are of order one, where its own are far from it."""

from __future__ import annotations

import torch
from torch import Tensor

from drl_density.mcmc import LogDensity
from drl_density.partition_function.target_bases.contract import GivenBase
from drl_density.partition_function.targets.flat_density import FlatDensity
from drl_density.partition_function.targets.ground import NUM_ROWS, ROWS_AT_ONCE, Ground
from drl_density.shapes import spread

FAR = 30.0
"""Factor from one unit up to which widths and distances are left as they are."""
LADDER = tuple(10.0**exponent for exponent in range(-9, 10))
"""Distances at which a log density is compared with that at a point."""
DROP = 2.0
"""Nats by which a log density falls over about one width."""
NUM_POINTS, NUM_DIRECTIONS = 24, 4
"""Points around which widths are found, and random directions in which their widths are compared."""


def find_units(
    log_density: FlatDensity,
    ground: Ground,
    *,
    base: GivenBase | None,
    data: Tensor | None,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Center and unit of every coordinate, ``(d,)`` each: 0 and 1 unless the target is far from that.

    Rows of data, or draws of a base, give both by their median and spread. Without either, only units above 1 are found, by
    the widths of the target along its coordinates: from a base that is too narrow nothing is reached, while one that is too
    wide costs a few more bridges.

    Args:
        log_density: log density of rows ``(n, d)``.
        ground: points with density.
        base: given base over rows ``(n, d)``.
        data: rows of data ``(n, d)``.
    """
    if data is not None and len(data) > 1:
        return _from_rows(data)
    if base is not None:
        return _from_rows(base.draw(NUM_ROWS, generator))
    zeros = torch.zeros_like(ground.rows[0])
    unit = _widths_of_coordinates(log_density, _heaviest(log_density, ground, generator))
    return zeros, torch.where(unit > FAR, unit, torch.ones_like(unit))


def _from_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    width, middle = spread(rows), rows.median(0).values
    is_usable = (width > 0) & ((width > FAR) | (width < 1 / FAR))
    unit = torch.where(is_usable, width, torch.ones_like(width))
    return torch.where(middle.abs() > FAR * unit, middle, torch.zeros_like(middle)), unit


def _heaviest(log_density: LogDensity, ground: Ground, generator: torch.Generator | None) -> Tensor:
    """The point around which there is most mass: log density plus d times the log of its width in random directions.

    The highest density alone is no sign of mass, as in the neck of a funnel or at the wall of an exponential density.
    """
    places = torch.linspace(0, len(ground.rows) - 1, min(NUM_POINTS, len(ground.rows))).long()
    points, values, dim = ground.rows[places], ground.values[places], ground.rows.shape[1]
    directions = torch.randn(NUM_DIRECTIONS, dim, generator=generator, dtype=torch.float64)
    widths = _widths(log_density, points.repeat_interleave(NUM_DIRECTIONS, 0), directions.repeat(len(points), 1))
    typical = widths.reshape(len(points), NUM_DIRECTIONS).log().median(1).values
    return points[(values + dim * typical).argmax()]


def _widths_of_coordinates(log_density: LogDensity, point: Tensor) -> Tensor:
    """Width along every coordinate around a point ``(d,)``; 1 for coordinates that are less than 100 wide."""
    unit = torch.ones_like(point)
    directions = torch.eye(len(point), dtype=point.dtype)
    is_wide = _reaches(log_density, point.expand(len(point), -1), directions, (100.0,)) > 0
    if bool(is_wide.any()):
        directions = directions[is_wide]
        unit[is_wide] = _widths(log_density, point.expand(len(directions), -1), directions)
    return unit


def _widths(log_density: LogDensity, points: Tensor, directions: Tensor) -> Tensor:
    """Distance over which the log density falls by 2 nats, to a factor of 10, ``(n,)``; 1 where it never does."""
    reaches = _reaches(log_density, points, directions, LADDER)
    widths = torch.tensor((LADDER[0] / 10, *LADDER), dtype=points.dtype)[reaches]
    return torch.where(reaches == len(LADDER), torch.ones_like(widths), widths)


def _reaches(log_density: LogDensity, points: Tensor, directions: Tensor, ladder: tuple[float, ...]) -> Tensor:
    """How many rungs of a ladder of distances the log density stays within 2 nats, ``(n,)``.

    The shorter of both sides counts. A side that ends at a wall counts only where the other one does too, and then the
    longer one counts.
    """
    steps, here = torch.tensor(ladder, dtype=points.dtype), _values(log_density, points)[:, None]
    reaches, walls = [], []
    for sign in (1.0, -1.0):
        moved = points[:, None] + sign * steps[:, None] * directions[:, None]
        values = _values(log_density, moved.reshape(-1, points.shape[1])).reshape(-1, len(ladder))
        reach = (values > here - DROP).long().cumprod(1).sum(1)
        reaches.append(reach)
        # Where every rung is within reach there is no value after the last one, and the last one stands in, unused.
        after = values.gather(1, reach.clamp(max=len(ladder) - 1)[:, None])[:, 0]
        walls.append((reach < len(ladder)) & (after == -torch.inf))
    up, down = reaches
    longer, shorter = torch.maximum(up, down), torch.minimum(up, down)
    one_wall = torch.where(walls[0], down, up)
    found = torch.where(walls[0] ^ walls[1], one_wall, shorter)
    return torch.where(walls[0] & walls[1], longer, found)


def _values(log_density: LogDensity, rows: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([log_density(part) for part in rows.split(ROWS_AT_ONCE)])
