"""A base for targets in which one coordinate sets the scale of the others, as in a funnel or a hierarchical model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.errors import NumericalError
from drl_density.partition_function.annealing.path import ExactBase
from drl_density.partition_function.factors import covariance_factor
from drl_density.partition_function.target_bases.curved_base import CurvedRegression, log_squares

LOG_TWO_PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class ScaleRegression:
    r"""Regression of location and scale of all coordinates on one of them, the driver.

    :math:`x_j = a_j + b_j z + \exp((c_j + e_j z) / 2)\, v_j` for all coordinates j but the driver z = x_i, with
    v ~ N(0, R).

    Attributes:
        driver: index i of the driver.
        location: coefficients a and b, ``(2, d - 1)``.
        log_variance: coefficients c and e, ``(2, d - 1)``.
        factor: Cholesky factor of R, ``(d - 1, d - 1)``.
        center: mean and standard deviation of the driver.

    Source: Harvey 1976 (regression with multiplicative heteroscedasticity).
    """

    driver: int
    location: Tensor
    log_variance: Tensor
    factor: Tensor
    center: tuple[float, float]

    @property
    def num_features(self) -> int:
        """Number d of coordinates."""
        return 1 + self.location.shape[1]

    @classmethod
    def fit(cls, rows: Tensor, *, num_rounds: int = 4) -> ScaleRegression:
        """Fit by maximum likelihood to rows ``(n, d)``, float64.

        The driver is the coordinate that explains most of the size of the others' residuals.

        Args:
            rows: rows ``(n, d)`` of at least two coordinates.
            num_rounds: alternations between location and scale.

        Raises:
            NumericalError: a driver that does not vary.
            RuntimeError: coordinates that determine each other.
        """
        driver = strongest_drivers(rows)[0]
        z, rest = _split(rows, driver)
        if not float(z.std()) > 0:
            raise NumericalError("the driver of a scale regression must vary, and all of its values are equal")
        design = torch.stack([torch.ones_like(z), z], 1)
        location = torch.linalg.lstsq(design, rest).solution
        log_variance = _first_log_variance(design, rest - design @ location)
        for _ in range(num_rounds):
            weights = torch.exp(-design @ log_variance)
            location = _weighted_solve(design, weights, weights * rest)
            squared = (rest - design @ location).square()
            # Scoring steps with the larger of Fisher's and the observed information, so that no step goes too far.
            for _ in range(12):
                ratio = squared * torch.exp(-design @ log_variance)
                log_variance = log_variance + _weighted_solve(design, ratio.clamp_min(1), ratio - 1)
        noise = (rest - design @ location) * torch.exp(-0.5 * design @ log_variance)
        covariance = noise.T @ noise / len(noise) + 1e-9 * torch.eye(noise.shape[1], dtype=noise.dtype)
        return cls(driver, location, log_variance, covariance_factor(covariance), (float(z.mean()), float(z.std())))

    def to_unit(self, x: Tensor) -> Tensor:
        """Coordinates ``(n, d)``, the driver first, that are standard normal where the regression holds."""
        z, rest = _split(x, self.driver)
        noise = (rest - self._mean(z)) * torch.exp(-0.5 * self._log_variance(z))
        whitened = torch.linalg.solve_triangular(self.factor, noise.T, upper=False).T
        return torch.cat([((z - self.center[0]) / self.center[1])[:, None], whitened], 1)

    def from_unit(self, unit: Tensor) -> Tensor:
        """The points ``(n, d)`` with these unit coordinates; the inverse of :meth:`to_unit`."""
        z = self.center[0] + self.center[1] * unit[:, 0]
        rest = self._mean(z) + torch.exp(0.5 * self._log_variance(z)) * (unit[:, 1:] @ self.factor.T)
        return torch.cat([rest[:, : self.driver], z[:, None], rest[:, self.driver :]], 1)

    def log_volume(self, unit: Tensor) -> Tensor:
        """Logarithm of the Jacobian determinant of :meth:`from_unit`, ``(n,)``."""
        z = self.center[0] + self.center[1] * unit[:, 0]
        fixed = math.log(self.center[1]) + float(self.factor.diagonal().log().sum())
        return 0.5 * self._log_variance(z).sum(1) + fixed

    def pull_back(self, unit: Tensor, gradient: Tensor) -> Tensor:
        """Gradient of f(x) + log volume in unit coordinates ``(n, d)``, from the gradient of f in x."""
        along, rest = _split(gradient, self.driver)
        z = self.center[0] + self.center[1] * unit[:, 0]
        spread = torch.exp(0.5 * self._log_variance(z))
        moved = self.location[1] + 0.5 * self.log_variance[1] * spread * (unit[:, 1:] @ self.factor.T)
        along = along + (rest * moved).sum(1) + 0.5 * self.log_variance[1].sum()
        return torch.cat([self.center[1] * along[:, None], (rest * spread) @ self.factor], 1)

    def to(self, like: Tensor) -> ScaleRegression:
        """The same regression in the dtype and on the device of ``like``."""
        location, log_variance, factor = (values.to(like) for values in (self.location, self.log_variance, self.factor))
        return ScaleRegression(self.driver, location, log_variance, factor, self.center)

    def in_units(self, center: Tensor, unit: Tensor) -> ScaleRegression:
        """The regression of ``center + unit * x``, where this one is the regression of x."""
        (shift, others), (size, sizes) = _parts(center, self.driver), _parts(unit, self.driver)
        slope = self.location[1] * sizes / size
        rate = self.log_variance[1] / size
        location = torch.stack([others + sizes * self.location[0] - slope * shift, slope])
        log_variance = torch.stack([self.log_variance[0] + 2 * sizes.log() - rate * shift, rate])
        moved = (float(shift) + float(size) * self.center[0], float(size) * self.center[1])
        return ScaleRegression(self.driver, location, log_variance, self.factor, moved)

    def widened(self, widening: float) -> ScaleRegression:
        """The same regression with every residual's standard deviation multiplied by ``widening``."""
        return ScaleRegression(self.driver, self.location, self.log_variance, widening * self.factor, self.center)

    def _mean(self, z: Tensor) -> Tensor:
        return self.location[0] + z[:, None] * self.location[1]

    def _log_variance(self, z: Tensor) -> Tensor:
        return self.log_variance[0] + z[:, None] * self.log_variance[1]


class ScaleBase:
    """A regression whose driver follows a mixture of normals.

    Args:
        chart: regression of all coordinates on the driver.
        driver: distribution of the driver alone, over rows ``(n, 1)``.
    """

    def __init__(self, chart: ScaleRegression | CurvedRegression, driver: ExactBase) -> None:
        self.chart, self.driver = chart, driver
        self.event_shape = torch.Size((chart.num_features,))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        unit = self.chart.to_unit(x)
        normal = -0.5 * (unit[:, 1:].square() + LOG_TWO_PI).sum(1)
        driver = self.driver.log_prob(x[:, self.chart.driver, None])
        density = driver + normal - self.chart.log_volume(unit) + math.log(self.chart.center[1])
        # Far from the draws the scale is so small that a residual overflows: the density is then 0 in floating point.
        return torch.where(unit.isfinite().all(1), density, -torch.inf)

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``(num_rows, d)``."""
        z = self.driver.draw(num_rows, generator)
        shape = (num_rows, self.chart.num_features - 1)
        noise = torch.randn(shape, generator=generator, dtype=z.dtype, device=z.device)
        return self.chart.from_unit(torch.cat([(z - self.chart.center[0]) / self.chart.center[1], noise], 1))


def _split(x: Tensor, driver: int) -> tuple[Tensor, Tensor]:
    return x[:, driver], torch.cat([x[:, :driver], x[:, driver + 1 :]], 1)


def _parts(values: Tensor, driver: int) -> tuple[Tensor, Tensor]:
    first, others = _split(values[None], driver)
    return first[0], others[0]


def _weighted_solve(design: Tensor, weights: Tensor, values: Tensor) -> Tensor:
    """Solutions s_j of sum_n w_nj d_n d_n^T s_j = sum_n d_n v_nj, as columns."""
    gram = torch.einsum("na,nj,nb->jab", design, weights, design)
    return torch.linalg.solve(gram, (values.T @ design)[..., None])[..., 0].T


def _first_log_variance(design: Tensor, residuals: Tensor) -> Tensor:
    """Least squares on log squared residuals."""
    return torch.linalg.lstsq(design, log_squares(residuals)).solution


def strongest_drivers(rows: Tensor) -> list[int]:
    """Coordinates by their effect on the log variances of the others, the largest first."""
    strength = []
    for driver in range(rows.shape[1]):
        z, rest = _split(rows, driver)
        design = torch.stack([torch.ones_like(z), z], 1)
        residuals = rest - design @ torch.linalg.lstsq(design, rest).solution
        strength.append(float((_first_log_variance(design, residuals)[1] * z.std()).square().sum()))
    return sorted(range(len(strength)), key=lambda index: -strength[index])
