"""What a target and a base of log Z have to offer."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import constraints


class Target(Protocol):
    """A distribution whose log Z is wanted; ``unnormalized_log_prob`` is used where it has one, else ``log_prob``."""

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of independent copies, which has to be empty."""
        ...

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one point."""
        ...

    def log_prob(self, value: Any, /) -> Tensor:
        """Log density of points, normalised or not."""
        ...


class WideBase(Protocol):
    """A normalised distribution at least as wide as a target, such as any of Pyro's."""

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one point."""
        ...

    def log_prob(self, value: Any, /) -> Tensor:
        """Normalised log density of points."""
        ...

    def sample(self, sample_shape: Any = ..., /) -> Tensor:
        """Independent draws ``sample_shape + event_shape``."""
        ...


@runtime_checkable
class HasSupport(Protocol):
    """A distribution that states where its density is positive."""

    @property
    def support(self) -> Any:
        """Constraint of one point."""
        ...


def support_of(target: Target) -> Any:
    """The support of a distribution, that of its components for a mixture, ``None`` where it states none.

    >>> import pyro.distributions as dist
    >>> support_of(dist.Exponential(torch.ones(())))
    GreaterThanEq(lower_bound=0.0)
    """
    support = target.support if isinstance(target, HasSupport) else None
    return support.base_constraint if isinstance(support, constraints.MixtureSameFamilyConstraint) else support


def require_one_target(target: Target) -> None:
    """Refuse what is no distribution, and a distribution with batch shape.

    Raises:
        TypeError: a function or another object without the shapes of a distribution.
        ValueError: a batch shape.
    """
    if not (hasattr(target, "batch_shape") and hasattr(target, "event_shape")):
        raise TypeError(
            f"expected a distribution with unnormalized_log_prob or log_prob, got {type(target).__name__}: wrap a log "
            "density of your own with EnergyDistribution.from_log_density(log_density, event_shape=(num_features,))"
        )
    if len(target.batch_shape):
        raise ValueError(
            f"expected a target without batch shape, got {tuple(target.batch_shape)}: take one element of it, or move "
            "dimensions of the batch into the event by .to_event(n)"
        )
