"""Random complex images for inverse problems: textured ellipses with a smooth phase."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def ellipse_phantoms(
    num_samples: int, size: int, *, num_ellipses: int = 5, generator: torch.Generator | None = None
) -> Tensor:
    """Draws complex images ``(num_samples, size, size)`` of ellipses inside a large one, with texture and phase.

    The magnitude is 0 outside and about 0.5 to 1 inside. The phase is a random quadratic polynomial of about a radian.

    Args:
        size: height and width in pixels.
        num_ellipses: number of ellipses inside the large one.

    >>> ellipse_phantoms(3, 16, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([3, 16, 16])
    """
    ticks = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(num_samples, 1, 1, generator=generator)

    def ellipse(center: float, axes: tuple[float, float]) -> Tensor:
        angle, x0, y0 = uniform(0, math.pi), uniform(-center, center), uniform(-center, center)
        along = (x - x0) * angle.cos() + (y - y0) * angle.sin()
        across = (y - y0) * angle.cos() - (x - x0) * angle.sin()
        distance = (along / uniform(*axes)).square() + (across / uniform(*axes)).square()
        # The edge is half a pixel wide, like that of a sensor that averages over its pixels.
        return torch.sigmoid((1 - distance) * size / 2)

    inside = ellipse(0.1, (0.65, 0.9))
    magnitude = uniform(0.4, 0.7) * torch.ones(num_samples, size, size)
    for _ in range(num_ellipses):
        magnitude = magnitude + uniform(-0.25, 0.35) * ellipse(0.6, (0.1, 0.4))
    wave = uniform(4, 12) * (x * uniform(-1, 1) + y * uniform(-1, 1)) + uniform(0, 2 * math.pi)
    magnitude = (magnitude + 0.05 * wave.sin()) * inside
    terms = (x, y, x * y, x**2, y**2)
    phase = uniform(-math.pi, math.pi) * 0.3 + sum(uniform(-0.8, 0.8) * term for term in terms)
    return torch.polar(magnitude.abs(), phase + math.pi * (magnitude < 0))
