"""Points at which a target has density, found before anything else is known about it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from drl_density.mcmc import LogDensity, value_and_gradient
from drl_density.partition_function.target_bases.contract import GivenBase
from drl_density.partition_function.targets.flat_density import FlatDensity
from drl_density.records.brief import brief

RADII = tuple(10.0**exponent for exponent in range(-8, 9))
"""Standard deviations of the normal draws at which a target is tried, in units of its real coordinates."""
ROWS_PER_RADIUS, NUM_ROWS = 64, 512
"""Normal draws of every width; draws of a base and rows of data."""
MOST_ROWS, ROWS_AT_ONCE = 65536, 4096
"""Further draws of every kind together when none has density, in batches."""
NUM_ASCENTS = 30
"""Steps of an ascent towards the largest log density."""


@dataclass(frozen=True, eq=False)
class Ground:
    """Points with density, best first.

    Attributes:
        rows: points in flat coordinates ``(n, d)``.
        values: log density at each, nats ``(n,)``.
    """

    rows: Tensor
    values: Tensor

    __repr__ = brief

    @classmethod
    def of(cls, rows: Tensor, values: Tensor) -> Ground:
        """The rows of finite log density, best first."""
        order = values.argsort(descending=True)
        order = order[values[order].isfinite()]
        return cls(rows[order], values[order])

    def moved(self, center: Tensor, unit: Tensor) -> Ground:
        """The same points in coordinates with another center and other units."""
        return Ground((self.rows - center) / unit, self.values + unit.log().sum())


def find_ground(
    log_density: FlatDensity,
    *,
    base: GivenBase | None,
    data: Tensor | None,
    generator: torch.Generator | None,
) -> Ground:
    """Try draws of the base, or normal draws of widths from 1e-8 to 1e8, and rows of data.

    Raises:
        ValueError: no density at any point; the message says whether values were NaN or minus infinity, and where.
    """
    counted, dim = log_density.counted(), log_density.coordinates.num_features
    if base is None:
        rows, origin = _normal_rows(ROWS_PER_RADIUS, dim, generator), "normal draws of widths from 1e-8 to 1e8"
    else:
        rows, origin = base.draw(NUM_ROWS, generator), "draws of the base"
    if data is not None:
        rows, origin = torch.cat([data[:NUM_ROWS], rows]), f"rows of data and {origin}"
    found = Ground.of(rows, _values(counted, rows))
    for _ in range(MOST_ROWS // ROWS_AT_ONCE):
        if len(found.rows):
            return found
        if base is None:
            rows = _normal_rows(ROWS_AT_ONCE // len(RADII), dim, generator)
        else:
            rows = base.draw(ROWS_AT_ONCE, generator)
        found = Ground.of(rows, _values(counted, rows))
    if len(found.rows):
        return found
    raise ValueError(_nothing_found(counted, origin))


def highest_value(log_density: LogDensity, ground: Ground) -> float:
    """A value near the largest log density, by one ascent from the best point found; for a constant to be taken off.

    Draws alone may stay far below it: a target 1e-6 wide lies 1e12 nats above a point one unit away.
    """
    from scipy.optimize import minimize

    best = float(ground.values[0])

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        value, gradient = value_and_gradient(log_density, torch.as_tensor(point)[None])
        if not math.isfinite(float(value)):
            return math.inf, np.zeros_like(point)
        best = max(best, float(value))
        return -float(value), -gradient[0].numpy()

    minimize(loss, ground.rows[0].numpy(), jac=True, method="L-BFGS-B", options={"maxiter": NUM_ASCENTS})
    return best


def _nothing_found(counted: FlatDensity, origin: str) -> str:
    tried = counted.rejections
    where = f"at all {tried.num_points} points tried ({origin})"
    if tried.num_undefined == tried.num_points:
        return f"the log density is NaN or plus infinity {where}: look for the logarithm of a negative number, or 0 / 0"
    if tried.num_zero == tried.num_points:
        return (
            f"the log density is minus infinity {where}: give base= or data= where the target has density, or state its "
            "support (EnergyDistribution(..., support=)), so that every point lies inside"
        )
    return (
        f"the log density is nowhere finite, {tried.num_zero} times minus infinity and {tried.num_undefined} times NaN or "
        f"plus infinity {where}: give base= or data= where the target has density, or state its support"
    )


def _normal_rows(count: int, dim: int, generator: torch.Generator | None) -> Tensor:
    """Normal draws of every width, ``count`` of each."""
    radii = torch.tensor(RADII, dtype=torch.float64).repeat_interleave(count)
    return radii[:, None] * torch.randn(len(radii), dim, generator=generator, dtype=torch.float64)


def _values(log_density: LogDensity, rows: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([log_density(part) for part in rows.split(ROWS_AT_ONCE)])
