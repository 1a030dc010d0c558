"""The contract of linear operators, and those of real images and vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from drl_density.records.brief import brief


class LinearOperator(Protocol):
    """A x for batches of points, and its adjoint: <A x, y> = <x, A* y> for all x, y (complex inner product)."""

    def forward(self, x: Tensor) -> Tensor:
        """A x for points ``(n, *event)``.

        Args:
            x: real or complex.
        """

    def adjoint(self, y: Tensor) -> Tensor:
        """A* y for measurements ``(n, *measured)``.

        Args:
            y: of the shape of A x.
        """


class ProjectingOperator(LinearOperator, Protocol):
    """An operator that can be enforced exactly."""

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The nearest points to ``x`` that measure ``y``."""


def check_operator(operator: object) -> None:
    """Refuse what is no linear operator.

    Args:
        operator: any object.

    Raises:
        ValueError: without ``forward`` or ``adjoint``.

    >>> check_operator(Downsample(2))
    """
    missing = [name for name in ("forward", "adjoint") if not callable(getattr(operator, name, None))]
    if missing:
        raise ValueError(
            f"a linear operator has forward(x) and adjoint(y), {type(operator).__name__} lacks {' and '.join(missing)}; "
            "adjoint_gap tells whether an adjoint is right"
        )


def check_size(x: Tensor, size: tuple[int, ...], what: str) -> None:
    """Refuse rows whose last dimensions are not ``size``: broadcasting would measure something else without a word.

    Raises:
        ValueError: naming both.
    """
    if tuple(x.shape[x.ndim - len(size) :]) != tuple(size) or x.ndim <= len(size):
        raise ValueError(f"expected {what} of shape (n, {', '.join(map(str, size))}), got {tuple(x.shape)}")


def adjoint_gap(operator: LinearOperator, x: Tensor, y: Tensor) -> float:
    """|<A x, y> - <x, A* y>| over the size of the first: 0 for a right adjoint.

    Args:
        operator: A.
        x: points ``(n, *event)``.
        y: measurements, shape of A x.

    >>> adjoint_gap(Mask(torch.tensor([True, False])), torch.ones(1, 2), torch.ones(1, 1)) < 1e-6
    True
    """
    first = (operator.forward(x).conj() * y).sum()
    second = (x.conj() * operator.adjoint(y)).sum()
    return float((first - second).abs() / first.abs())


@dataclass(frozen=True, eq=False)
class Mask:
    """The observed entries of a point, as a flat vector.

    Attributes:
        is_observed: ``(*event)``, at least one True.

    Raises:
        ValueError: a mask that measures nothing.

    >>> Mask(torch.tensor([True, False, True])).forward(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[1., 3.]])
    """

    is_observed: Tensor

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.is_observed.dtype != torch.bool or not bool(self.is_observed.any()):
            raise ValueError("a mask must be boolean and observe at least one entry")

    def forward(self, x: Tensor) -> Tensor:
        """Observed entries ``(n, m)``."""
        check_size(x, self.is_observed.shape, "points")
        return x[:, self.is_observed]

    def adjoint(self, y: Tensor) -> Tensor:
        """Entries put back, zeros elsewhere, ``(n, *event)``."""
        check_size(y, (int(self.is_observed.sum()),), "measurements")
        full = y.new_zeros((len(y), *self.is_observed.shape))
        full[:, self.is_observed] = y
        return full

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """``x`` with its observed entries replaced."""
        full = x.clone()
        full[:, self.is_observed] = y.to(x)
        return full


@dataclass(frozen=True, eq=False)
class MatrixOperator:
    """A matrix ``(m, d)`` over flat vectors ``(n, d)``.

    Args:
        matrix: A, real or complex.

    >>> operator = MatrixOperator(torch.tensor([[1.0, 2.0]]))
    >>> operator.forward(torch.ones(1, 2)), operator.adjoint(torch.ones(1, 1))
    (tensor([[3.]]), tensor([[1., 2.]]))
    """

    matrix: Tensor

    __repr__ = brief

    def forward(self, x: Tensor) -> Tensor:
        """x A^T."""
        check_size(x, self.matrix.shape[1:], "points")
        return x @ self.matrix.to(x).T

    def adjoint(self, y: Tensor) -> Tensor:
        """y A*."""
        check_size(y, self.matrix.shape[:1], "measurements")
        return y @ self.matrix.to(y).conj()


@dataclass(frozen=True, eq=False)
class Blur:
    """Circular convolution of images ``(n, h, w)`` with a kernel ``(a, b)`` of odd sizes, centred.

    Args:
        kernel: odd in height and width.

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
        """The blurred images."""
        return self._convolve(x, self.kernel)

    def adjoint(self, y: Tensor) -> Tensor:
        """Convolution with the mirrored kernel."""
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
    """Means over blocks of ``factor`` x ``factor`` pixels of images ``(n, h, w)``.

    >>> Downsample(2).forward(torch.arange(4.0).reshape(1, 2, 2))
    tensor([[[1.5000]]])
    """

    factor: int

    def forward(self, x: Tensor) -> Tensor:
        """Block means ``(n, h / factor, w / factor)``.

        Raises:
            ValueError: sizes that the factor does not divide.
        """
        if x.shape[-1] % self.factor or x.shape[-2] % self.factor:
            raise ValueError(f"sizes {tuple(x.shape[-2:])} are not multiples of {self.factor}")
        return functional.avg_pool2d(x[:, None], self.factor)[:, 0]

    def adjoint(self, y: Tensor) -> Tensor:
        """Each value spread evenly over its block."""
        spread = y.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)
        return spread / self.factor**2
