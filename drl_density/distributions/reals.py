"""Bijections from all reals onto the supports of densities, with their log Jacobians.

Most are torch's own, as ``biject_to`` chooses them. Torch has none for triangular and positive definite matrices, its
simplex clips probabilities at the rounding error of 1, and its concatenation cannot hold a simplex; these are here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Transform, biject_to, constraints, transforms


def real_transform(support: Any) -> Transform:
    """A bijection from all reals onto a support.

    Its ``inverse_shape`` gives the shape of the reals from the shape of an event, and ``log_abs_det_jacobian`` the log
    volume with respect to the free entries of the event: all but the last of a simplex, and the lower triangle of a
    Cholesky factor or a symmetric matrix.

    Args:
        support: constraint of the events; a mixture's is that of its components.

    Raises:
        ValueError: a discrete support, or one without a bijection, such as a sphere.

    >>> transform = real_transform(constraints.simplex)
    >>> transform(torch.zeros(2)), transform.inverse_shape(torch.Size((3,)))
    (tensor([0.3333, 0.3333, 0.3333]), torch.Size([2]))
    """
    if getattr(support, "is_discrete", False):
        raise ValueError(
            f"expected a continuous support, got the discrete {support}: sum discrete variables out, and take log Z of the "
            "continuous ones"
        )
    if isinstance(support, constraints.MixtureSameFamilyConstraint):
        return real_transform(support.base_constraint)
    if isinstance(support, constraints.independent):
        return transforms.IndependentTransform(
            real_transform(support.base_constraint), support.reinterpreted_batch_ndims
        )
    if isinstance(support, constraints.cat | constraints.stack) and support.dim >= 0:
        raise ValueError(f"expected a dim that counts from the end of an event, such as dim=-1, got {support.dim}")
    if isinstance(support, constraints.cat):
        return Concatenation([real_transform(part) for part in support.cseq], support.lengths, support.dim)
    if isinstance(support, constraints.stack):
        return Stack([real_transform(part) for part in support.cseq], support.dim)
    for kind, transform in _OWN.items():
        if isinstance(support, kind):
            return transform()
    try:
        return biject_to(support)
    except NotImplementedError:
        raise ValueError(
            f"no bijection from the reals onto the support {support} is known: state the density in coordinates that are "
            "real, positive, or between two numbers, with the Jacobian of the change"
        ) from None


def log_volume(transform: Transform, u: Tensor, x: Tensor, num_leading: int) -> Tensor:
    """Log Jacobian of ``x = transform(u)`` for each of the first ``num_leading`` dimensions' points.

    >>> transform = real_transform(constraints.positive)
    >>> log_volume(transform, torch.ones(2, 3), torch.ones(2, 3).exp(), 1)
    tensor([3., 3.])
    """
    slope = transform.log_abs_det_jacobian(u, x)
    return slope.reshape(*slope.shape[:num_leading], -1).sum(-1)


class StickBreaking(Transform):
    """Vectors of K - 1 reals onto probabilities of K classes, with torch's parameters and without its clipping.

    All is computed from logarithms, so that a probability may be as small as the least positive number, whichever it is.
    Torch's own map clips at the rounding error of 1, which costs a Dirichlet density with shapes of 0.1 about 1 % of its
    mass in float64 and 10 % in float32.

    >>> u = torch.tensor([50.0, -3.0], dtype=torch.float64)
    >>> bool((StickBreaking().inv(StickBreaking()(u)) - u).abs().max() < 1e-9)
    True
    """

    domain = constraints.real_vector
    codomain = constraints.simplex
    bijective = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StickBreaking)

    def __hash__(self) -> int:
        return hash(StickBreaking)

    def _call(self, x: Tensor) -> Tensor:
        taken, left = self._log_parts(x)
        before = torch.cat([torch.zeros_like(left[..., :1]), left.cumsum(-1)], -1)
        logarithms = torch.cat([taken, torch.zeros_like(taken[..., :1])], -1) + before
        # A share that underflows stays inside the simplex, where its logarithm is finite.
        return logarithms.exp().clamp_min(torch.finfo(x.dtype).tiny)

    def _inverse(self, y: Tensor) -> Tensor:
        beyond = y.flip(-1).cumsum(-1).flip(-1)[..., 1:]  # exact for small remainders, unlike one less a sum
        return y[..., :-1].log() - beyond.log() + self._log_count(y[..., :-1])

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Log volume with respect to all but the last probability."""
        taken, left = self._log_parts(x)
        return (taken + left + left.cumsum(-1) - left).sum(-1)

    def forward_shape(self, shape: Sequence[int]) -> torch.Size:
        """Shape of the probabilities."""
        return torch.Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: Sequence[int]) -> torch.Size:
        """Shape of the reals."""
        return torch.Size((*shape[:-1], shape[-1] - 1))

    def _log_parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the share of the stick that each piece takes and leaves."""
        logits = x - self._log_count(x)
        return torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)

    @staticmethod
    def _log_count(x: Tensor) -> Tensor:
        count = x.shape[-1]
        return torch.arange(count, 0, -1, dtype=x.dtype, device=x.device).log()


class LowerTriangular(Transform):
    """Vectors of d (d + 1) / 2 reals onto lower triangular matrices with a positive diagonal.

    The vector holds the rows of the triangle, the diagonal as logarithms.

    >>> LowerTriangular()(torch.zeros(3))
    tensor([[1., 0.],
            [0., 1.]])
    """

    domain = constraints.real_vector
    codomain = constraints.lower_cholesky
    bijective = True

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def _call(self, x: Tensor) -> Tensor:
        order = _order(x.shape[-1])
        rows, columns = torch.tril_indices(order, order, device=x.device)
        entries = torch.where(rows == columns, x.exp(), x)
        # The triangle's entries are taken from the vector, with one zero behind it for the entries above the diagonal.
        places = torch.full((order, order), x.shape[-1], device=x.device)
        places[rows, columns] = torch.arange(x.shape[-1], device=x.device)
        padded = torch.cat([entries, torch.zeros_like(entries[..., :1])], -1)
        return padded[..., places.flatten()].unflatten(-1, (order, order))

    def _inverse(self, y: Tensor) -> Tensor:
        rows, columns = torch.tril_indices(y.shape[-1], y.shape[-1], device=y.device)
        entries = y[..., rows, columns]
        is_diagonal = rows == columns
        return torch.where(is_diagonal, torch.where(is_diagonal, entries, 1.0).log(), entries)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Log volume with respect to the lower triangle."""
        return x[..., _diagonal(x)].sum(-1)

    def forward_shape(self, shape: Sequence[int]) -> torch.Size:
        """Shape of the matrices."""
        order = _order(shape[-1])
        return torch.Size((*shape[:-1], order, order))

    def inverse_shape(self, shape: Sequence[int]) -> torch.Size:
        """Shape of the reals."""
        return torch.Size((*shape[:-2], shape[-1] * (shape[-1] + 1) // 2))


class PositiveDefinite(LowerTriangular):
    """Vectors of d (d + 1) / 2 reals onto symmetric positive definite matrices, by their Cholesky factors.

    >>> PositiveDefinite()(torch.tensor([math.log(2.0), 1.0, 0.0]))
    tensor([[4., 2.],
            [2., 2.]])
    """

    codomain = constraints.positive_definite

    def _call(self, x: Tensor) -> Tensor:
        factor = super()._call(x)
        return factor @ factor.mT

    def _inverse(self, y: Tensor) -> Tensor:
        return super()._inverse(torch.linalg.cholesky(y))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Log volume with respect to the lower triangle.

        Source: Muirhead 1982, theorem 2.1.9: the map from the factor L has the Jacobian 2^d prod_i L_ii^(d - i + 1).
        """
        diagonal = x[..., _diagonal(x)]
        order = diagonal.shape[-1]
        powers = torch.arange(order, 0, -1, dtype=x.dtype, device=x.device)
        return (diagonal * (powers + 1)).sum(-1) + order * math.log(2)


class Concatenation(Transform):
    """Bijections onto parts of an event that are joined along one dimension; a part may have fewer reals than entries.

    Args:
        parts: bijection onto each part.
        lengths: length of each part of the event.
        dim: dimension along which they are joined.

    >>> joined = Concatenation([StickBreaking(), transforms.ExpTransform()], [3, 1], -1)
    >>> joined.inverse_shape(torch.Size((4,))), joined(torch.zeros(3)).sum()
    (torch.Size([3]), tensor(2.))
    """

    bijective = True

    def __init__(self, parts: Sequence[Transform], lengths: Sequence[int], dim: int) -> None:
        super().__init__()
        self.parts, self.lengths, self.dim = tuple(parts), tuple(lengths), dim
        # One part that takes vectors, such as a simplex along the joined dimension, makes the whole take vectors.
        self.own_dims = max(1, *(part.codomain.event_dim for part in parts))
        self.domain = constraints.independent(constraints.real, self.own_dims)
        self.codomain = constraints.cat([part.codomain for part in parts], dim, list(lengths))

    def _call(self, x: Tensor) -> Tensor:
        return torch.cat(_each(self.parts, self._split_reals(x)), self.dim)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.cat(_each([part.inv for part in self.parts], y.split(self.lengths, self.dim)), self.dim)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Log volume of all parts together, summed over everything but the leading dimensions of one part."""
        pieces = zip(self.parts, self._split_reals(x), y.split(self.lengths, self.dim), strict=True)
        leading = x.ndim - self.own_dims
        return torch.stack([log_volume(part, one, other, leading) for part, one, other in pieces]).sum(0)

    def forward_shape(self, shape: Sequence[int]) -> torch.Size:
        """Shape of the event."""
        return self._resized(shape, sum(self.lengths))

    def inverse_shape(self, shape: Sequence[int]) -> torch.Size:
        """Shape of the reals."""
        return self._resized(shape, sum(self._real_lengths(shape)))

    def _resized(self, shape: Sequence[int], length: int) -> torch.Size:
        sizes = list(shape)
        sizes[self.dim] = length
        return torch.Size(sizes)

    def _real_lengths(self, shape: Sequence[int]) -> list[int]:
        return [
            part.inverse_shape(self._resized(shape, length))[self.dim]
            for part, length in zip(self.parts, self.lengths, strict=True)
        ]

    def _split_reals(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split(self._real_lengths(x.shape), self.dim)


class Stack(Transform):
    """Bijections onto slices of an event that are stacked along a dimension; all slices have reals of one shape.

    Args:
        parts: bijection onto each slice.
        dim: dimension of the event along which they are stacked, negative.

    >>> stacked = Stack([StickBreaking(), StickBreaking()], -2)
    >>> stacked.inverse_shape(torch.Size((2, 3))), stacked(torch.zeros(2, 2)).shape
    (torch.Size([2, 2]), torch.Size([2, 3]))
    """

    bijective = True

    def __init__(self, parts: Sequence[Transform], dim: int) -> None:
        super().__init__()
        self.parts, self.dim = tuple(parts), dim
        self.own_dims = 1 + max(part.codomain.event_dim for part in parts)
        self.domain = constraints.independent(constraints.real, self.own_dims)
        self.codomain = constraints.stack([part.codomain for part in parts], dim)

    def _call(self, x: Tensor) -> Tensor:
        return torch.stack(_each(self.parts, x.unbind(self.dim)), self.dim)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.stack(_each([part.inv for part in self.parts], y.unbind(self.dim)), self.dim)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Log volume of all slices together, summed over everything but the leading dimensions of a whole."""
        pieces = zip(self.parts, x.unbind(self.dim), y.unbind(self.dim), strict=True)
        leading = x.ndim - self.own_dims
        return torch.stack([log_volume(part, one, other, leading) for part, one, other in pieces]).sum(0)

    def forward_shape(self, shape: Sequence[int]) -> torch.Size:
        """Shape of the event."""
        return self._reshaped(shape, [part.forward_shape for part in self.parts])

    def inverse_shape(self, shape: Sequence[int]) -> torch.Size:
        """Shape of the reals.

        Raises:
            ValueError: slices whose reals have different shapes, such as a simplex beside positive numbers.
        """
        return self._reshaped(shape, [part.inverse_shape for part in self.parts])

    def _reshaped(self, shape: Sequence[int], change: Sequence[Callable[[torch.Size], Sequence[int]]]) -> torch.Size:
        place = len(shape) + self.dim
        slices = {tuple(one(torch.Size((*shape[:place], *shape[place + 1 :])))) for one in change}
        if len(slices) > 1:
            raise ValueError(f"expected stacked supports whose reals have one shape, got shapes {sorted(slices)}")
        (slice_shape,) = slices
        before = len(slice_shape) + self.dim + 1
        return torch.Size((*slice_shape[:before], len(self.parts), *slice_shape[before:]))


def _each(maps: Sequence[Any], pieces: Sequence[Tensor]) -> list[Tensor]:
    """Every piece by its own map."""
    return [one(piece) for one, piece in zip(maps, pieces, strict=True)]


def _order(count: int) -> int:
    """Order d of the triangle with ``count`` = d (d + 1) / 2 entries."""
    order = (math.isqrt(8 * count + 1) - 1) // 2
    if order * (order + 1) // 2 != count:
        raise ValueError(f"expected d (d + 1) / 2 reals for a triangular matrix of order d, got {count}")
    return order


def _diagonal(x: Tensor) -> list[int]:
    """Places of the diagonal in the vector of a lower triangle's rows."""
    return [total - 1 for total in itertools.accumulate(range(1, _order(x.shape[-1]) + 1))]


_OWN: dict[Any, type[Transform]] = {
    type(constraints.simplex): StickBreaking,
    type(constraints.lower_cholesky): LowerTriangular,
    type(constraints.positive_definite): PositiveDefinite,
}
