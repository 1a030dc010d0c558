"""Flat coordinates over all reals for points of any support."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drl_density.distributions.reals import log_volume, real_transform
from drl_density.distributions.supports import has_own_map, is_inside
from drl_density.records.brief import brief

LARGEST_GAP, RELATIVE_GAP = 0.1, 1e-6
"""Difference of real numbers from themselves after the way to a support and back, up to which the point is held."""


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Flat coordinates u of points x = T(center + unit * u), in float64.

    Attributes:
        event_shape: shape of one point x.
        real_shape: shape of the reals that T maps onto one point.
        support: constraint of one point, ``None`` for all reals.
        transform: bijection T from the reals onto the support, ``None`` for all reals.
        center: real numbers at u = 0, ``(d,)``.
        unit: length of one unit of u, ``(d,)``.

    >>> from torch.distributions import constraints
    >>> coordinates = Coordinates.onto(constraints.simplex, torch.Size((3,)))
    >>> coordinates.num_features, coordinates.to_event(torch.zeros(4, 2).double()).shape
    (2, torch.Size([4, 3]))
    """

    event_shape: torch.Size
    real_shape: torch.Size
    support: Any
    transform: Any
    center: Tensor
    unit: Tensor

    __repr__ = brief

    @classmethod
    def onto(cls, support: Any, event_shape: torch.Size) -> Coordinates:
        """Coordinates of the points of a support, in units of the reals themselves.

        Args:
            support: constraint of one point; ``None`` for all reals.
            event_shape: shape of one point.

        Raises:
            ValueError: a discrete support, or one that no bijection from the reals is known for.
        """
        transform, shape = None, event_shape
        if support is None or not has_own_map(support):
            support = None
        else:
            transform = real_transform(support)
            shape = torch.Size(transform.inverse_shape(event_shape))
        zeros = torch.zeros(shape.numel(), dtype=torch.float64)
        return cls(event_shape, shape, support, transform, zeros, torch.ones_like(zeros))

    def rescaled(self, center: Tensor, unit: Tensor) -> Coordinates:
        """The same points with another center and other units, both given in the coordinates of this object."""
        return dataclasses.replace(self, center=self.center + self.unit * center, unit=self.unit * unit)

    @property
    def num_features(self) -> int:
        """Number d of coordinates."""
        return len(self.center)

    def to_event(self, u: Tensor) -> Tensor:
        """Points ``(n, *event)`` of coordinates ``(n, d)``."""
        return self._point(self._reals(u))

    def to_event_and_volume(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Points ``(n, *event)`` of coordinates ``(n, d)``, and the log Jacobian of the map at each, ``(n,)``."""
        reals = self._reals(u)
        x, scale = self._point(reals), self.unit.log().sum()
        if self.transform is None:
            return x, scale.expand(len(u))
        return x, log_volume(self.transform, reals.reshape(-1, *self.real_shape), x, 1) + scale

    def to_flat(self, x: Tensor) -> Tensor:
        """Coordinates ``(n, d)`` of points ``(n, *event)``, not finite for a point outside the support."""
        x = x.to("cpu", torch.float64)
        if self.transform is None:
            return (x.reshape(len(x), self.num_features) - self.center) / self.unit
        is_inside_support = is_inside(self.support, x, len(self.event_shape))
        reals = self.transform.inv(x).reshape(len(x), self.num_features)
        return torch.where(is_inside_support[:, None], (reals - self.center) / self.unit, torch.nan)

    def hold(self, u: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Whether numbers of a type hold the points of coordinates ``(n, d)``, so that the way back returns these, ``(n,)``.

        In float64 an exponential overflows at 709, and a probability near 1 is rounded to 1 from 37 on. Beyond, points say
        nothing about the density at their coordinates.

        >>> from torch.distributions import constraints
        >>> Coordinates.onto(constraints.positive, torch.Size((1,))).hold(torch.tensor([[700.0], [800.0]]).double())
        tensor([ True, False])
        """
        if self.transform is None:
            return torch.ones(len(u), dtype=torch.bool)
        with torch.no_grad():
            reals = self._reals(u)
            x = self._point(reals).to(dtype).double()
            gap = (self.transform.inv(x).reshape(reals.shape) - reals).abs()
        is_near = (gap <= LARGEST_GAP + RELATIVE_GAP * reals.abs()).all(1)
        return is_near & x.flatten(1).isfinite().all(1)

    def _reals(self, u: Tensor) -> Tensor:
        return self.center + self.unit * u

    def _point(self, reals: Tensor) -> Tensor:
        shaped = reals.reshape(-1, *self.real_shape)
        return shaped if self.transform is None else self.transform(shaped)
