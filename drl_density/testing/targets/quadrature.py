"""Integrals by Gauss-Legendre rules on panels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

NODES_PER_PANEL = 16
"""Points of the rule on each panel; it is exact for polynomials of degree 31."""


class Rule(NamedTuple):
    """Points of a rule and the logarithms of their weights, ``(n,)`` each."""

    points: Tensor
    log_weights: Tensor


def rule(low: float, high: float, num_panels: int) -> Rule:
    """Build a Gauss-Legendre rule on equal panels between two ends.

    >>> grid = rule(0.0, 2.0, 3)
    >>> round(float((2 * grid.points.log() + grid.log_weights).exp().sum()), 12)  # x^2 from 0 to 2
    2.666666666667
    """
    nodes, weights = (torch.as_tensor(part) for part in np.polynomial.legendre.leggauss(NODES_PER_PANEL))
    half = (high - low) / num_panels / 2
    centers = low + half * (2 * torch.arange(num_panels, dtype=torch.float64) + 1)
    points = (centers[:, None] + half * nodes).flatten()
    return Rule(points, (half * weights).log().repeat(num_panels))


def log_integral(log_density: Callable[[Tensor], Tensor], bounds: Sequence[tuple[float, float]], num_panels: int) -> float:
    """Compute the logarithm of the integral of ``exp(log_density)`` over a box, in nats.

    Args:
        log_density: log density of rows ``(n, d)``; minus infinity is allowed.
        bounds: lower and upper end of each of the d coordinates.
        num_panels: panels of each coordinate.

    >>> round(log_integral(lambda x: -0.5 * x.square().sum(-1), [(-9.0, 9.0)] * 2, 9) - math.log(2 * math.pi), 9)
    0.0
    """
    rules = [rule(low, high, num_panels) for low, high in bounds]
    points = torch.cartesian_prod(*(part.points for part in rules)).reshape(-1, len(rules))
    weights = torch.cartesian_prod(*(part.log_weights for part in rules)).reshape(-1, len(rules)).sum(-1)
    values = torch.cat([log_density(part) for part in points.split(50_000)])
    return float((values + weights).logsumexp(0))


def log_normal_density(x: Tensor, variance: Tensor | float) -> Tensor:
    """Log density of N(0, variance) at x, elementwise."""
    variance = torch.as_tensor(variance, dtype=x.dtype)
    return -0.5 * (x.square() / variance + variance.log() + math.log(2 * math.pi))


def log_half_cauchy(log_x: Tensor, scale: float) -> Tensor:
    """Log density of log x where x is half-Cauchy of that scale, elementwise."""
    u = log_x - math.log(scale)
    return math.log(2 / math.pi) + u - torch.nn.functional.softplus(2 * u)
