"""The product A* A of a linear operator in dense blocks, where it couples few coordinates with one another."""

from __future__ import annotations

import torch
from torch import Tensor

from drl_density.operators.linear import LinearOperator, check_operator

# Rounding of two passes in float64, relative to the result.
EXACT = 1e-6


class GramBlocks:
    r"""The matrix :math:`G = A^* A` of an operator on real points, with one dense block for each group of coordinates.

    Masks of whole columns of frequencies leave the rows of an image apart, for one coil or several: groups are then rows,
    and the blocks of 64 x 64 complex pixels hold a million numbers where the whole matrix holds 67 million. Without such a
    structure all coordinates are one group.

    Args:
        operator: the linear operator A, real or complex, on real points of ``event_shape``.
        event_shape: shape of one point, of d entries.
        groups: indices of the flat coordinates of each group, ``(groups, size)``, a partition of 0..d-1; one group of all
            coordinates when not given.

    Raises:
        ValueError: groups that are no partition, an operator that couples different groups, one that is not linear with the
            adjoint that it has, or one that maps every point to zero.

    >>> from drl_density.operators import Mask
    >>> GramBlocks(Mask(torch.tensor([True, False])), (2,)).blocks
    tensor([[[1., 0.],
             [0., 0.]]], dtype=torch.float64)
    """

    def __init__(self, operator: LinearOperator, event_shape: tuple[int, ...], groups: Tensor | None = None) -> None:
        check_operator(operator)
        num_features = torch.Size(event_shape).numel()
        groups = torch.arange(num_features)[None] if groups is None else groups
        if groups.ndim != 2 or not torch.equal(groups.flatten().sort().values, torch.arange(num_features)):
            raise ValueError(f"expected groups that hold each of {num_features} coordinates once, got {tuple(groups.shape)}")
        self.operator, self.event_shape, self.groups = operator, tuple(event_shape), groups
        size = groups.shape[1]
        # Groups do not act on one another, so that one point probes a coordinate of every group.
        probes = torch.zeros(size, num_features, dtype=torch.float64)
        probes[torch.arange(size)[:, None], groups.T] = 1.0
        found = self.split(self._product(probes))
        self.blocks = 0.5 * (found + found.mT)
        point = torch.randn(1, num_features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        product = self._product(point)
        if not bool(product.abs().max() > 0):
            raise ValueError("the operator maps every point to zero: nothing is measured")
        if not bool((self(point) - product).abs().max() <= EXACT * product.abs().max()):
            raise ValueError(
                "A* A of this operator couples coordinates of different groups, or its adjoint is wrong: give larger "
                "groups, or check it with adjoint_gap"
            )

    @property
    def num_features(self) -> int:
        """Number d of coordinates."""
        return self.groups.numel()

    @property
    def largest(self) -> float:
        """Largest eigenvalue of G, the squared norm of A."""
        return float(torch.linalg.eigvalsh(self.blocks).max())

    def split(self, x: Tensor) -> Tensor:
        """Entries of flat rows ``x`` ``(n, d)`` by group, ``(groups, size, n)``."""
        return x[:, self.groups].permute(1, 2, 0)

    def join(self, parts: Tensor) -> Tensor:
        """Flat rows ``(n, d)`` of entries ``parts`` by group, the inverse of :meth:`split`."""
        whole = parts.new_empty(parts.shape[2], self.num_features)
        whole[:, self.groups] = parts.permute(2, 0, 1)
        return whole

    def __call__(self, x: Tensor) -> Tensor:
        """G x of flat rows ``(n, d)``, float64."""
        return self.join(self.blocks @ self.split(x.double()))

    def adjoint(self, y: Tensor) -> Tensor:
        """Flat rows A* y ``(n, d)`` of measurements ``y`` ``(n, *measured)``, float64."""
        return self.operator.adjoint(y.to(torch.complex128 if y.is_complex() else torch.float64)).flatten(1)

    def _product(self, x: Tensor) -> Tensor:
        return self.operator.adjoint(self.operator.forward(x.reshape(-1, *self.event_shape))).double().flatten(1)
