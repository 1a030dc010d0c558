"""Starts of climbs: those whose end is known from their gradient alone, and those of a sweep that stand out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from drl_density.devices import normal_draws, uniform_draws
from drl_density.mcmc import LogDensity, value_and_gradient
from drl_density.partition_function.mode_search.shape import Shape

MOST_ROWS = 8192
"""Largest number of rows evaluated at once."""
NEAR, NEAR_SHARE = 0.5, 0.01
"""Distance from the center of a mode, in its widths, at which a Newton step has to land, and the share of the start's own
distance that is added to it. The steps of a Gaussian land at 0."""
SWEPT_REACH, SWEPT_FURTHEST, FAR_SHARE = 3.0, 30.0, 0.25
"""Distance out to which a sweep looks, in units of the typical distance of a Gaussian's draws from its center; distance out
to which a share of its points looks, and that share. Far away a narrower mode attracts points in proportion to its distance,
so that distances are spread evenly in their logarithm there."""
NUM_RINGS, KEPT_OF_RING = 8, 32
"""Rings by distance within which points of a sweep are compared, and the points of each that are kept."""
NUM_COUNTED = 64
"""Rows of the evaluation by which work is counted."""


@dataclass(frozen=True)
class Screen:
    """Starts, with what one evaluation shows of them.

    Attributes:
        position: starts ``(n, d)``.
        width: length of the first step of a climb from each ``(n,)``.
        value: log density ``(n,)``; minus infinity where it or its gradient is not finite.
        owner: index of the shape that each start belongs to; -1 for none ``(n,)``.
    """

    position: Tensor
    width: Tensor
    value: Tensor
    owner: Tensor

    @property
    def is_open(self) -> Tensor:
        """Whether only a climb can show where a start leads ``(n,)``."""
        return (self.owner < 0) & self.value.isfinite()

    def until(self, most_open: int) -> Screen:
        """The first starts, of which at most ``most_open`` are open."""
        kept = self.is_open.cumsum(0) <= most_open
        return Screen(self.position[kept], self.width[kept], self.value[kept], self.owner[kept])


def screen(log_density: LogDensity, starts: Tensor, widths: Tensor, shapes: Sequence[Shape]) -> Screen:
    """Evaluate starts once, and assign those whose gradient points to the center of a known mode.

    The end of a Newton step with the covariance of a mode is its center where the target is that mode's Gaussian. Another
    mode that dominates the target there sends the step elsewhere, however far away it is.

    Args:
        log_density: maps rows ``(n, d)`` to ``(n,)``.
        starts: starts ``(n, d)``.
        widths: length of the first step of a climb from each ``(n,)``.
        shapes: known modes.

    >>> from drl_density.partition_function.mode_search.shape import measure_shape
    >>> def pair(x):
    ...     return torch.logaddexp(-0.5 * (x[:, 0] - 5) ** 2, -0.5 * (x[:, 0] + 5) ** 2)
    >>> known = measure_shape(pair, torch.tensor([5.0]))
    >>> screen(pair, torch.tensor([[9.0], [2.0], [-1.0]]).double(), torch.ones(3), [known]).owner.tolist()
    [0, 0, -1]
    """
    values, gradients = [], []
    for rows in starts.split(MOST_ROWS):
        value, gradient = value_and_gradient(log_density, rows)
        values.append(value.double())
        gradients.append(gradient.double())
    value, gradient = torch.cat(values), torch.cat(gradients)
    is_lost = ~value.isfinite() | ~gradient.isfinite().all(1)
    value = value.masked_fill(is_lost, -torch.inf)
    owner, best = torch.full((len(starts),), -1), torch.ones(len(starts)).to(value)
    for index, shape in enumerate(shapes):
        whitened = shape.whiten(starts)
        landing = (whitened + gradient @ shape.factor).norm(dim=1)
        ratio = landing / (NEAR + NEAR_SHARE * whitened.norm(dim=1))
        owner = torch.where((ratio < best) & ~is_lost, index, owner)
        best = torch.minimum(best, ratio)
    return Screen(starts, widths.to(value), value, owner)


def sweep(
    log_density: LogDensity,
    shapes: Sequence[Shape],
    expected: LogDensity,
    number: int,
    *,
    generator: torch.Generator | None,
) -> Tensor:
    """Points around known modes at which a target exceeds by most what is known of it, at most 256 ``(n, d)``.

    A narrow mode pulls only at points close to it, so that very many have to be tried. They are evaluated without a
    gradient. Their directions are random. The distances of three in four are spread evenly up to :math:`3 \\sqrt d` widths
    of a mode, and the others lie between that and ten times as far. Points are compared with others at like distances, as
    any tail exceeds that of a Gaussian by more and more. The best of every ring come first.

    Args:
        log_density: maps rows ``(n, d)`` to ``(n,)``.
        shapes: known modes; each gets the same number of points.
        expected: log density of what is known.
        number: points in all, rounded up to eight for each mode.

    >>> wide = Shape(torch.zeros(2).double(), 0.0, torch.eye(2).double(), torch.eye(2).double())
    >>> def pair(x):
    ...     return torch.logaddexp(wide.log_density(x), -50 * (x - 3).square().sum(-1))
    >>> points = sweep(pair, [wide], wide.log_density, 4096, generator=torch.Generator().manual_seed(0))
    >>> bool(((points[:8] - 3).norm(dim=1) < 0.5).any())
    True
    """
    dim = len(shapes[0].center)
    rows, leads = torch.zeros(NUM_RINGS, 0, dim).to(shapes[0].center), torch.zeros(NUM_RINGS, 0).double()
    for shape in shapes:
        left = math.ceil(number / len(shapes))
        while left > 0:
            count = math.ceil(min(left, MOST_ROWS) / NUM_RINGS)
            left -= NUM_RINGS * count
            x = _around(shape, NUM_RINGS * count, generator)
            with torch.no_grad():
                lead = log_density(x).double() - expected(x).double()
            lead = torch.where(lead.isnan(), -torch.inf, lead)  # not-a-number counts as a density of zero
            rows = torch.cat([rows, x.unflatten(0, (NUM_RINGS, count))], 1)
            leads = torch.cat([leads, lead.unflatten(0, (NUM_RINGS, count))], 1)
            best = leads.topk(min(KEPT_OF_RING, leads.shape[1]), dim=1)
            leads, rows = best.values, rows.gather(1, best.indices[..., None].expand(-1, -1, dim))
    return rows.transpose(0, 1).flatten(0, 1)


def _around(shape: Shape, number: int, generator: torch.Generator | None) -> Tensor:
    """Points around a mode with random directions, in the order of their distances ``(number, d)``."""
    dim = len(shape.center)
    direction = normal_draws((number, dim), shape.center, generator)
    place = (torch.arange(number)[:, None].to(direction) + uniform_draws((number, 1), shape.center, generator)) / number
    near, far = place / (1 - FAR_SHARE), (place - (1 - FAR_SHARE)) / FAR_SHARE
    further = SWEPT_REACH * (SWEPT_FURTHEST / SWEPT_REACH) ** far
    distance = math.sqrt(dim) * torch.where(far < 0, SWEPT_REACH * near, further)
    return shape.color(direction / direction.norm(dim=1, keepdim=True) * distance)


def work_per_row(log_density: LogDensity, rows: Tensor) -> float:
    """Numbers that torch computes for one row of many: a measure of cost that is the same on every machine.

    >>> round(work_per_row(lambda x: -x.square().sum(-1), torch.zeros(64, 3)))  # the row, 3 squares, their sum, and minus it
    8
    """
    with torch.no_grad(), _Work() as work:
        log_density(rows[:NUM_COUNTED])
    return work.count / len(rows[:NUM_COUNTED])


class _Work(TorchDispatchMode):
    """Counts the numbers in the results of all operations."""

    count = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.count += sum(part.numel() for part in tree_leaves(out) if isinstance(part, Tensor))
        return out
