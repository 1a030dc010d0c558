"""The log density that every stage of log Z evaluates: flat rows over all reals, in float64, never NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drl_density.partition_function.targets.coordinates import Coordinates

LARGEST_LOG = 300.0
"""Real number from which on the sites of a Pyro model, which the model maps onto their supports, may leave float64."""
LARGEST_POWER = 3
"""Power of a number that a target may take, and that has to be a number too."""


@dataclass(frozen=True)
class Rejections:
    """Where a target was found to have no density.

    Attributes:
        num_points: points at which the target was evaluated.
        num_zero: points with log density minus infinity.
        num_undefined: points with log density NaN or plus infinity, which count as density zero.

    >>> Rejections(num_points=200, num_zero=20, num_undefined=10).dead_share
    0.15
    """

    num_points: int = 0
    num_zero: int = 0
    num_undefined: int = 0

    @property
    def dead_share(self) -> float:
        """Share of the evaluated points without density, for either reason; 0 where nothing was evaluated."""
        return (self.num_zero + self.num_undefined) / max(1, self.num_points)

    @property
    def undefined_share(self) -> float:
        """Share of the evaluated points with log density NaN or plus infinity."""
        return self.num_undefined / max(1, self.num_points)


class _Tally:
    """Running counts of :class:`Rejections`."""

    def __init__(self) -> None:
        self.num_points = self.num_zero = self.num_undefined = 0


class FlatDensity:
    """Log density of a target in flat coordinates, less a constant.

    A point with log density NaN or plus infinity, or with coordinates that are not finite, has log density minus infinity.
    The value includes the log Jacobian of the coordinates. A gradient that is not finite is zero, so that a chain can
    leave the point where it stands; a target without a gradient has the gradient zero everywhere.

    Args:
        evaluate: log density of points ``(n, *event)``, float64.
        coordinates: flat coordinates of these points.
        offset: constant that is subtracted, nats.
        dtype: coarsest type of numbers in which the target is evaluated, that of its values.
        counts: running counts, shared with another density of the same target.

    >>> flat = FlatDensity(lambda x: 1e9 - x.square().sum(-1), Coordinates.onto(None, torch.Size((2,))), offset=1e9)
    >>> flat = flat.counted()
    >>> flat(torch.ones(3, 2).double()), flat.rejections.num_points
    (tensor([-2., -2., -2.], dtype=torch.float64), 3)
    """

    def __init__(
        self,
        evaluate: Callable[[Tensor], Tensor],
        coordinates: Coordinates,
        *,
        offset: float = 0.0,
        dtype: torch.dtype = torch.float64,
        counts: _Tally | None = None,
    ) -> None:
        self.evaluate, self.coordinates, self.offset, self.dtype = evaluate, coordinates, offset, dtype
        self._counts = counts

    def counted(self) -> FlatDensity:
        """The same log density, with the points that it is evaluated at counted from now on."""
        return FlatDensity(self.evaluate, self.coordinates, offset=self.offset, dtype=self.dtype, counts=_Tally())

    def uncounted(self) -> FlatDensity:
        """The same log density without counting, as vectorised maps such as ``torch.func.jacrev`` need it."""
        return FlatDensity(self.evaluate, self.coordinates, offset=self.offset, dtype=self.dtype)

    @property
    def rejections(self) -> Rejections:
        """Counts of the points so far; all zero where they are not counted."""
        counts = self._counts or _Tally()
        return Rejections(counts.num_points, counts.num_zero, counts.num_undefined)

    def hold(self, u: Tensor) -> Tensor:
        """Whether values at rows ``(n, d)`` are those of the target, and not of the end of its type of numbers, ``(n,)``.

        Points that this type does not hold do not count, nor do points without density whose numbers are so large or small
        that their powers leave it. Over all reals the numbers are those of a Pyro model's sites before their maps.
        """
        hold = self.coordinates.hold(u, self.dtype)
        with torch.no_grad():
            sizes = self.coordinates.to_event(u).flatten(1).abs()
            if self.coordinates.transform is None:
                is_extreme = (sizes > LARGEST_LOG).any(1)
            else:
                largest = float(torch.finfo(self.dtype).max) ** (1 / LARGEST_POWER)
                is_extreme = ((sizes > largest) | ((sizes > 0) & (sizes < 1 / largest))).any(1)
            is_extreme &= hold
            if bool(is_extreme.any()):
                hold[is_extreme] = self(u[is_extreme]) > -math.inf
        return hold

    def __call__(self, u: Tensor) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        if self._counts is not None and (values := self._all_finite(u)) is not None:
            return values
        is_lost = ~u.isfinite().all(1)
        u = _FiniteGradient.apply(torch.where(is_lost[:, None], 0.0, u))
        x, volume = self.coordinates.to_event_and_volume(u)
        if self.coordinates.transform is not None:  # an exponential overflows long before its argument does
            is_lost = is_lost | ~x.isfinite().flatten(1).all(1)
            middle = self.coordinates.to_event(torch.zeros_like(u[:1]))
            x = torch.where(is_lost.reshape(-1, *[1] * (x.ndim - 1)), middle, x)
        total = self.evaluate(x) + volume - self.offset
        is_undefined = (total.isnan() | (total == math.inf)) & ~is_lost
        if self._counts is not None:
            self._counts.num_points += len(u)
            self._counts.num_undefined += int(is_undefined.sum())
            self._counts.num_zero += int((is_lost | (total == -math.inf)).sum())
        # The sum that is never taken ties the result to the rows, so that autograd finds a gradient, if only zeros.
        tied = torch.where(torch.ones_like(is_lost), total, u.sum(1))
        return torch.where(is_lost | is_undefined, -math.inf, tied)

    def _all_finite(self, u: Tensor) -> Tensor | None:
        """Values of rows where all are finite, ``None`` where any is not: most calls, at a third of the cost."""
        if self._counts is None or not math.isfinite(float(u.detach().sum())):
            return None
        if u.requires_grad:
            u = u.view_as(u)
            u.register_hook(lambda gradient: torch.where(gradient.isfinite(), gradient, 0.0))
        x, volume = self.coordinates.to_event_and_volume(u)
        if self.coordinates.transform is not None and not bool(x.isfinite().all()):
            return None
        total = self.evaluate(x) + volume - self.offset
        if not bool(total.isfinite().all()):
            return None
        self._counts.num_points += len(u)
        # A target without gradient is tied to the rows all the same, with the gradient zero.
        return total if total.requires_grad or not u.requires_grad else total + 0.0 * u.sum(1)


class _FiniteGradient(torch.autograd.Function):
    """The identity, with every gradient that is not finite replaced by zero."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        del ctx, inputs, output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.where(gradient.isfinite(), gradient, 0.0)
