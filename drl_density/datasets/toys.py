r"""Two-dimensional toys whose normalised density is known in closed form, each with its sampler."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

LOG_TWO_PI = math.log(2 * math.pi)


class Toy(Protocol):
    """A density on the plane that can be drawn from and evaluated exactly, in float64."""

    def sample(self, num_rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, shape ``(num_rows, 2)``."""

    def log_density(self, x: Tensor) -> Tensor:
        """Normalised log density of rows ``(..., 2)``, in nats, shape ``(...)``."""


def _normal(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _uniform(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def _choice(size: int, num_rows: int, generator: torch.Generator | None) -> Tensor:
    return torch.randint(size, (num_rows,), generator=generator)


def _log_normal(x: Tensor, mean: Tensor | float, scale: float) -> Tensor:
    return -0.5 * ((x - mean) / scale) ** 2 - math.log(scale) - 0.5 * LOG_TWO_PI


@dataclass(frozen=True)
class EightGaussians:
    r"""Eight equally likely round Gaussians on a circle.

    .. math:: p(x) = \frac18 \sum_{k=0}^{7} N\bigl(x;\ R(\cos\tfrac{k\pi}{4}, \sin\tfrac{k\pi}{4}),\ s^2 I\bigr)

    Attributes:
        radius: R.
        scale: s.
    """

    radius: float = 4.0
    scale: float = 0.5

    def _centers(self) -> Tensor:
        angle = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
        return self.radius * torch.stack([angle.cos(), angle.sin()], dim=-1)

    def sample(self, num_rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, shape ``(num_rows, 2)``."""
        return self._centers()[_choice(8, num_rows, generator)] + self.scale * _normal((num_rows, 2), generator)

    def log_density(self, x: Tensor) -> Tensor:
        """Normalised log density of rows ``(..., 2)``."""
        each = _log_normal(x.double()[..., None, :], self._centers().to(x.device), self.scale).sum(-1)
        return each.logsumexp(-1) - math.log(8)


@dataclass(frozen=True)
class Checkerboard:
    r"""Uniform on the eight dark cells of a 4 x 4 board over :math:`[-4, 4]^2`.

    .. math:: p(x) = \tfrac1{32}\ \text{where}\ \lfloor x_1/2\rfloor + \lfloor x_2/2\rfloor\ \text{is even}, \quad
        0\ \text{elsewhere}
    """

    def sample(self, num_rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, shape ``(num_rows, 2)``."""
        cell = _choice(8, num_rows, generator)
        row = cell // 2
        corner = torch.stack([2 * (2 * (cell % 2) + row % 2) - 4, 2 * row - 4], dim=-1)
        return corner + 2 * _uniform((num_rows, 2), generator)

    def log_density(self, x: Tensor) -> Tensor:
        """Normalised log density of rows ``(..., 2)``; -inf on the light cells and off the board."""
        x = x.double()
        is_inside = ((x >= -4) & (x < 4)).all(-1)
        is_dark = (x / 2).floor().sum(-1) % 2 == 0
        inside = torch.full_like(x[..., 0], -math.log(32.0))
        return torch.where(is_inside & is_dark, inside, torch.full_like(inside, -math.inf))


@dataclass(frozen=True)
class TwoRings:
    r"""Two rings; the angle is uniform and the radius normal, truncated to be positive.

    .. math:: p(x) = \frac{1}{2\pi r}\ \frac12 \sum_{k=1}^{2} \frac{N(r; R_k, s^2)}{\Phi(R_k / s)},
        \qquad r = \lVert x\rVert

    The factor 1/(2 pi r) is the Jacobian of polar coordinates; it makes the (negligible) density at the very origin
    infinite.

    Attributes:
        radii: R_1 and R_2.
        scale: s.
    """

    radii: tuple[float, float] = (1.5, 3.5)
    scale: float = 0.2

    def sample(self, num_rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, shape ``(num_rows, 2)``."""
        mean = torch.tensor(self.radii, dtype=torch.float64)[_choice(2, num_rows, generator)]
        below = torch.special.ndtr(-mean / self.scale)
        quantile = below + (1 - below) * _uniform((num_rows,), generator)
        r = mean + self.scale * torch.special.ndtri(quantile.clip(min=torch.finfo(torch.float64).tiny))
        angle = 2 * math.pi * _uniform((num_rows,), generator)
        return r[:, None] * torch.stack([angle.cos(), angle.sin()], dim=-1)

    def log_density(self, x: Tensor) -> Tensor:
        """Normalised log density of rows ``(..., 2)``."""
        r = torch.linalg.vector_norm(x.double(), dim=-1)
        mean = torch.tensor(self.radii, dtype=torch.float64, device=x.device)
        each = _log_normal(r[..., None], mean, self.scale) - torch.special.log_ndtr(mean / self.scale)
        return each.logsumexp(-1) - math.log(2) - LOG_TWO_PI - r.log()


@dataclass(frozen=True)
class Banana:
    r"""A bent Gaussian.

    .. math:: p(x) = N(x_1; 0, s_1^2)\ N(x_2;\ a x_1^2 + b,\ s_2^2)

    Attributes:
        scale: s_1.
        bend: a.
        offset: b.
        thickness: s_2.
    """

    scale: float = 1.5
    bend: float = 0.5
    offset: float = -1.0
    thickness: float = 0.4

    def sample(self, num_rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, shape ``(num_rows, 2)``."""
        noise = _normal((num_rows, 2), generator)
        first = self.scale * noise[:, 0]
        second = self.bend * first**2 + self.offset + self.thickness * noise[:, 1]
        return torch.stack([first, second], dim=-1)

    def log_density(self, x: Tensor) -> Tensor:
        """Normalised log density of rows ``(..., 2)``."""
        first, second = x.double().unbind(-1)
        ridge = self.bend * first**2 + self.offset
        return _log_normal(first, 0.0, self.scale) + _log_normal(second, ridge, self.thickness)


@dataclass(frozen=True)
class Pinwheel:
    r"""Five long Gaussians around the origin, each point turned by an angle that grows with its radius.

    .. math:: x = \mathrm{Rot}(w \lVert y\rVert)\, y, \qquad
        p(x) = \frac15 \sum_{k=0}^{4} N\bigl(\mathrm{Rot}(-\tfrac{2\pi k}{5} - w \lVert x\rVert)\, x;\ (m, 0),\
        \mathrm{diag}(s_1^2, s_2^2)\bigr)

    A turn by an angle that depends on the radius alone keeps areas, so there is no Jacobian.

    Attributes:
        center: m.
        length: s_1.
        thickness: s_2.
        swirl: w, radians per unit of radius.
    """

    center: float = 2.5
    length: float = 0.7
    thickness: float = 0.25
    swirl: float = 0.4

    def sample(self, num_rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, shape ``(num_rows, 2)``."""
        noise = _normal((num_rows, 2), generator)
        along, across = self.center + self.length * noise[:, 0], self.thickness * noise[:, 1]
        turn = _choice(5, num_rows, generator) * (2 * math.pi / 5) + self.swirl * torch.hypot(along, across)
        return torch.stack([along * turn.cos() - across * turn.sin(), along * turn.sin() + across * turn.cos()], -1)

    def log_density(self, x: Tensor) -> Tensor:
        """Normalised log density of rows ``(..., 2)``."""
        x = x.double()
        arm = torch.arange(5, dtype=torch.float64, device=x.device) * (2 * math.pi / 5)
        turn = arm + self.swirl * torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        first, second = x[..., :1], x[..., 1:]
        along, across = first * turn.cos() + second * turn.sin(), second * turn.cos() - first * turn.sin()
        each = _log_normal(along, self.center, self.length) + _log_normal(across, 0.0, self.thickness)
        return each.logsumexp(-1) - math.log(5)


TOYS: dict[str, Callable[[], Toy]] = {
    "eight_gaussians": EightGaussians,
    "checkerboard": Checkerboard,
    "two_rings": TwoRings,
    "banana": Banana,
    "pinwheel": Pinwheel,
}
