"""Two-dimensional systems with a normalised density in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.records.brief import brief

Sampler = Callable[[int, torch.Generator | None], Tensor]


@dataclass(frozen=True, eq=False)
class Toy:
    """A system with an exact sampler and an exact log density.

    Attributes:
        name: name under which ``load_dataset`` finds it.
        draw: function of a number of draws and a generator that :meth:`sample` calls.
        log_density: normalised log density in nats of points ``(*, 2)``, as a function with values ``(*,)``.

    >>> toy = banana()
    >>> toy.log_density(toy.sample(3, generator=torch.Generator().manual_seed(0))).shape
    torch.Size([3])
    """

    name: str
    draw: Sampler
    log_density: Callable[[Tensor], Tensor]

    __repr__ = brief

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Exact draws ``(num_samples, 2)``, float64."""
        return self.draw(num_samples, generator)


def eight_gaussians(*, radius: float = 4.0, scale: float = 0.5) -> Toy:
    """Even mixture of eight Gaussians on a circle, (1/8) sum_k N(x; radius (cos(k pi/4), sin(k pi/4)), scale^2 I)."""
    angles = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    centers = radius * torch.stack([angles.cos(), angles.sin()], 1)

    def draw(num_rows: int, generator: torch.Generator | None) -> Tensor:
        chosen = torch.randint(8, (num_rows,), generator=generator)
        return centers[chosen] + scale * torch.randn(num_rows, 2, generator=generator, dtype=torch.float64)

    def log_density(x: Tensor) -> Tensor:
        squares = (x[..., None, :] - centers.to(x)).square().sum(-1)
        return torch.logsumexp(-0.5 * squares / scale**2, -1) - math.log(8 * 2 * math.pi * scale**2)

    return Toy("eight_gaussians", draw, log_density)


def checkerboard() -> Toy:
    """Uniform density 1/32 on the 8 cells with an even sum of indices of a 4 x 4 board on [-4, 4]^2."""

    def draw(num_rows: int, generator: torch.Generator | None) -> Tensor:
        column = torch.randint(4, (num_rows,), generator=generator)
        row = 2 * torch.randint(2, (num_rows,), generator=generator) + column % 2
        corner = torch.stack([column, row], 1).double()
        return 2 * (corner + torch.rand(num_rows, 2, generator=generator, dtype=torch.float64)) - 4

    def log_density(x: Tensor) -> Tensor:
        cell = ((x + 4) / 2).floor()
        inside = ((cell >= 0) & (cell <= 3)).all(-1) & (cell.sum(-1) % 2 == 0)
        return torch.where(inside, -math.log(32.0), -math.inf).to(x)

    return Toy("checkerboard", draw, log_density)


def two_rings(*, radii: tuple[float, float] = (1.5, 3.5), scale: float = 0.2) -> Toy:
    """Two rings, p(x) = p_r(|x|) / (2 pi |x|), with p_r the even mixture of N(radius, scale^2) truncated to r > 0."""
    centers = torch.tensor(radii, dtype=torch.float64)
    log_masses = torch.special.log_ndtr(centers / scale)

    def draw(num_rows: int, generator: torch.Generator | None) -> Tensor:
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

    return Toy("two_rings", draw, log_density)


def banana(*, curvature: float = 0.5, scale: float = 0.5) -> Toy:
    """Bent Gaussian, x_1 ~ N(0, 2^2) and x_2 | x_1 ~ N(curvature (x_1^2 - 4), scale^2)."""

    def draw(num_rows: int, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(num_rows, 2, generator=generator, dtype=torch.float64)
        first = 2 * noise[:, 0]
        return torch.stack([first, curvature * (first.square() - 4) + scale * noise[:, 1]], 1)

    def log_density(x: Tensor) -> Tensor:
        residual = (x[..., 1] - curvature * (x[..., 0].square() - 4)) / scale
        return -0.5 * (x[..., 0] / 2).square() - 0.5 * residual.square() - math.log(2 * math.pi * 2 * scale)

    return Toy("banana", draw, log_density)


TOYS: dict[str, Callable[[], Toy]] = {
    "eight_gaussians": eight_gaussians,
    "checkerboard": checkerboard,
    "two_rings": two_rings,
    "banana": banana,
}
