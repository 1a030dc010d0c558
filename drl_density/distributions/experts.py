"""What combinators require of the densities that they combine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from drl_density.distributions.energy import EnergyDistribution
from drl_density.distributions.supports import ZeroOutside, is_whole_space
from drl_density.mcmc import LogDensity
from drl_density.records.fields import is_number


class PointDensity(Protocol):
    """A log density of points of one shape."""

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one point."""
        ...

    def log_prob(self, value: Tensor, /) -> Tensor:
        """Log density, normalised or not."""
        ...


class Factor(PointDensity, Protocol):
    """A density that can be a factor of a product."""

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of independent copies."""
        ...


class Expert(Factor, Protocol):
    """A density with a support and draws: any of Pyro's distributions, a fitted density's, or another energy."""

    @property
    def support(self) -> Any:
        """Where the density is positive."""
        ...

    def sample(self, sample_shape: Any = ..., /) -> Tensor:
        """Independent draws ``sample_shape + event_shape``."""
        ...


@runtime_checkable
class _Unnormalized(Protocol):
    def unnormalized_log_prob(self, value: Tensor, /) -> Tensor: ...


@runtime_checkable
class _HasSupport(Protocol):
    @property
    def support(self) -> Any: ...


@runtime_checkable
class _StatesNormalization(Protocol):
    is_normalized: bool


@runtime_checkable
class _HasLargestPower(Protocol):
    largest_power: float


def integrable(expert: Factor) -> bool:
    """Whether a density is known to have a finite integral: normalised distributions, and energies declared so.

    >>> integrable(EnergyDistribution.from_log_density(lambda x: x.sum(-1), event_shape=(2,)))
    False
    """
    return expert.is_integrable if isinstance(expert, EnergyDistribution) else True


def largest_power(expert: Factor) -> float:
    """Supremum of the powers of a density known to have a finite integral; infinity for what is bounded."""
    return expert.largest_power if isinstance(expert, _HasLargestPower) else math.inf


def normalized(expert: Factor) -> bool:
    """Whether ``log_prob`` is normalised; a distribution that does not state it is taken to be."""
    return expert.is_normalized if isinstance(expert, _StatesNormalization) else True


def log_density_of(expert: PointDensity, *, is_normalized: bool = False) -> LogDensity:
    """The log density with the value minus infinity, rather than an error, outside the support.

    Args:
        expert: a density; one without a support is taken to be defined everywhere.
        is_normalized: takes ``log_prob`` rather than the unnormalised log density, where there is one.
    """
    log_density = expert.log_prob
    if isinstance(expert, _Unnormalized) and not is_normalized:
        log_density = expert.unnormalized_log_prob
    if not isinstance(expert, _HasSupport) or is_whole_space(expert.support):
        return log_density
    return ZeroOutside(log_density, expert.support, len(expert.event_shape))


def check_experts(experts: Sequence[Factor], weights: Sequence[float]) -> None:
    """Check that densities share one event shape, have no batch shape, and as many weights.

    Raises:
        ValueError: no densities, other numbers of weights, weights that are no finite numbers, or shapes that differ.
    """
    if not experts or len(experts) != len(weights):
        raise ValueError(
            f"expected as many weights as distributions, at least one, got {len(weights)} and {len(experts)}"
        )
    if not all(map(is_number, weights)):
        raise ValueError(f"expected weights that are finite numbers, got {list(weights)}")
    shapes = {tuple(expert.event_shape) for expert in experts}
    if len(shapes) > 1 or any(len(expert.batch_shape) for expert in experts):
        raise ValueError(f"expected one event shape and no batch shape, got event shapes {sorted(shapes)}")
