"""Gaussians: many coordinates, strong correlation, extreme scales, far locations and large constants."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from drl_density.testing.targets.record import LOG_TWO_PI, Builder, Definition, normal, rotated


def gaussian(scales: Tensor, notes: str, *, mean: float = 0.0, offset: float = 0.0) -> Definition:
    """``exp(offset - |(x - mean) / scales|^2 / 2)`` with standard deviations ``scales`` along the axes."""
    dim = len(scales)

    def log_density(x: Tensor) -> Tensor:
        return offset - 0.5 * ((x - mean) / scales.to(x)).square().sum(-1)

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        return mean + scales * normal(count, dim, generator=generator)

    log_z = offset + 0.5 * dim * LOG_TWO_PI + float(scales.log().sum())
    return Definition(log_density, (dim,), log_z, notes, draws)


def unit(dim: int, notes: str, *, mean: float = 0.0, offset: float = 0.0) -> Definition:
    """A Gaussian of unit scales."""
    return gaussian(torch.ones(dim, dtype=torch.float64), notes, mean=mean, offset=offset)


def scaled(dim: int, scale: float, mean: float) -> Definition:
    """A Gaussian far from unit scale."""
    return gaussian(torch.full((dim,), scale, dtype=torch.float64), f"standard deviations {scale:g}", mean=mean)


def spread(low: float, high: float, dim: int, notes: str) -> Definition:
    """A Gaussian whose scales are spaced evenly in their logarithm."""
    return gaussian(torch.logspace(low, high, dim, dtype=torch.float64), notes)


def equicorrelated(dim: int, correlation: float) -> Definition:
    """Unit variances and one correlation between all coordinates."""
    covariance = (1 - correlation) * torch.eye(dim).double() + correlation
    factor = torch.linalg.cholesky(covariance)
    precision = torch.cholesky_inverse(factor)

    def log_density(x: Tensor) -> Tensor:
        return -0.5 * (x * (x @ precision.to(x))).sum(-1)

    def draws(count: int, generator: torch.Generator | None) -> Tensor:
        return normal(count, dim, generator=generator) @ factor.T

    log_z = 0.5 * dim * LOG_TWO_PI + float(factor.diagonal().log().sum())
    return Definition(log_density, (dim,), log_z, f"correlation {correlation:g} between all coordinates", draws)


TARGETS: dict[str, Builder] = {
    "gaussian_2d": partial(unit, 2, "the easiest target"),
    "gaussian_20d": partial(unit, 20, "an easy target"),
    "gaussian_far_10d": partial(unit, 10, "its centre lies 158 standard deviations from the origin", mean=50.0),
    "gaussian_correlated_50d": partial(equicorrelated, 50, 0.95),
    "gaussian_condition_1e4_200d": lambda: rotated(
        spread(-1, 1, 200, ""), 0, "standard deviations from 0.1 to 10 along rotated axes"
    ),
    "gaussian_narrow_5d": partial(scaled, 5, 1e-6, 1.0),
    "gaussian_wide_5d": partial(scaled, 5, 1e6, 0.0),
    "gaussian_mixed_scales_4d": partial(spread, -3, 3, 4, "standard deviations from 0.001 to 1000 along the axes"),
    "gaussian_offset_1e7_2d": partial(unit, 2, "log densities of 1e7 leave single precision no digits", offset=1e7),
    "gaussian_offset_1e8_5d": partial(unit, 5, "log densities as large as likelihoods of large data", offset=1e8),
    "gaussian_offset_minus_1e9_2d": partial(unit, 2, "log densities near -1e9", offset=-9.76e8),
}
