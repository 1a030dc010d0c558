"""The shape of a target around a point: principal axes, and how wide it is along each of them."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.mcmc import LogDensity, value_and_gradient
from drl_density.partition_function.annealing.plan import spread_or_one
from drl_density.partition_function.target_bases.scale_base import LOG_TWO_PI
from drl_density.records.brief import brief

DROP = 0.5
"""Nats by which the log density falls within one width: one standard deviation of a Gaussian."""
MOST_PASSES = 60
"""Largest number of evaluations of a ray, enough for widths from 1e-18 to 1e18 of the first guess."""
LEAST_WIDTH = 1e-100
"""Smallest width, whose inverse and square are still numbers."""
MOST_DENSE = 1000
"""Largest dimension in which principal axes are computed; beyond it, widths are those along the coordinates."""
MOST_ROWS = 8192
"""Largest number of rows evaluated at once."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A Gaussian with the place and the widths of a mode.

    Attributes:
        center: the point ``(d,)``, float64.
        value: log density there.
        factor: matrix F with covariance :math:`F F^T` ``(d, d)``.
        inverse: inverse of F ``(d, d)``.
    """

    center: Tensor
    value: float
    factor: Tensor
    inverse: Tensor

    __repr__ = brief

    @property
    def widths(self) -> Tensor:
        """Standard deviations along the principal axes ``(d,)``, in rising order."""
        return torch.linalg.svdvals(self.factor).flip(0)

    @property
    def width(self) -> float:
        """Geometric mean of the widths."""
        return math.exp(self.log_volume / len(self.center))

    @functools.cached_property
    def log_volume(self) -> float:
        """Logarithm of the determinant of F."""
        return float(torch.linalg.slogdet(self.factor).logabsdet)

    @property
    def log_mass(self) -> float:
        """Laplace's approximation of the mass: the integral of a Gaussian of this height and covariance, its logarithm."""
        return self.value + self.log_volume + 0.5 * len(self.center) * LOG_TWO_PI

    def log_density(self, x: Tensor) -> Tensor:
        """Normalised log density of the Gaussian at rows ``(n, d)``, ``(n,)``."""
        return -0.5 * (self.distances(x) + len(self.center) * LOG_TWO_PI) - self.log_volume

    def whiten(self, x: Tensor) -> Tensor:
        """Coordinates of rows ``(n, d)`` in which the Gaussian is standard normal."""
        return (x - self.center) @ self.inverse.T

    def color(self, z: Tensor) -> Tensor:
        """Rows with the given coordinates; the inverse of :meth:`whiten`."""
        return self.center + z @ self.factor.T

    def distances(self, x: Tensor) -> Tensor:
        """Squared distance of rows ``(n, d)`` in standard deviations ``(n,)``."""
        return self.whiten(x).square().sum(1)


def measure_shape(log_density: LogDensity, center: Tensor, *, scale: float = 1.0, has_gradient: bool = True) -> Shape:
    """Widths of the target around an optimum, along its principal axes.

    A width is the distance over which the log density falls by half a nat, averaged over both directions. It equals the
    standard deviation of a Gaussian, and it is finite on flat tops and kinks, where second derivatives are zero or infinite.
    The axes are those of the Hessian, by central differences of the gradient over the widths of the coordinates.

    Args:
        log_density: maps rows ``(n, d)`` to ``(n,)``.
        center: the optimum ``(d,)``.
        scale: first guess of the widths.
        has_gradient: whether the log density can be differentiated; without a gradient the axes are the coordinates.

    >>> wide = torch.tensor([1.0, 3.0]).double()
    >>> shape = measure_shape(lambda x: -0.5 * (x / wide).square().sum(-1), torch.zeros(2).double())
    >>> [round(float(width), 6) for width in shape.widths]
    [1.0, 3.0]
    """
    center = center.detach().double()
    dim = len(center)
    with torch.no_grad():
        value = float(log_density(center[None]))
    coordinates = torch.eye(dim, dtype=torch.float64)
    along = measure_widths(log_density, center, value, coordinates, torch.full((dim,), scale).double())
    if not has_gradient or dim > MOST_DENSE or dim == 1:
        return Shape(center, value, along.diag(), (1 / along).diag())
    curvature = _curvature(log_density, center, along)
    eigenvalues, axes = torch.linalg.eigh(curvature)
    axes = along[:, None] * axes  # columns: directions whose Gaussian width would be 1 / sqrt(eigenvalue)
    # A flat or rising axis has no Gaussian width: its guess is large, and still a number where all axes are flat. The
    # search along the axis corrects it.
    guess = eigenvalues.clamp_min(1e-8 * float(eigenvalues.abs().max().clamp_min(1e-300))).rsqrt()
    widths = measure_widths(log_density, center, value, axes.T, guess)
    factor = axes * widths
    return Shape(center, value, factor, torch.linalg.inv(factor))


def fitted_shape(draws: Tensor) -> Shape:
    """The Gaussian of draws ``(n, d)``, its covariance shrunk towards its diagonal where draws are few.

    The value at its centre is set so that its mass is 1.
    """
    rows = draws.double()
    count, dim = rows.shape
    center, scale = rows.mean(0), spread_or_one(rows)
    correlation = (
        ((rows - center) / scale).T.cov().reshape(dim, dim) if count > 1 else torch.eye(dim, dtype=torch.float64)
    )
    kept = count / (count + 2 * dim)
    correlation = kept * correlation + (1 - kept) * torch.eye(dim, dtype=torch.float64)
    factor = scale[:, None] * torch.linalg.cholesky(correlation)
    shape = Shape(center, 0.0, factor, torch.linalg.inv(factor))
    return dataclasses.replace(shape, value=-shape.log_mass)


def measure_widths(log_density: LogDensity, center: Tensor, value: float, directions: Tensor, guess: Tensor) -> Tensor:
    """Multiples of each direction over which the log density falls by half a nat, averaged over both signs, ``(k,)``.

    Args:
        center: the point ``(d,)``.
        value: log density there.
        directions: directions ``(k, d)``.
        guess: first multiple of each ``(k,)``.
    """
    rays = torch.cat([directions, -directions])
    multiple = torch.cat([guess, guess]).clone()
    low, high = torch.zeros_like(multiple), torch.full_like(multiple, torch.inf)
    (open_,) = torch.ones_like(multiple, dtype=torch.bool).nonzero(as_tuple=True)
    for _ in range(MOST_PASSES):
        drop = value - _values(log_density, center + multiple[open_, None] * rays[open_])
        drop = torch.where(drop.isnan(), torch.inf, drop)  # not-a-number counts as a density of zero
        is_near = (drop > 0.8 * DROP) & (drop < 1.25 * DROP)
        near = open_[is_near]
        multiple[near] *= (DROP / drop[is_near]).sqrt()
        open_, drop = open_[~is_near], drop[~is_near]
        is_low = drop < DROP
        low[open_[is_low]] = multiple[open_[is_low]]
        high[open_[~is_low]] = multiple[open_[~is_low]]
        multiple[open_] = _next_multiple(multiple[open_], low[open_], high[open_], drop)
        # A wall or a step has no place where the drop is half a nat: its edge is known well enough.
        open_ = open_[high[open_] > 1.001 * low[open_]]
        if not len(open_):
            break
    first, second = multiple.chunk(2)
    # A spike such as a logarithmic singularity has width 0, and a matrix of widths then no inverse.
    return (0.5 * (first + second)).clamp_min(LEAST_WIDTH)


def _next_multiple(multiple: Tensor, low: Tensor, high: Tensor, drop: Tensor) -> Tensor:
    """The multiple by a parabola through the optimum where the drop is useful, kept inside the bracket."""
    # A parabola through a drop near 0, or a very large one, says little: a trial moves by a factor of 30 at most.
    parabola = multiple * (DROP / drop.clamp_min(1e-3)).sqrt()
    parabola = torch.where(drop.isfinite(), parabola.clamp(0.03 * multiple, 30 * multiple), 0.1 * multiple)
    is_bracketed = (low > 0) & high.isfinite()
    middle = (low * high).sqrt()
    is_inside = (parabola > low + 0.05 * (high - low)) & (parabola < high - 0.05 * (high - low))
    return torch.where(is_bracketed & ~is_inside, middle, parabola)


def _curvature(log_density: LogDensity, center: Tensor, along: Tensor) -> Tensor:
    """Minus the Hessian in units of the coordinates' widths ``(d, d)``, by central differences over half a width."""
    steps = 0.5 * along.diag()
    points = torch.cat([center + steps, center - steps])
    parts = [value_and_gradient(log_density, rows)[1] for rows in points.split(MOST_ROWS)]
    forward, backward = torch.cat(parts).double().chunk(2)
    curvature = (backward - forward) * along  # row i: change over one width of coordinate i
    # Beside a wall differences are not finite; the axis then counts as flat, and its width is measured as elsewhere.
    curvature = torch.where(curvature.isfinite(), curvature, torch.zeros_like(curvature))
    return 0.5 * (curvature + curvature.T)


def _values(log_density: LogDensity, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([log_density(rows).double() for rows in x.split(MOST_ROWS)])
