"""Supports of densities: the density zero outside, points inside, and chains that stay inside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints, transforms

from drl_density.distributions.fitted_support import FittedSupport
from drl_density.distributions.reals import Stack, real_transform
from drl_density.distributions.sampling import SampleResult, SamplerPolicy
from drl_density.errors import NumericalError
from drl_density.mcmc import LogDensity

HALF_LINES_UP = (constraints.greater_than, constraints.greater_than_eq)
HALF_LINES_DOWN = (constraints.less_than,)


def is_whole_space(support: Any) -> bool:
    """Whether a constraint admits all reals.

    >>> is_whole_space(constraints.independent(constraints.real, 1)), is_whole_space(constraints.positive)
    (True, False)
    """
    support = _of_one_point(support)
    return support.is_whole_space if isinstance(support, FittedSupport) else isinstance(support, type(constraints.real))


def has_own_map(support: Any) -> bool:
    """Whether chains over a support run in another space than its own: unless it is the reals themselves.

    >>> has_own_map(constraints.real_vector), has_own_map(constraints.positive)
    (False, True)
    """
    return not isinstance(_of_one_point(support), type(constraints.real))


def _of_one_point(support: Any) -> Any:
    """A constraint without the dimensions that were added to it."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def is_same_support(one: Any, other: Any) -> bool:
    """Whether two constraints are of one kind with equal ends; those of fitted densities may differ in their maps.

    >>> is_same_support(constraints.interval(0.0, 1.0), constraints.interval(0, 1))
    True
    >>> is_same_support(constraints.interval(0.0, 1.0), constraints.interval(0.0, 2.0))
    False
    """
    if isinstance(one, FittedSupport) and isinstance(other, FittedSupport):
        return one.is_same_set(other)
    are_reals = is_whole_space(one) and is_whole_space(other) and one.event_dim == other.event_dim
    return one is other or are_reals or _signature(one) == _signature(other)


def _signature(part: Any) -> Any:
    """The kind and the ends of a constraint as nested tuples that compare by value."""
    if isinstance(part, constraints.Constraint):
        return type(part), tuple((name, _signature(value)) for name, value in sorted(vars(part).items()))
    if isinstance(part, Tensor):
        return tuple(part.flatten().tolist()) if part.numel() > 1 else float(part)
    return tuple(map(_signature, part)) if isinstance(part, list | tuple) else part


class ZeroOutside:
    """A log density that is minus infinity outside a support, where the function itself raises an error or is meaningless.

    A picklable callable over points ``(*, *event)``. Points with NaN have log density NaN.

    Args:
        log_density: log density inside the support.
        support: constraint of the points.
        event_dim: number of dimensions of one point.

    >>> import pyro.distributions as dist
    >>> ZeroOutside(dist.Exponential(1.0).log_prob, constraints.positive, 0)(torch.tensor([2.0, -1.0]))
    tensor([-2., -inf])
    """

    def __init__(self, log_density: LogDensity, support: Any, event_dim: int) -> None:
        self.log_density, self.support, self.event_dim = log_density, support, event_dim

    def __call__(self, x: Tensor) -> Tensor:
        inside = is_inside(self.support, x, self.event_dim)
        own = len(x.shape) - self.event_dim
        if bool(inside.all()):
            return self.log_density(x)
        wide = inside.reshape(*inside.shape, *[1] * self.event_dim)
        values = self.log_density(torch.where(wide, x, inner_point(self.support, x)))
        values = torch.where(inside, values, -math.inf)
        is_nan = x.isnan().reshape(*x.shape[:own], -1).any(-1)
        return torch.where(is_nan, math.nan, values)


def is_inside(support: Any, x: Tensor, event_dim: int) -> Tensor:
    """Whether points ``(*, *event)`` lie in a support, ``(*,)``.

    Args:
        support: constraint of the points; parts that are joined or stacked may be of different kinds.
        x: points.
        event_dim: number of dimensions of one point.

    >>> joined = constraints.cat([constraints.simplex, constraints.positive], -1, [2, 1])
    >>> is_inside(joined, torch.tensor([[0.5, 0.5, 1.0], [0.5, 0.5, -1.0]]), 1)
    tensor([ True, False])
    """
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if isinstance(support, constraints.cat):
        pieces = zip(support.cseq, x.split(list(support.lengths), support.dim), strict=True)
        return torch.stack([is_inside(part, piece, event_dim) for part, piece in pieces]).all(0)
    if isinstance(support, constraints.stack):
        pieces = zip(support.cseq, x.unbind(support.dim), strict=True)
        return torch.stack([is_inside(part, piece, event_dim - 1) for part, piece in pieces]).all(0)
    found, leading = support.check(x), x.shape[: x.ndim - event_dim]
    return found.reshape(*leading, -1).all(-1) if found.ndim > len(leading) else found


def from_reals(support: Any) -> Any:
    """A bijection from all reals onto a support, linear far from the end of a half line.

    Torch's own choice for a half line is the exponential, under which a density that falls off exponentially becomes so
    steep that chains diverge.

    Raises:
        ValueError: a support that no bijection is known for, such as one of integers.

    >>> from_reals(constraints.less_than(3.0))(torch.tensor(-20.0))
    tensor(-17.)
    """
    if isinstance(support, constraints.independent):
        return transforms.IndependentTransform(from_reals(support.base_constraint), support.reinterpreted_batch_ndims)
    if isinstance(support, constraints.stack):
        return Stack([from_reals(part) for part in support.cseq], support.dim)
    if isinstance(support, HALF_LINES_UP):
        shift = transforms.AffineTransform(support.lower_bound, 1.0)
        return transforms.ComposeTransform([transforms.SoftplusTransform(), shift])
    if isinstance(support, HALF_LINES_DOWN):
        mirrored = [transforms.AffineTransform(0.0, -1.0), transforms.SoftplusTransform()]
        return transforms.ComposeTransform([*mirrored, transforms.AffineTransform(support.upper_bound, -1.0)])
    return real_transform(support)


def inner_point(support: Any, like: Tensor) -> Tensor:
    """Some point of a support for each of the points ``like``, of the same shape.

    Raises:
        ValueError: a support that no bijection is known for, such as one of integers.

    >>> inner_point(constraints.interval(2.0, 4.0), torch.zeros(2))
    tensor([3., 3.])
    """
    transform = from_reals(support)
    return transform(torch.zeros(transform.inverse_shape(like.shape), dtype=like.dtype, device=like.device))


@dataclass(frozen=True)
class InsideSupport:
    """A sampler whose chains run on all reals, mapped onto a support with the map's Jacobian, so that none can leave it.

    Attributes:
        sampler: policy that runs the chains.
        support: constraint of one point, which is not the reals.
    """

    sampler: SamplerPolicy
    support: Any

    def __call__(self, log_density: LogDensity, initial: Tensor, generator: torch.Generator | None) -> SampleResult:
        """One draw for each row of ``initial``; rows on the edge of the support, or beyond, start at one of the others.

        Raises:
            NumericalError: no row inside the support.
        """
        transform = from_reals(self.support)
        start = transform.inv(initial)
        is_inside = start.isfinite().reshape(len(start), math.prod(start.shape[1:])).all(1)
        if not bool(is_inside.all()):
            start = start[_substitutes(is_inside)]
        found = self.sampler(_OnReals(log_density, transform), start, generator)
        return SampleResult(transform(found.draws), found.stats)


def _substitutes(is_good: Tensor) -> Tensor:
    """For each row the index of a good one: its own, or one of the good rows in turn.

    Raises:
        NumericalError: no good row.
    """
    good = is_good.nonzero().flatten()
    if not len(good):
        raise NumericalError(f"none of {len(is_good)} starting points lies inside the support")
    places = torch.arange(len(is_good), device=is_good.device)
    return torch.where(is_good, places, good[places % len(good)])


@dataclass(frozen=True)
class _OnReals:
    """A log density over a support as one over all reals: its value there plus the log Jacobian."""

    log_density: LogDensity
    transform: Any

    def __call__(self, z: Tensor) -> Tensor:
        x = self.transform(z)
        slope = self.transform.log_abs_det_jacobian(z, x)
        return self.log_density(x) + slope.reshape(len(z), math.prod(slope.shape[1:])).sum(1)
