"""Mixtures of normalised densities of any kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from drl_density.distributions.experts import Expert, check_experts, largest_power, log_density_of, normalized
from drl_density.distributions.fitted_support import FittedSupport, union_of
from drl_density.distributions.sampling import SampleShape, as_shape
from drl_density.distributions.supports import is_same_support
from drl_density.distributions.unnormalized import real_support


class Mixture(dist.TorchDistribution):
    r"""A mixture :math:`\sum_k \pi_k p_k(x)` of normalised components that need not be of one kind.

    Draws are exact where those of the components are.

    Args:
        components: normalised distributions of one event shape, without batch shape.
        weights: positive weight of each component; they are divided by their sum.

    Raises:
        ValueError: components that are not normalised, shapes that differ, or weights that do not fit.

    >>> Mixture([dist.Normal(0.0, 1.0), dist.Normal(3.0, 1.0)], [1.0, 3.0]).log_prob(torch.tensor(3.0)) > -1.3
    tensor(True)
    """

    has_rsample = False

    def __init__(self, components: Sequence[Expert], weights: Sequence[float]) -> None:
        self.components = tuple(components)
        check_experts(self.components, weights)
        if not all(weight > 0 for weight in weights):
            raise ValueError(f"mixture weights must be positive, got {list(weights)}")
        open_ones = [index for index, part in enumerate(self.components) if not normalized(part)]
        if open_ones:
            raise ValueError(
                f"components {open_ones} are not normalised: their weights would mean nothing; normalize() them"
            )
        total = math.fsum(weights)
        self.log_weights = torch.tensor([math.log(weight / total) for weight in weights])
        super().__init__(torch.Size(), self.components[0].event_shape, validate_args=False)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """No parameters to check."""
        return {}

    @property
    def largest_power(self) -> float:
        """Smallest ``largest_power`` of the components, see :class:`~drl_density.EnergyDistribution`."""
        return min(largest_power(part) for part in self.components)

    @property
    def support(self) -> Any:
        """Support of the components, or around theirs where they differ, with the density 0 outside all of them."""
        supports = [part.support for part in self.components]
        if all(is_same_support(supports[0], other) for other in supports[1:]):
            return supports[0]
        fitted = [support for support in supports if isinstance(support, FittedSupport)]
        around = union_of(fitted) if len(fitted) == len(supports) else None
        return around or real_support(self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Normalised log density, ``sample_shape``."""
        parts = [log_density_of(part, is_normalized=True)(value) for part in self.components]
        return (torch.stack(parts, -1) + self.log_weights.to(parts[0])).logsumexp(-1)

    def class_log_prob(self, value: Tensor) -> Tensor:
        """Log probability of each component given x, ``sample_shape + (components,)``.

        With one fitted density for each class this is a classifier.

        Args:
            value: points ``sample_shape + event_shape``.
        """
        parts = torch.stack([log_density_of(part, is_normalized=True)(value) for part in self.components], -1)
        return (parts + self.log_weights.to(parts)).log_softmax(-1)

    def sample(self, sample_shape: SampleShape = ()) -> Tensor:
        """Draw a component by its weight, then a point from it.

        Args:
            sample_shape: number of draws, or shape of them.
        """
        shape = as_shape(sample_shape)
        if not shape.numel():
            return self.components[0].sample((0,)).reshape(shape + self.event_shape)
        chosen = torch.multinomial(self.log_weights.exp(), shape.numel(), replacement=True)
        rows: list[Tensor] = []
        places: list[Tensor] = []
        for index, part in enumerate(self.components):
            place = (chosen == index).nonzero().flatten()
            if len(place):
                own = part.sample((len(place),))
                rows.append(own.to(rows[0]) if rows else own)
                places.append(place)
        return torch.cat(rows)[torch.cat(places).argsort()].reshape(shape + self.event_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> dist.TorchDistribution:
        """Independent copies over a batch shape."""
        return dist.ExpandedDistribution(self, torch.Size(batch_shape))
