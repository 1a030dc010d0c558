"""An unnormalised density as a Pyro distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self, cast

import torch
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from drl_density.autograd import methods_outside_inference_mode
from drl_density.devices import normal_draws
from drl_density.distributions.reals import real_transform
from drl_density.distributions.sampling import ChainSampler, SamplerPolicy, StartingPoints
from drl_density.distributions.unnormalized import UnnormalizedDistribution, real_support
from drl_density.mcmc import LogDensity
from drl_density.shapes import as_event_shape, per_row

MOST_REDRAWS = 200
"""How often starting points at which the density is zero are drawn again."""


@methods_outside_inference_mode
class EnergyDistribution(UnnormalizedDistribution):
    r"""An unnormalised density :math:`p(x) = \exp(F(x)) / Z` with an unknown :math:`Z`.

    Args:
        log_density: energy F, maps rows ``(n, *event)`` to ``(n,)``.
        support: constraint of the event; all reals by default.
        sampler: policy of ``sample``; adjusted chains by default.
        initial: draws starting points of chains, ``initial(num_rows, generator)`` with shape ``(num_rows, *event)``; N(0, I)
            mapped onto the support by default, drawn again where the density is zero.
        like: tensor whose dtype and device starting points take.
        is_integrable: whether exp(F) is known to have a finite integral, which combinators require.
        largest_power: supremum of the powers w >= 1 for which exp(w F) has one too; infinity where exp(F) is bounded.
        validate_args: whether values are checked against the support; Pyro's own choice when not given.

    >>> target = EnergyDistribution.from_log_density(lambda x: -0.5 * (x**2).sum(-1), event_shape=(2,))
    >>> target.log_prob(torch.ones(3, 2)).tolist()
    [-1.0, -1.0, -1.0]
    >>> target.normalize(math.log(2 * math.pi)).is_normalized
    True
    """

    def __init__(
        self,
        log_density: LogDensity,
        event_shape: Sequence[int],
        *,
        support: constraints.Constraint | None = None,
        sampler: SamplerPolicy | None = None,
        initial: StartingPoints | None = None,
        like: Tensor | None = None,
        is_integrable: bool = False,
        largest_power: float = math.inf,
        validate_args: bool | None = None,
    ) -> None:
        shape = as_event_shape(event_shape)
        self.log_density = log_density
        self.is_integrable, self.largest_power = is_integrable, largest_power
        self.initial = initial
        self._like = torch.empty(0) if like is None else like.new_empty(0)
        self.sampler = ChainSampler() if sampler is None else sampler
        self._event_support = real_support(shape) if support is None else support
        TorchDistribution.__init__(self, torch.Size(), shape, validate_args=validate_args)

    @classmethod
    def from_log_density(
        cls, function: LogDensity, event_shape: Sequence[int], *, support: constraints.Constraint | None = None
    ) -> Self:
        """Wrap any function that maps points ``(*, *event)`` to ``(*,)``.

        Args:
            function: unnormalised log density of points, which accepts any leading shape.
            support: constraint of the event; all reals by default.
        """
        return cls(function, event_shape, support=support)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        """A new object with another batch shape that shares the energy."""
        new = cast("Self", self._get_checked_instance(EnergyDistribution, _instance))  # Pyro leaves the type open
        new._take_settings(self, torch.Size(batch_shape))
        new.initial, new._like = self.initial, self._like
        new.is_integrable, new.largest_power = self.is_integrable, self.largest_power
        return new

    @property
    def like(self) -> Tensor:
        """Empty tensor whose dtype and device starting points take."""
        return self._like

    def _log_density(self, x: Tensor) -> Tensor:
        values = self._rows_log_density(x)
        if not self.batch_shape:
            return values
        return values.expand(torch.broadcast_shapes(values.shape, self.batch_shape))

    def _initial(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        if self.initial is not None:
            return self.initial(shape.numel(), generator)
        transform: Any = real_transform(self.support)
        inner = torch.Size(transform.inverse_shape(shape + self.event_shape))

        def fresh() -> Tensor:
            return transform(normal_draws(inner, self._like, generator)).reshape(-1, *self.event_shape)

        start = fresh()
        for _ in range(MOST_REDRAWS):
            is_alive = self._rows_log_density(start).isfinite()
            if bool(is_alive.all()):
                break
            start = torch.where(per_row(is_alive, start), start, fresh())
        return start
