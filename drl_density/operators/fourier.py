"""Undersampled Fourier measurements of complex images, one coil or many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drl_density.errors import NumericalError
from drl_density.operators.linear import check_size
from drl_density.records.brief import brief


def to_frequency(x: Tensor) -> Tensor:
    """Orthonormal, centred two-dimensional Fourier transform over the last two dimensions."""
    shifted = torch.fft.ifftshift(x, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=(-2, -1))


def to_image(k: Tensor) -> Tensor:
    """The inverse of :func:`to_frequency`, which is its adjoint."""
    shifted = torch.fft.ifftshift(k, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=(-2, -1))


@dataclass(frozen=True, eq=False)
class MaskedFourier:
    """Measured frequencies of complex images ``(n, h, w)``; unmeasured ones are zero.

    Attributes:
        is_measured: ``(h, w)``, at least one True.

    Raises:
        ValueError: a mask that measures nothing.

    >>> operator = MaskedFourier(torch.ones(4, 4, dtype=torch.bool))
    >>> x = torch.ones(1, 4, 4, dtype=torch.complex64)
    >>> bool(torch.allclose(operator.adjoint(operator.forward(x)), x, atol=1e-6))
    True
    """

    is_measured: Tensor

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.is_measured.dtype != torch.bool or not bool(self.is_measured.any()):
            raise ValueError("a sampling mask must be boolean and measure at least one frequency")

    def forward(self, x: Tensor) -> Tensor:
        """Frequencies ``(n, h, w)``."""
        check_size(x, self.is_measured.shape, "images")
        return to_frequency(x) * self.is_measured

    def adjoint(self, y: Tensor) -> Tensor:
        """The zero-filled image."""
        check_size(y, self.is_measured.shape, "frequencies")
        return to_image(y * self.is_measured)

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The nearest image whose measured frequencies are ``y``."""
        return to_image(torch.where(self.is_measured, y, to_frequency(x)))


@dataclass(frozen=True)
class ComplexPairs:
    """An operator on complex images seen from real points ``(n, 2, h, w)``: real part first, imaginary part second.

    Attributes:
        inner: the operator on complex images.

    >>> ComplexPairs(MaskedFourier(torch.ones(8, 8, dtype=torch.bool))).forward(torch.ones(1, 2, 8, 8)).shape
    torch.Size([1, 8, 8])
    """

    inner: Any

    def forward(self, x: Tensor) -> Tensor:
        """Measurements of the complex image."""
        return self.inner.forward(_to_complex(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Adjoint for the real inner product."""
        return _to_pairs(self.inner.adjoint(y))

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The inner projection."""
        return _to_pairs(self.inner.project(_to_complex(x), y)).to(x)


def _to_complex(x: Tensor) -> Tensor:
    return torch.complex(x[:, 0], x[:, 1])


def _to_pairs(x: Tensor) -> Tensor:
    return torch.stack([x.real, x.imag], 1)


@dataclass(frozen=True, eq=False)
class Coils:
    """Measured frequencies of each coil's view of an image.

    Attributes:
        maps: complex sensitivities ``(coil, h, w)``.
        fourier: the sampling, shared by the coils.

    >>> fourier = MaskedFourier(torch.ones(8, 8, dtype=torch.bool))
    >>> Coils(smooth_maps(4, 8), fourier).forward(torch.ones(1, 8, 8, dtype=torch.complex64)).shape
    torch.Size([1, 4, 8, 8])
    """

    maps: Tensor
    fourier: MaskedFourier

    __repr__ = brief

    def forward(self, x: Tensor) -> Tensor:
        """Frequencies ``(n, coil, h, w)`` of images ``(n, h, w)``."""
        check_size(x, self.maps.shape[1:], "images")
        return self.fourier.forward(x[:, None] * self.maps)

    def adjoint(self, y: Tensor) -> Tensor:
        """Sensitivity-weighted sum of the coils' zero-filled images."""
        check_size(y, self.maps.shape, "frequencies")
        return (self.maps.conj() * self.fourier.adjoint(y)).sum(1)

    def project(self, x: Tensor, y: Tensor, *, tolerance: float = 1e-5, max_steps: int = 500) -> Tensor:
        """The nearest images to ``x`` that measure ``y`` as well as any, by conjugate gradients on A* A d = A* (y - A x).

        Args:
            x: images ``(n, h, w)``.
            y: frequencies ``(n, coil, h, w)`` or of one measurement.
            tolerance: of the residual of that equation, relative to its right side.
            max_steps: of conjugate gradients.

        Raises:
            NumericalError: when it has not converged.
        """
        residual = self.adjoint((y - self.forward(x)) * self.fourier.is_measured)
        total, direction = torch.zeros_like(residual), residual
        # Against the right side's size and its rounding: an image that already measures y needs no step.
        limit = tolerance**2 * _energy(residual) + torch.finfo(x.real.dtype).eps ** 2 * _energy(
            self.adjoint(self.forward(x))
        )
        now = _energy(residual)
        for _ in range(max_steps):
            if bool((now <= limit).all()):
                return x + total
            moved = self.adjoint(self.forward(direction))
            curvature = (direction.conj() * moved).real.flatten(1).sum(1)
            step = torch.where(now > limit, now / curvature, 0.0).to(x.real.dtype)[:, None, None]
            total, residual = total + step * direction, residual - step * moved
            before, now = now, _energy(residual)
            direction = residual + torch.where(before > limit, now / before, 0.0)[:, None, None] * direction
        raise NumericalError(
            f"projection onto the coils' data has not converged in {max_steps} steps (relative residual "
            f"{float((now / limit).max().sqrt()) * tolerance:.2g}): raise max_steps or tolerance"
        )

    def root_sum_of_squares(self, y: Tensor) -> Tensor:
        """Magnitude image ``(n, h, w)`` from the coils' zero-filled images.

        Args:
            y: frequencies ``(n, coil, h, w)``.
        """
        return root_sum_of_squares(self.fourier.adjoint(y))


def root_sum_of_squares(images: Tensor) -> Tensor:
    """Magnitude ``(*, h, w)`` of coil images ``(*, coil, h, w)``: what remains of them without sensitivity maps.

    Args:
        images: real or complex.

    >>> root_sum_of_squares(torch.tensor([3.0, 4.0]).reshape(2, 1, 1))
    tensor([[5.]])
    """
    return images.abs().square().sum(-3).sqrt()


def _energy(x: Tensor) -> Tensor:
    return x.abs().square().flatten(1).sum(1)


def smooth_maps(num_coils: int, size: int) -> Tensor:
    """Sensitivities ``(coil, size, size)`` of coils around the image, with smooth phases; squares sum to 1 everywhere.

    Args:
        num_coils: evenly around the image.
        size: height and width.

    >>> bool(torch.allclose(smooth_maps(4, 8).abs().square().sum(0), torch.ones(8, 8)))
    True
    """
    ticks = torch.linspace(-1, 1, size, dtype=torch.float64)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    angles = 2 * math.pi * torch.arange(num_coils, dtype=torch.float64)[:, None, None] / num_coils
    distance = (x - 1.2 * angles.cos()).square() + (y - 1.2 * angles.sin()).square()
    maps = torch.polar(torch.exp(-0.6 * distance), angles + 0.5 * (x * angles.cos() + y * angles.sin()))
    return (maps / root_sum_of_squares(maps)).to(torch.complex64)


def center_mask(
    height: int,
    width: int,
    *,
    acceleration: float,
    center_share: float = 0.08,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Columns of frequencies: a fully measured centre and random others, 1 / ``acceleration`` of all, ``(h, w)``.

    Args:
        height: of the images.
        width: of the images.
        acceleration: one over the share of columns that is measured.
        center_share: of columns in the middle, all measured.
        generator: of the random columns.

    Raises:
        ValueError: an acceleration below 1, or a centre that already exceeds it.

    >>> mask = center_mask(8, 64, acceleration=4.0, generator=torch.Generator().manual_seed(0))
    >>> mask.shape, bool(mask[:, 32].all())
    (torch.Size([8, 64]), True)
    """
    num_lines, num_center = round(width / acceleration), max(1, round(center_share * width))
    if acceleration < 1 or num_center > num_lines:
        raise ValueError(f"acceleration {acceleration} leaves {num_lines} lines, fewer than the centre's {num_center}")
    start = width // 2 - num_center // 2  # the constant stands at width // 2, see to_frequency
    lines = torch.zeros(width, dtype=torch.bool)
    lines[start : start + num_center] = True
    others = (~lines).nonzero().flatten()
    lines[others[torch.randperm(len(others), generator=generator)[: num_lines - num_center]]] = True
    return lines.expand(height, width).clone()


# Ellipses of the modified phantom: value, half-axes, centre, angle in degrees (Shepp and Logan 1974; Toft 1996).
_SHEPP_LOGAN = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
)


def shepp_logan(size: int) -> Tensor:
    """The modified Shepp-Logan phantom ``(size, size)``, values from 0 to 1.

    >>> shepp_logan(32).shape
    torch.Size([32, 32])
    """
    ticks = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(-ticks, ticks, indexing="ij")
    image = torch.zeros(size, size)
    for value, a, b, x0, y0, degrees in _SHEPP_LOGAN:
        angle = math.radians(degrees)
        along = (x - x0) * math.cos(angle) + (y - y0) * math.sin(angle)
        across = -(x - x0) * math.sin(angle) + (y - y0) * math.cos(angle)
        image = image + value * ((along / a) ** 2 + (across / b) ** 2 <= 1)
    return image
