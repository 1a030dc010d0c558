"""Unnormalised targets without noise levels, as log densities of rows."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from drl_density.distributions.experts import log_density_of
from drl_density.distributions.supports import is_whole_space
from drl_density.mcmc import LogDensity


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


@runtime_checkable
class _HasSupport(Protocol):
    @property
    def support(self) -> Any: ...


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


def log_density_over_reals(target: Target) -> LogDensity:
    """The unnormalised log density of a distribution without batch shape, over all reals.

    Args:
        target: distribution with ``unnormalized_log_prob`` or ``log_prob``.

    Raises:
        ValueError: a batch shape, or a support that is not all reals.

    >>> import pyro.distributions as dist
    >>> log_density_over_reals(dist.Normal(torch.zeros(2), 1.0).to_event(1))(torch.zeros(3, 2)).shape
    torch.Size([3])
    """
    if len(target.batch_shape):
        raise ValueError(
            f"expected a target without batch shape, got {tuple(target.batch_shape)}: take one element of it"
        )
    support = target.support if isinstance(target, _HasSupport) else None
    if not _is_real(support):
        raise ValueError(
            f"expected a target over all reals, got support {support}: transform it to the reals first, with its Jacobian"
        )
    return log_density_of(target)


def _is_real(support: Any) -> bool:
    """Whether a support is all reals; one that is not stated is taken to be."""
    return support is None or is_whole_space(support)
