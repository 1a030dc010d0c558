"""Two-dimensional systems whose density is known, normalised, in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Sampler = Callable[[int, torch.Generator | None], Tensor]


@dataclass(frozen=True)
class Toy:
    """A system with an exact sampler and an exact log density.

    Attributes:
        name: as given to ``load_dataset``.
        sample: ``sample(num_rows, generator) -> (num_rows, 2)``, float64.
        log_density: ``log_density(x (*, 2)) -> (*,)``, nats.
    """

    name: str
    sample: Sampler
    log_density: Callable[[Tensor], Tensor]


def eight_gaussians(*, radius: float = 4.0, scale: float = 0.5) -> Toy:
    """(1/8) sum_k N(x; radius (cos(k pi/4), sin(k pi/4)), scale^2 I)."""
    angles = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    centers = radius * torch.stack([angles.cos(), angles.sin()], 1)

    def sample(num_rows: int, generator: torch.Generator | None) -> Tensor:
        chosen = torch.randint(8, (num_rows,), generator=generator)
        return centers[chosen] + scale * torch.randn(num_rows, 2, generator=generator, dtype=torch.float64)

    def log_density(x: Tensor) -> Tensor:
        squares = (x[..., None, :] - centers.to(x)).square().sum(-1)
        return torch.logsumexp(-0.5 * squares / scale**2, -1) - math.log(8 * 2 * math.pi * scale**2)

    return Toy("eight_gaussians", sample, log_density)


def checkerboard() -> Toy:
    """Uniform on the 8 cells of a 4 x 4 board on [-4, 4]^2 whose cell indices add up to an even number: density 1/32."""

    def sample(num_rows: int, generator: torch.Generator | None) -> Tensor:
        column = torch.randint(4, (num_rows,), generator=generator)
        row = 2 * torch.randint(2, (num_rows,), generator=generator) + column % 2
        corner = torch.stack([column, row], 1).double()
        return 2 * (corner + torch.rand(num_rows, 2, generator=generator, dtype=torch.float64)) - 4

    def log_density(x: Tensor) -> Tensor:
        cell = ((x + 4) / 2).floor()
        inside = ((cell >= 0) & (cell <= 3)).all(-1) & (cell.sum(-1) % 2 == 0)
        return torch.where(inside, -math.log(32.0), -math.inf).to(x)

    return Toy("checkerboard", sample, log_density)


def two_rings(*, radii: tuple[float, float] = (1.5, 3.5), scale: float = 0.2) -> Toy:
    """p(x) = p_r(|x|) / (2 pi |x|), with p_r the equal mixture of N(radius, scale^2) cut off at r > 0."""
    centers = torch.tensor(radii, dtype=torch.float64)
    log_masses = torch.special.log_ndtr(centers / scale)

    def sample(num_rows: int, generator: torch.Generator | None) -> Tensor:
        chosen = centers[torch.randint(2, (num_rows,), generator=generator)]
        lower = torch.special.ndtr(-chosen / scale)
        uniform = torch.rand(num_rows, generator=generator, dtype=torch.float64)
        distance = chosen + scale * torch.special.ndtri(lower + (1 - lower) * uniform)
        angle = 2 * math.pi * torch.rand(num_rows, generator=generator, dtype=torch.float64)
        return distance[:, None] * torch.stack([angle.cos(), angle.sin()], 1)

    def log_density(x: Tensor) -> Tensor:
        distance = x.square().sum(-1).sqrt()
        z = (distance[..., None] - centers.to(x)) / scale
        parts = -0.5 * z.square() - math.log(scale * math.sqrt(2 * math.pi)) - log_masses.to(x)
        return torch.logsumexp(parts, -1) - math.log(2) - (2 * math.pi * distance).log()

    return Toy("two_rings", sample, log_density)


def banana(*, curvature: float = 0.5, scale: float = 0.5) -> Toy:
    """x_1 ~ N(0, 2^2), x_2 | x_1 ~ N(curvature (x_1^2 - 4), scale^2)."""

    def sample(num_rows: int, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(num_rows, 2, generator=generator, dtype=torch.float64)
        first = 2 * noise[:, 0]
        return torch.stack([first, curvature * (first.square() - 4) + scale * noise[:, 1]], 1)

    def log_density(x: Tensor) -> Tensor:
        residual = (x[..., 1] - curvature * (x[..., 0].square() - 4)) / scale
        return -0.5 * (x[..., 0] / 2).square() - 0.5 * residual.square() - math.log(2 * math.pi * 2 * scale)

    return Toy("banana", sample, log_density)


TOYS: dict[str, Callable[[], Toy]] = {
    "eight_gaussians": eight_gaussians,
    "checkerboard": checkerboard,
    "two_rings": two_rings,
    "banana": banana,
}
