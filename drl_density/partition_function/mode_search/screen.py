"""Starts of climbs whose end is known from their gradient alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.mcmc import LogDensity, value_and_gradient
from drl_density.partition_function.mode_search.shape import Shape

MOST_ROWS = 8192
"""Largest number of rows evaluated at once."""
NEAR, NEAR_SHARE = 0.5, 0.01
"""Distance from the center of a mode, in its widths, at which a Newton step has to land, and the share of the start's own
distance that is added to it. The steps of a Gaussian land at 0."""


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
