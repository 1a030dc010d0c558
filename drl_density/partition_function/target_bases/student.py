"""Bases with heavy tails: Student's t in all coordinates at once, and one for every coordinate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.partition_function.factors import covariance_factor

DEGREES = (1, 2, 3, 5, 10)
"""Degrees of freedom that are tried; 1 has the tails of a Cauchy density."""
NUM_STEPS = 12
"""Steps of expectation maximisation for every number of degrees, enough for 1 % of the scale."""


class StudentBase:
    """Student's t distribution in all coordinates at once.

    Args:
        degrees: degrees of freedom, a whole number.
        mean: centre, ``(d,)``.
        scale: matrix that is the covariance times (degrees - 2) / degrees where there is one, ``(d, d)``.
        like: tensor of the dtype and device to compute in.
    """

    def __init__(self, degrees: int, mean: Tensor, scale: Tensor, like: Tensor) -> None:
        factor = covariance_factor(scale)
        dim = len(mean)
        self.event_shape = torch.Size((dim,))
        self.degrees, self.mean, self.factor = degrees, mean.to(like), factor.to(like)
        inverse = torch.linalg.inv(factor)
        self._whiten, self._shift = inverse.T.contiguous().to(like), (inverse @ mean.double()).to(like)
        self._height = (
            math.lgamma((degrees + dim) / 2)
            - math.lgamma(degrees / 2)
            - 0.5 * dim * math.log(degrees * math.pi)
            - float(factor.diagonal().log().sum())
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        squared = (x @ self._whiten - self._shift).square().sum(1)
        return self._height - 0.5 * (self.degrees + x.shape[1]) * torch.log1p(squared / self.degrees)

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``(num_rows, d)``."""
        shape, like = (num_rows, len(self.mean)), {"dtype": self.mean.dtype, "device": self.mean.device}
        noise = torch.randn(shape, generator=generator, **like)
        degrees = torch.full((num_rows, 1), self.degrees, **like)
        return self.mean + (noise @ self.factor.T) / _root_of_mean_square(degrees, generator)


class StudentProduct:
    """Independent coordinates, each with a Student's t distribution.

    Args:
        degrees: degrees of freedom of every coordinate, whole numbers, ``(d,)``.
        centers: centres, ``(d,)``.
        scales: scales, ``(d,)``.
    """

    def __init__(self, degrees: Tensor, centers: Tensor, scales: Tensor) -> None:
        self.degrees, self.centers, self.scales = degrees, centers, scales
        self.event_shape = degrees.shape
        half = degrees / 2
        self._heights = (half + 0.5).lgamma() - half.lgamma() - 0.5 * (degrees * math.pi).log() - scales.log()

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        return self.by_column(x).sum(-1)

    def by_column(self, x: Tensor) -> Tensor:
        """Log density of every coordinate of rows ``(n, d)``, ``(n, d)``."""
        squared = ((x - self.centers) / self.scales).square()
        return self._heights - 0.5 * (self.degrees + 1) * torch.log1p(squared / self.degrees)

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``(num_rows, d)``."""
        degrees = self.degrees.expand(num_rows, -1)
        noise = torch.randn(degrees.shape, generator=generator, dtype=degrees.dtype, device=degrees.device)
        return self.centers + self.scales * noise / _root_of_mean_square(degrees, generator)


def _root_of_mean_square(degrees: Tensor, generator: torch.Generator | None) -> Tensor:
    """Root of a chi-squared draw over its degrees of freedom, whole numbers, for every entry of ``degrees``."""
    most = int(degrees.max()) if degrees.numel() else 0
    noise = torch.randn((most, *degrees.shape), generator=generator, dtype=degrees.dtype, device=degrees.device)
    is_used = torch.arange(most, device=degrees.device).reshape(-1, *[1] * degrees.ndim) < degrees
    return ((noise.square() * is_used).sum(0) / degrees).sqrt()


@dataclass(frozen=True)
class StudentFits:
    """Student's t distributions fitted to rows, one for each number of degrees of freedom in ``DEGREES``.

    Attributes:
        means: centres of the joint distributions, ``(k, d)``.
        scales: their scale matrices, ``(k, d, d)``.
        scores: their mean log densities on the held-out rows, ``(k,)``.
        centers: centres of the coordinates' own distributions, ``(k, d)``.
        spreads: their scales, ``(k, d)``.
        by_column: their mean log densities on the held-out rows, ``(k, d)``.
    """

    means: Tensor
    scales: Tensor
    scores: Tensor
    centers: Tensor
    spreads: Tensor
    by_column: Tensor

    @classmethod
    def fit(cls, train: Tensor, held: Tensor) -> StudentFits:
        """Fit to rows ``(n, d)`` and score with others, float64."""
        joint, scores, alone, by_column = [], [], [], []
        for degrees in DEGREES:
            mean, scale = _fit_joint(train, degrees)
            joint.append((mean, scale))
            scores.append(StudentBase(degrees, mean, scale, train).log_prob(held).mean())
            center, spread = _fit_alone(train, degrees)
            alone.append((center, spread))
            many = torch.full_like(center, degrees)
            by_column.append(StudentProduct(many, center, spread).by_column(held).mean(0))
        means, scales = (torch.stack(part) for part in zip(*joint, strict=True))
        centers, spreads = (torch.stack(part) for part in zip(*alone, strict=True))
        return cls(means, scales, torch.stack(scores), centers, spreads, torch.stack(by_column))

    def joint(self, most: int = DEGREES[-1]) -> tuple[float, int, Tensor, Tensor]:
        """Score, degrees, mean and scale of the joint distribution with the best score and at most ``most`` degrees."""
        index = int(self.scores[: _num_degrees(most)].argmax())
        return float(self.scores[index]), DEGREES[index], self.means[index], self.scales[index]

    def alone(self, most: int = DEGREES[-1]) -> tuple[float, Tensor, Tensor, Tensor]:
        """Score, degrees, centres and scales of the coordinates' own distributions with at most ``most`` degrees each."""
        index = self.by_column[: _num_degrees(most)].argmax(0, keepdim=True)
        chosen = [values.gather(0, index)[0] for values in (self.by_column, self.centers, self.spreads)]
        degrees = torch.tensor(DEGREES, dtype=self.scores.dtype)[index[0]]
        return float(chosen[0].sum()), degrees, chosen[1], chosen[2]


def _num_degrees(most: int) -> int:
    return sum(degrees <= most for degrees in DEGREES)


def _fit_joint(rows: Tensor, degrees: int) -> tuple[Tensor, Tensor]:
    """Mean ``(d,)`` and scale matrix ``(d, d)`` of Student's t by expectation maximisation, from rows ``(n, d)``, float64.

    Source: Liu and Rubin 1995 (ML estimation of the t distribution using EM).
    """
    count, dim = rows.shape
    mean = rows.median(0).values
    spread = quartile_spread(rows)
    scale = spread.square().diag()
    for _ in range(NUM_STEPS):
        away = rows - mean
        squared = torch.linalg.solve_triangular(covariance_factor(scale), away.T, upper=False).square().sum(0)
        weights = (degrees + dim) / (degrees + squared)
        mean = (weights[:, None] * rows).sum(0) / weights.sum()
        away = rows - mean
        # Dividing by the sum of the weights and not by n converges far faster (Kent, Tyler and Vardi 1994).
        scale = (weights[:, None] * away).T @ away / weights.sum() + 1e-9 * spread.square().diag()
    return mean, scale


def _fit_alone(rows: Tensor, degrees: int) -> tuple[Tensor, Tensor]:
    """Centres and scales ``(d,)`` of Student's t of every coordinate alone, from rows ``(n, d)``, float64."""
    center, spread = rows.median(0).values, quartile_spread(rows)
    variance = spread.square()
    for _ in range(NUM_STEPS):
        weights = (degrees + 1) / (degrees + (rows - center).square() / variance)
        center = (weights * rows).sum(0) / weights.sum(0)
        variance = (weights * (rows - center).square()).sum(0) / weights.sum(0) + 1e-9 * spread.square()
    return center, variance.sqrt()


def quartile_spread(rows: Tensor) -> Tensor:
    """Distance of the quartiles over 1.35, a standard deviation that far points do not touch; positive.

    Where more than half of the rows agree it is the standard deviation, and 1 where all do.
    """
    count = len(rows)
    ordered = rows.sort(0).values
    spread = (ordered[(3 * count) // 4] - ordered[count // 4]) / 1.349
    spread = torch.where(spread > 0, spread, rows.std(0))
    return torch.where(spread > 0, spread, torch.ones_like(spread))


@dataclass(frozen=True)
class TailChart:
    """Coordinates u with x = center + scale * sinh(u), in which power laws have exponential tails.

    A step of one size then serves the bulk and the tails.

    Attributes:
        center: place of the bulk, ``(d,)``.
        scale: width of the bulk, ``(d,)``.
    """

    center: Tensor
    scale: Tensor

    def to_unit(self, x: Tensor) -> Tensor:
        """Coordinates ``(n, d)`` of rows."""
        return ((x - self.center) / self.scale).asinh()

    def from_unit(self, unit: Tensor) -> Tensor:
        """Rows ``(n, d)`` with these coordinates."""
        return self.center + self.scale * unit.sinh()

    def log_volume(self, unit: Tensor) -> Tensor:
        """Logarithm of the Jacobian determinant of :meth:`from_unit`, ``(n,)``."""
        # log cosh u = |u| + log(1 + exp(-2 |u|)) - log 2, without overflow.
        far = unit.abs()
        return (self.scale.log() + far + torch.log1p((-2 * far).exp()) - math.log(2)).sum(1)

    def pull_back(self, unit: Tensor, gradient: Tensor) -> Tensor:
        """Gradient of f(x) + log volume in these coordinates, from the gradient of f in x."""
        return gradient * self.scale * unit.cosh() + unit.tanh()
