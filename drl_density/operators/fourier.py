"""Undersampled Fourier measurements of complex images, one coil or many."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.errors import NumericalError
from drl_density.operators.linear import ProjectingOperator, check_mask, check_size
from drl_density.records.brief import brief


def to_frequency(x: Tensor) -> Tensor:
    """Orthonormal, centred two-dimensional Fourier transform over the last two dimensions."""
    shifted = torch.fft.ifftshift(x, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=(-2, -1))


def to_image(k: Tensor) -> Tensor:
    """Inverse of :func:`to_frequency`, which is also its adjoint."""
    shifted = torch.fft.ifftshift(k, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=(-2, -1))


@dataclass(frozen=True, eq=False)
class MaskedFourier:
    """Measured frequencies of complex images ``(n, h, w)``, with zeros for all others.

    Attributes:
        is_measured: which frequencies are measured, boolean ``(h, w)``, at least one True.

    Raises:
        ValueError: a mask that is not boolean or measures nothing.

    >>> operator = MaskedFourier(torch.ones(4, 4, dtype=torch.bool))
    >>> x = torch.ones(1, 4, 4, dtype=torch.complex64)
    >>> bool(torch.allclose(operator.adjoint(operator.forward(x)), x, atol=1e-6))
    True
    """

    is_measured: Tensor

    __repr__ = brief

    def __post_init__(self) -> None:
        check_mask(self.is_measured)

    def forward(self, x: Tensor) -> Tensor:
        """Measured frequencies of images ``x``, ``(n, h, w)``."""
        check_size(x, self.is_measured.shape, "images")
        return to_frequency(x) * self.is_measured

    def adjoint(self, y: Tensor) -> Tensor:
        """The images whose measured frequencies are those of ``y`` and whose others are zero."""
        check_size(y, self.is_measured.shape, "frequencies")
        return to_image(y * self.is_measured)

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The images nearest to ``x`` whose measured frequencies are ``y``."""
        return to_image(torch.where(self.is_measured, y, to_frequency(x)))


@dataclass(frozen=True)
class ComplexPairs:
    """An operator on complex images, applied to pairs of their real and imaginary parts ``(n, 2, h, w)``.

    Attributes:
        inner: operator on complex images ``(n, h, w)``.

    >>> ComplexPairs(MaskedFourier(torch.ones(8, 8, dtype=torch.bool))).forward(torch.ones(1, 2, 8, 8)).shape
    torch.Size([1, 8, 8])
    """

    inner: ProjectingOperator

    def forward(self, x: Tensor) -> Tensor:
        """Measurements of the complex images whose parts are ``x``."""
        return self.inner.forward(_to_complex(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Parts of A* y, the adjoint for the real inner product."""
        return _to_pairs(self.inner.adjoint(y))

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """Parts of the projection of ``x`` onto the measurements ``y``."""
        return _to_pairs(self.inner.project(_to_complex(x), y)).to(x)


def _to_complex(x: Tensor) -> Tensor:
    return torch.complex(x[:, 0], x[:, 1])


def _to_pairs(x: Tensor) -> Tensor:
    return torch.stack([x.real, x.imag], 1)


@dataclass(frozen=True, eq=False)
class Coils:
    """Measured frequencies of an image as each of several receiver coils sees it.

    Attributes:
        maps: complex sensitivities of the coils, ``(coil, h, w)``.
        fourier: mask of the measured frequencies, the same for all coils.

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
        """Sum over the coils of the zero-filled images of ``y``, weighted by the conjugate sensitivities."""
        check_size(y, self.maps.shape, "frequencies")
        return (self.maps.conj() * self.fourier.adjoint(y)).sum(1)

    def project(self, x: Tensor, y: Tensor, *, tolerance: float = 1e-5, max_steps: int = 500) -> Tensor:
        """The least-squares images nearest to ``x``, by conjugate gradients on A* A d = A* (y - A x).

        Args:
            x: images ``(n, h, w)`` to start from.
            y: frequencies ``(n, coil, h, w)``, or one measurement for all images.
            tolerance: largest residual of that equation, relative to its right side.
            max_steps: greatest number of steps of conjugate gradients.

        Raises:
            NumericalError: no convergence within ``max_steps``.
        """
        residual = self.adjoint((y - self.forward(x)) * self.fourier.is_measured)
        total, direction = torch.zeros_like(residual), residual
        # The second term is the rounding of the right side: an image that already fits y needs no step.
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
        """Magnitude images ``(n, h, w)`` of frequencies ``y`` ``(n, coil, h, w)``, from the coils' zero-filled images."""
        return root_sum_of_squares(self.fourier.adjoint(y))


def root_sum_of_squares(images: Tensor) -> Tensor:
    """Magnitude ``(*, h, w)`` of the coils' ``images`` ``(*, coil, h, w)``, the usual estimate without sensitivities.

    >>> root_sum_of_squares(torch.tensor([3.0, 4.0]).reshape(2, 1, 1))
    tensor([[5.]])
    """
    return images.abs().square().sum(-3).sqrt()


def _energy(x: Tensor) -> Tensor:
    return x.abs().square().flatten(1).sum(1)


def smooth_maps(num_coils: int, size: int) -> Tensor:
    """Makes smooth sensitivities ``(coil, size, size)`` of coils around an image, whose squares sum to 1.

    Args:
        num_coils: number of coils, placed evenly around the image.
        size: height and width in pixels.

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
    """Mask ``(height, width)`` that measures the central columns of frequencies and random others.

    Args:
        height: height of the images in pixels.
        width: width of the images in pixels.
        acceleration: one over the share of columns that are measured, the centre included.
        center_share: share of columns in the centre.

    Raises:
        ValueError: an acceleration below 1, or a centre with more columns than may be measured.

    >>> mask = center_mask(8, 64, acceleration=4.0, generator=torch.Generator().manual_seed(0))
    >>> mask.shape, bool(mask[:, 32].all())
    (torch.Size([8, 64]), True)
    """
    num_lines, num_center = round(width / acceleration), max(1, round(center_share * width))
    if acceleration < 1 or num_center > num_lines:
        raise ValueError(f"acceleration {acceleration} leaves {num_lines} lines, fewer than the centre's {num_center}")
    start = width // 2 - num_center // 2  # frequency zero is at width // 2, see to_frequency
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
