"""The contract of linear operators, and operators on real images and vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from drl_density.records.brief import brief
from drl_density.shapes import is_integer


class LinearOperator(Protocol):
    """A linear map A on batches of points with its adjoint A*, so that <A x, y> = <x, A* y> for all x and y.

    The inner product of complex values conjugates its first argument.
    """

    def forward(self, x: Tensor) -> Tensor:
        """A x for real or complex points ``x`` ``(n, *event)``, ``(n, *measured)``."""
        ...

    def adjoint(self, y: Tensor) -> Tensor:
        """A* y for measurements ``y`` ``(n, *measured)``, ``(n, *event)``."""
        ...


class ProjectingOperator(LinearOperator, Protocol):
    """A linear operator whose measurements can be enforced exactly."""

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The points nearest to ``x`` ``(n, *event)`` whose measurements are ``y``."""
        ...


def check_operator(operator: object) -> None:
    """Refuses an ``operator`` that lacks a method of :class:`LinearOperator`.

    Raises:
        ValueError: an object without ``forward`` or ``adjoint``.

    >>> check_operator(Downsample(2))
    """
    missing = [name for name in ("forward", "adjoint") if not callable(getattr(operator, name, None))]
    if missing:
        raise ValueError(
            f"a linear operator has forward(x) and adjoint(y), {type(operator).__name__} lacks {' and '.join(missing)}; "
            "adjoint_gap checks an adjoint"
        )


def check_size(x: Tensor, size: tuple[int, ...], what: str) -> None:
    """Refuses points whose last dimensions are not ``size``, which broadcasting would change silently.

    Raises:
        ValueError: another shape; the message has both.
    """
    if tuple(x.shape[x.ndim - len(size) :]) != tuple(size) or x.ndim <= len(size):
        raise ValueError(f"expected {what} of shape (n, {', '.join(map(str, size))}), got {tuple(x.shape)}")


def check_mask(mask: object) -> None:
    """Refuses a ``mask`` that is not a boolean tensor, or has no entry that is True.

    Raises:
        ValueError: something else; the message states what it is.

    >>> check_mask(torch.tensor([True, False]))
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        found = f"one of {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"expected a mask as a boolean tensor, got {found}: use torch.as_tensor(mask).bool()")
    if not bool(mask.any()):
        raise ValueError(f"expected a mask that measures at least one entry, got none of {mask.numel()}")


def adjoint_gap(operator: LinearOperator, x: Tensor, y: Tensor) -> float:
    """|<A x, y> - <x, A* y>| / |<A x, y>|, which is 0 up to rounding for a correct adjoint.

    Args:
        operator: operator to be checked.
        x: any points, ``(n, *event)``.
        y: any measurements, in the shape of A x.

    >>> adjoint_gap(Mask(torch.tensor([True, False])), torch.ones(1, 2), torch.ones(1, 1)) < 1e-6
    True
    """
    first = (operator.forward(x).conj() * y).sum()
    second = (x.conj() * operator.adjoint(y)).sum()
    return float((first - second).abs() / first.abs())


@dataclass(frozen=True, eq=False)
class Mask:
    """Observed entries of a point, as a flat vector.

    Attributes:
        is_observed: which entries are observed, boolean in the shape of a point, at least one True.

    Raises:
        ValueError: a mask that is not boolean or observes nothing.

    >>> Mask(torch.tensor([True, False, True])).forward(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[1., 3.]])
    """

    is_observed: Tensor

    __repr__ = brief

    def __post_init__(self) -> None:
        check_mask(self.is_observed)

    def forward(self, x: Tensor) -> Tensor:
        """Observed entries of points ``x`` ``(n, *event)``, as rows ``(n, m)``."""
        check_size(x, self.is_observed.shape, "points")
        return x[:, self.is_observed]

    def adjoint(self, y: Tensor) -> Tensor:
        """Points ``(n, *event)`` with the entries ``y`` ``(n, m)`` in place and zeros elsewhere."""
        check_size(y, (int(self.is_observed.sum()),), "measurements")
        full = y.new_zeros((len(y), *self.is_observed.shape))
        full[:, self.is_observed] = y
        return full

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The points ``x`` with their observed entries replaced by ``y``."""
        full = x.clone()
        full[:, self.is_observed] = y.to(x)
        return full


@dataclass(frozen=True, eq=False)
class MatrixOperator:
    """A matrix that acts on flat vectors.

    Attributes:
        matrix: the matrix A, real or complex, ``(m, d)``. A complex one gives complex measurements of real points too.

    Raises:
        ValueError: another shape, or entries that are not finite.

    >>> operator = MatrixOperator(torch.tensor([[1.0, 2.0]]))
    >>> operator.forward(torch.ones(1, 2)), operator.adjoint(torch.ones(1, 1))
    (tensor([[3.]]), tensor([[1., 2.]]))
    """

    matrix: Tensor

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or not bool(self.matrix.isfinite().all()):
            raise ValueError(f"expected a matrix (m, d) of finite entries, got shape {tuple(self.matrix.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        """x A^T for rows ``x`` ``(n, d)``, ``(n, m)``."""
        check_size(x, self.matrix.shape[1:], "points")
        x = self._in_common(x)
        return x @ self.matrix.to(x).T

    def adjoint(self, y: Tensor) -> Tensor:
        """y A* for rows ``y`` ``(n, m)``, with the conjugate matrix, ``(n, d)``."""
        check_size(y, self.matrix.shape[:1], "measurements")
        y = self._in_common(y)
        return y @ self.matrix.to(y).conj()

    def _in_common(self, x: Tensor) -> Tensor:
        """Rows in their own type, or in its complex form for a complex matrix."""
        return x.to(x.dtype.to_complex()) if self.matrix.is_complex() else x


@dataclass(frozen=True, eq=False)
class Blur:
    """Circular convolution of images ``(n, h, w)`` with a centred kernel.

    Attributes:
        kernel: weights ``(a, b)`` with odd a and b.

    Raises:
        ValueError: a kernel of even size.

    >>> round(float(Blur(torch.full((3, 3), 1 / 9)).forward(torch.ones(1, 4, 4)).sum()), 3)
    16.0
    """

    kernel: Tensor

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.kernel.ndim != 2 or not all(size % 2 for size in self.kernel.shape):
            raise ValueError(f"expected a kernel of two odd sizes, got shape {tuple(self.kernel.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        """The blurred images ``x``, in the same shape."""
        return self._convolve(x, self.kernel)

    def adjoint(self, y: Tensor) -> Tensor:
        """Convolution of ``y`` with the mirrored kernel."""
        return self._convolve(y, self.kernel.flip(0, 1))

    def _convolve(self, x: Tensor, kernel: Tensor) -> Tensor:
        if x.ndim != 3 or any(size < length for size, length in zip(x.shape[1:], kernel.shape, strict=True)):
            raise ValueError(
                f"expected images (n, h, w) at least as large as the kernel {tuple(kernel.shape)}, got {tuple(x.shape)}"
            )
        rows, columns = (size // 2 for size in kernel.shape)
        padded = functional.pad(x[:, None], (columns, columns, rows, rows), mode="circular")
        return functional.conv2d(padded, kernel.flip(0, 1).to(x)[None, None])[:, 0]


@dataclass(frozen=True)
class Downsample:
    """Means over square blocks of pixels of images ``(n, h, w)``.

    Attributes:
        factor: side of a block, in pixels.

    Raises:
        ValueError: a factor that is not a positive integer.

    >>> Downsample(2).forward(torch.arange(4.0).reshape(1, 2, 2))
    tensor([[[1.5000]]])
    """

    factor: int

    def __post_init__(self) -> None:
        if not is_integer(self.factor) or self.factor < 1:
            raise ValueError(f"factor must be a positive integer, got {self.factor!r}")

    def forward(self, x: Tensor) -> Tensor:
        """Block means of images ``x``, ``(n, h / factor, w / factor)``.

        Raises:
            ValueError: another number of dimensions, or sizes that are not multiples of the factor.
        """
        if x.ndim != 3:
            raise ValueError(f"expected images (n, h, w), got shape {tuple(x.shape)}: leave out the dimension of channels")
        if x.shape[-1] % self.factor or x.shape[-2] % self.factor:
            raise ValueError(f"sizes {tuple(x.shape[-2:])} are not multiples of {self.factor}")
        return functional.avg_pool2d(x[:, None], self.factor)[:, 0]

    def adjoint(self, y: Tensor) -> Tensor:
        """Images with every value of ``y`` spread evenly over its block."""
        spread = y.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)
        return spread / self.factor**2
