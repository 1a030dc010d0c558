"""A base for targets whose spread is steered by one of their coordinates, as in a funnel or a hierarchical model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LOG_TWO_PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class ScaleRegression:
    r"""x_j = a_j + b_j z + \exp((c_j + e_j z) / 2) v_j for all coordinates j but the driver z = x_i, with v ~ N(0, R).

    Attributes:
        driver: the index i.
        location: a and b, ``(2, d - 1)``.
        log_variance: c and e, ``(2, d - 1)``.
        factor: Cholesky factor of R, ``(d - 1, d - 1)``.
        center: of the driver, and its standard deviation.

    Source: Harvey 1976 (regression with multiplicative heteroscedasticity).
    """

    driver: int
    location: Tensor
    log_variance: Tensor
    factor: Tensor
    center: tuple[float, float]

    @classmethod
    def fit(cls, rows: Tensor, *, num_rounds: int = 4) -> ScaleRegression:
        """By maximum likelihood on rows ``(n, d)``, float64; the driver is the coordinate whose value tells most about the
        size of the others' residuals.
        """
        driver = _strongest_driver(rows)
        z, rest = _split(rows, driver)
        design = torch.stack([torch.ones_like(z), z], 1)
        location = torch.linalg.lstsq(design, rest).solution
        log_variance = _first_log_variance(design, rest - design @ location)
        for _ in range(num_rounds):
            weights = torch.exp(-design @ log_variance)
            location = _weighted_solve(design, weights, weights * rest)
            squared = (rest - design @ location).square()
            for _ in range(12):  # the larger of Fisher's and the observed information, so that no step goes too far
                ratio = squared * torch.exp(-design @ log_variance)
                log_variance = log_variance + _weighted_solve(design, ratio.clamp_min(1), ratio - 1)
        noise = (rest - design @ location) * torch.exp(-0.5 * design @ log_variance)
        covariance = noise.T @ noise / len(noise) + 1e-9 * torch.eye(noise.shape[1], dtype=noise.dtype)
        return cls(driver, location, log_variance, torch.linalg.cholesky(covariance), (float(z.mean()), float(z.std())))

    def to_unit(self, x: Tensor) -> Tensor:
        """Coordinates ``(n, d)``, the driver first, that are standard normal where the regression holds."""
        z, rest = _split(x, self.driver)
        noise = (rest - self._mean(z)) * torch.exp(-0.5 * self._log_variance(z))
        whitened = torch.linalg.solve_triangular(self.factor, noise.T, upper=False).T
        return torch.cat([((z - self.center[0]) / self.center[1])[:, None], whitened], 1)

    def from_unit(self, unit: Tensor) -> Tensor:
        """Back again."""
        z = self.center[0] + self.center[1] * unit[:, 0]
        rest = self._mean(z) + torch.exp(0.5 * self._log_variance(z)) * (unit[:, 1:] @ self.factor.T)
        return torch.cat([rest[:, : self.driver], z[:, None], rest[:, self.driver :]], 1)

    def log_volume(self, unit: Tensor) -> Tensor:
        """log of the Jacobian's determinant of :meth:`from_unit`, ``(n,)``."""
        z = self.center[0] + self.center[1] * unit[:, 0]
        fixed = math.log(self.center[1]) + float(self.factor.diagonal().log().sum())
        return 0.5 * self._log_variance(z).sum(1) + fixed

    def pull_back(self, unit: Tensor, gradient: Tensor) -> Tensor:
        """Gradient in unit coordinates of f(x) + log volume, from that of f in x, ``(n, d)``."""
        along, rest = _split(gradient, self.driver)
        z = self.center[0] + self.center[1] * unit[:, 0]
        spread = torch.exp(0.5 * self._log_variance(z))
        moved = self.location[1] + 0.5 * self.log_variance[1] * spread * (unit[:, 1:] @ self.factor.T)
        along = along + (rest * moved).sum(1) + 0.5 * self.log_variance[1].sum()
        return torch.cat([self.center[1] * along[:, None], (rest * spread) @ self.factor], 1)

    def to(self, like: Tensor) -> ScaleRegression:
        """In the dtype and on the device of ``like``."""
        tensors = [values.to(like) for values in (self.location, self.log_variance, self.factor)]
        return ScaleRegression(self.driver, *tensors, self.center)

    def in_units(self, center: Tensor, unit: Tensor) -> ScaleRegression:
        """The regression of center + unit * x where this one is that of x."""
        (shift, others), (size, sizes) = _parts(center, self.driver), _parts(unit, self.driver)
        slope = self.location[1] * sizes / size
        rate = self.log_variance[1] / size
        location = torch.stack([others + sizes * self.location[0] - slope * shift, slope])
        log_variance = torch.stack([self.log_variance[0] + 2 * sizes.log() - rate * shift, rate])
        moved = (float(shift) + float(size) * self.center[0], float(size) * self.center[1])
        return ScaleRegression(self.driver, location, log_variance, self.factor, moved)

    def widened(self, widening: float) -> ScaleRegression:
        """With every residual's standard deviation times ``widening``."""
        return ScaleRegression(self.driver, self.location, self.log_variance, widening * self.factor, self.center)

    def _mean(self, z: Tensor) -> Tensor:
        return self.location[0] + z[:, None] * self.location[1]

    def _log_variance(self, z: Tensor) -> Tensor:
        return self.log_variance[0] + z[:, None] * self.log_variance[1]


class ScaleBase:
    """A scale regression whose driver follows a mixture of normals.

    Args:
        chart: the regression.
        driver: distribution of the driver alone, with ``log_prob`` of ``(n, 1)`` and ``draw``.
    """

    def __init__(self, chart: ScaleRegression, driver: Any) -> None:
        self.chart, self.driver = chart, driver
        self.event_shape = torch.Size((1 + chart.location.shape[1],))

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of rows ``(n, d)``, ``(n,)``."""
        unit = self.chart.to_unit(x)
        normal = -0.5 * (unit[:, 1:].square() + LOG_TWO_PI).sum(1)
        driver = self.driver.log_prob(x[:, self.chart.driver, None])
        return driver + normal - self.chart.log_volume(unit) + math.log(self.chart.center[1])

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``(num_rows, d)``."""
        z = self.driver.draw(num_rows, generator)
        like = self.chart.location
        noise = torch.randn(num_rows, like.shape[1], generator=generator, dtype=like.dtype, device=like.device)
        return self.chart.from_unit(torch.cat([(z - self.chart.center[0]) / self.chart.center[1], noise], 1))


def _split(x: Tensor, driver: int) -> tuple[Tensor, Tensor]:
    return x[:, driver], torch.cat([x[:, :driver], x[:, driver + 1 :]], 1)


def _parts(values: Tensor, driver: int) -> tuple[Tensor, Tensor]:
    first, others = _split(values[None], driver)
    return first[0], others[0]


def _weighted_solve(design: Tensor, weights: Tensor, values: Tensor) -> Tensor:
    """Columns s_j of sum_n w_nj d_n d_n^T s_j = sum_n d_n v_nj."""
    gram = torch.einsum("na,nj,nb->jab", design, weights, design)
    return torch.linalg.solve(gram, (values.T @ design)[..., None])[..., 0].T


def _first_log_variance(design: Tensor, residuals: Tensor) -> Tensor:
    """Least squares on log squared residuals, whose mean lies 1.27 below the log variance for normal ones."""
    values = residuals.square().clamp_min(torch.finfo(residuals.dtype).tiny).log() + 1.2704
    return torch.linalg.lstsq(design, values).solution


def _strongest_driver(rows: Tensor) -> int:
    strength = []
    for driver in range(rows.shape[1]):
        z, rest = _split(rows, driver)
        design = torch.stack([torch.ones_like(z), z], 1)
        residuals = rest - design @ torch.linalg.lstsq(design, rest).solution
        strength.append(float((_first_log_variance(design, residuals)[1] * z.std()).square().sum()))
    return max(range(len(strength)), key=lambda index: strength[index])
