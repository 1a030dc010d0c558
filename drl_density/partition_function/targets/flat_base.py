"""Bases over the flat coordinates of a target."""

from __future__ import annotations

import torch
from torch import Tensor

from drl_density.distributions.experts import log_density_of
from drl_density.errors import NumericalError
from drl_density.mcmc import LogDensity
from drl_density.partition_function.annealing.path import base_draws
from drl_density.partition_function.target_bases.contract import GivenBase
from drl_density.partition_function.targets.contract import WideBase
from drl_density.partition_function.targets.coordinates import Coordinates
from drl_density.partition_function.targets.flat_density import FlatDensity

MOST_BATCHES, LEAST_BATCH = 200, 256
"""Batches of draws in search of points with density, and the least size of each."""


def flat_base(base: WideBase, coordinates: Coordinates) -> GivenBase:
    """A base over flat coordinates ``(n, d)`` in place of its own points, with the log Jacobian of the change.

    Its log density is minus infinity outside its support, where a distribution such as ``Uniform`` raises an error. Draws
    that rounding puts on the edge of the target's support, where coordinates are infinite, are replaced by others.

    >>> import pyro.distributions as dist
    >>> box = dist.Uniform(-torch.ones(2), torch.ones(2)).to_event(1)
    >>> flat = flat_base(box, Coordinates.onto(None, torch.Size((2,))))
    >>> flat.log_prob(torch.tensor([[0.0, 0.0], [9.0, 0.0]]).double()).exp()
    tensor([0.2500, 0.0000], dtype=torch.float64)
    """
    density = FlatDensity(_in_double(log_density_of(base, is_normalized=True)), coordinates)
    draw_own = base_draws(base)

    def draw(count: int, generator: torch.Generator | None) -> Tensor:
        rows = coordinates.to_flat(draw_own(count, generator))
        is_good = rows.isfinite().all(1)
        if bool(is_good.all()):
            return rows
        if not bool(is_good.any()):
            raise NumericalError(
                f"none of {count} draws of the base lies inside the target's support: give a base over that support"
            )
        good = is_good.nonzero().flatten()
        return rows[torch.where(is_good, torch.arange(count), good[torch.arange(count) % len(good)])]

    return GivenBase(density, draw, torch.Size((coordinates.num_features,)))


def alive_base(base: GivenBase, log_density: LogDensity) -> GivenBase:
    """The same base, whose draws are those at which the target has density, for pilots that are thrown away.

    Its log density is left as it is, so that it is too small by the share of such draws.

    Args:
        base: base over flat rows.
        log_density: log density of the target, minus infinity where it has none.
    """

    def alive(count: int, generator: torch.Generator | None) -> Tensor:
        rows = base.draw(count, generator)
        with torch.no_grad():
            return rows[log_density(rows) > -torch.inf]

    def draw(count: int, generator: torch.Generator | None) -> Tensor:
        found = alive(count, generator)
        for _ in range(MOST_BATCHES):
            if len(found) >= count:
                return found[:count]
            found = torch.cat([found, alive(max(count, LEAST_BATCH), generator)])
        if not len(found):
            raise NumericalError(
                f"the target has no density at any of {MOST_BATCHES * max(count, LEAST_BATCH)} draws of the base: give a "
                "base whose mass lies where the target has some"
            )
        return found[torch.arange(count) % len(found)]

    return GivenBase(base.log_prob, draw, base.event_shape)


def _in_double(log_density: LogDensity) -> LogDensity:
    return lambda x: log_density(x).to("cpu", torch.float64)
