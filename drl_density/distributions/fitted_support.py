"""Supports of fitted densities, whose bijection from the reals is the map from the density's own model space.

Pyro's kernels and guides move in the space that ``biject_to(support)`` maps from. The constraint of this module is
registered with ``biject_to`` and ``transform_to`` of torch when its class is defined. Torch looks maps up by class, so
nothing changes for any other constraint.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints, transform_to
from torch.distributions.transforms import Transform

from drl_density.transforms import Bounds, DataTransform

FARTHEST = 1e6
"""Magnitude beyond which states are mapped as if they had it: logs of their probabilities lose the digits of derivatives."""


class FittedSupport(constraints.Constraint):
    """Where a fitted density is positive, with the map to its model space.

    ``biject_to`` and ``transform_to`` give :class:`FromModelSpace` for it.

    Args:
        transform: map of flat rows from data to model space.
        event_shape: shape of one point.

    >>> from drl_density.transforms import logit
    >>> support = FittedSupport(logit(0.0, 1.0), torch.Size([2]))
    >>> support.check(torch.tensor([[0.5, 0.5], [0.5, 1.0]])).tolist()
    [True, False]
    >>> biject_to(support)(torch.zeros(2))
    tensor([0.5000, 0.5000])
    """

    is_discrete = False

    def __init__(self, transform: DataTransform, event_shape: torch.Size) -> None:
        self.transform, self.event_shape = transform, torch.Size(event_shape)
        self.event_dim = len(self.event_shape)
        self.bounds: Bounds = transform.bounds.expand(self.event_shape.numel())

    def check(self, value: Tensor) -> Tensor:
        """Whether each point in ``value`` ``(*, *event)`` lies inside the bounds and the cells of all columns, ``(*,)``."""
        return self.bounds.contains(self.flat(value))

    @property
    def is_whole_space(self) -> bool:
        """Whether no column has an end or a cell."""
        lower, upper = self.bounds
        return not self.bounds.cells and not bool(lower.isfinite().any() | upper.isfinite().any())

    def is_same_set(self, other: FittedSupport) -> bool:
        """Whether the support ``other`` holds the same points, whatever its map."""
        return self.event_shape == other.event_shape and self.bounds == other.bounds

    def includes(self, other: FittedSupport) -> bool:
        """Whether every point of the support ``other`` lies in this one."""
        (lower, upper), (low, high) = self.bounds, other.bounds
        theirs = other.bounds.cells
        pairs = [(cells, theirs.get(index)) for index, cells in self.bounds.cells.items()]
        has_their_cells = all(
            twin is not None and own.width == twin.width and torch.equal(own.values, twin.values) for own, twin in pairs
        )
        is_around = self.event_shape == other.event_shape and bool((lower <= low).all() & (upper >= high).all())
        return is_around and has_their_cells

    def flat(self, value: Tensor) -> Tensor:
        """Points ``value`` ``(*, *event)`` as rows ``(*, d)``."""
        return value.reshape(*value.shape[: value.ndim - self.event_dim], self.event_shape.numel())

    def __repr__(self) -> str:
        lower, upper = self.bounds
        bounded = int((lower.isfinite() | upper.isfinite()).sum())
        return f"FittedSupport(event_shape={tuple(self.event_shape)}, {bounded} bounded columns)"


def union_of(supports: Sequence[FittedSupport]) -> constraints.Constraint | None:
    """A constraint that all points of some supports satisfy: the support that includes the others, or a box around them.

    It is None for points of several dimensions where no support includes the others.

    >>> from drl_density.transforms import logit
    >>> first, second = (FittedSupport(logit(0.0, end), torch.Size([1])) for end in (1.0, 2.0))
    >>> union_of([first, second]) is second, intersection_of([first, second]) is first
    (True, True)
    """
    found = next((one for one in supports if all(one.includes(other) for other in supports)), None)
    lowest = torch.stack([one.bounds.lower for one in supports]).amin(0)
    return found or _box(lowest, torch.stack([one.bounds.upper for one in supports]).amax(0), supports[0])


def intersection_of(supports: Sequence[FittedSupport]) -> constraints.Constraint | None:
    """A constraint of the points that satisfy all supports: the one that all others include, or the box of all bounds.

    It is None for points of several dimensions where no support is included in all others, and where nothing is left.
    """
    found = next((one for one in supports if all(other.includes(one) for other in supports)), None)
    highest = torch.stack([one.bounds.lower for one in supports]).amax(0)
    return found or _box(highest, torch.stack([one.bounds.upper for one in supports]).amin(0), supports[0])


def _box(lower: Tensor, upper: Tensor, like: FittedSupport) -> constraints.Constraint | None:
    """The constraint of vectors between ``lower`` and ``upper``."""
    if like.event_dim != 1 or not bool((lower < upper).all()):
        return None
    return constraints.stack(
        [_interval(float(low), float(high)) for low, high in zip(lower, upper, strict=True)], dim=-1
    )


def _interval(lower: float, upper: float) -> constraints.Constraint:
    if lower == -math.inf:
        return constraints.real if upper == math.inf else constraints.less_than(upper)
    return constraints.greater_than(lower) if upper == math.inf else constraints.interval(lower, upper)


class FromModelSpace(Transform):
    r"""The bijection from model-space states u to points x of a fitted density, x = T^{-1}(u), for any leading shape.

    Every x lies strictly inside the support, in the type of u. Where no number of that type is x itself, the nearest one
    inside is taken; beyond 10^6 in magnitude, the point of 10^6. There log |dx/du| is

    .. math:: -\log\lvert\det J_T(x)\rvert - \tfrac12 \sum_i (u_i^2 - T(x)_i^2)

    so that a density F(T(x)) on model space continues as a Gaussian beyond the last number before an end. The second term
    is zero up to rounding everywhere else.

    Args:
        support: constraint with the map T.
        cache_size: 1 to remember the last pair of u and x, as in torch.
    """

    bijective = True

    def __init__(self, support: FittedSupport, cache_size: int = 0) -> None:
        super().__init__(cache_size=cache_size)
        self.support = support
        self.domain = constraints.independent(constraints.real, support.event_dim)
        self.codomain = support

    def with_cache(self, cache_size: int = 1) -> FromModelSpace:
        """This transform with a cache of ``cache_size`` pairs, 0 or 1."""
        return self if cache_size == self._cache_size else FromModelSpace(self.support, cache_size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FromModelSpace) and self.support is other.support

    __hash__ = Transform.__hash__

    def _call(self, x: Tensor) -> Tensor:
        rows = self.support.transform.inv(self._rows(x).clamp(-FARTHEST, FARTHEST))
        return self.support.bounds.nearest_inside(rows.to(x)).reshape(x.shape)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.support.transform(self._rows(y)).to(y).reshape(y.shape)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log |det dx/du| of states ``x`` ``(*, *event)`` with points ``y``, ``(*,)``.

        Args:
            x: model-space states u.
            y: the points that belong to them.
        """
        u = self._rows(x)
        image, log_jacobian = self.support.transform.with_log_jacobian(self._rows(y))
        beyond = 0.5 * ((image - u) * (image + u)).sum(-1)
        return (beyond - log_jacobian).to(x)

    def _rows(self, value: Tensor) -> Tensor:
        """Flat rows ``(*, d)``, float64 on the CPU, where transforms of data compute."""
        return self.support.flat(value).double().cpu()


@biject_to.register(FittedSupport)
@transform_to.register(FittedSupport)
def _from_model_space(support: Any) -> FromModelSpace:
    return FromModelSpace(support)
