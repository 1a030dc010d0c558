"""Maximum-likelihood fits of mixtures of logistic components to all columns at once, in the coordinate of each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from drl_density.descent import Descent, DescentRule

CACHED_NUMBERS = 2**16
"""Numbers in one temporary value, half a megabyte, which stays in the cache of a CPU core."""
MOST_VALUES, OUTERMOST = 1_000, 50
"""Order statistics that represent a column in its fit, and how many on each side stand for themselves: our own choice."""
LARGEST_SINGLE = 1e18
"""Greatest coordinate whose square is finite in float32."""


@dataclass(frozen=True)
class MixtureFit:
    """Mixture parameters in the coordinate of each column.

    Attributes:
        log_weights: log weights of the components, ``(d, components)``.
        locations: centres of the components, ``(d, components)``.
        scales: scales of the components, ``(d, components)``.
    """

    log_weights: Tensor
    locations: Tensor
    scales: Tensor

    def log_density(self, y: Tensor) -> Tensor:
        """log density of each column at coordinates ``y`` ``(rows, d)``, ``(rows, d)``."""
        return _mixture_log_density(y, self.log_weights, self.locations, self.scales)


def fit_mixture(
    y: Tensor, num_components: int, least_scale: Tensor, *, weights: Tensor | None = None, num_steps: int = 150
) -> MixtureFit:
    """Fits a mixture of logistic components to every column by maximum likelihood.

    Densities are evaluated in float32, in about half of the time, wherever it resolves every coordinate to a hundredth of
    the smallest scale. Without weights, a column of more than 1,000 values is fitted to 1,000 of its order statistics.

    Args:
        y: coordinates ``(rows, d)``, whose quantiles are the first locations.
        num_components: number of components of every column.
        least_scale: lower bound of the scales, ``(d,)``, which prevents spikes on rounded values.
        weights: relative weight of each row, ``(rows,)``; all equal when not given.
        num_steps: number of Adam steps, under a rate that falls from 0.05 as a half cosine.
    """
    levels = (torch.arange(num_components, dtype=y.dtype) + 0.5) / num_components
    # torch.quantile takes at most 2^24 elements; the first 16,384 rows place the start well enough.
    locations = torch.quantile(y[:16384], levels, dim=0).T
    unit, least = y.std(0)[:, None], least_scale[:, None]
    spread = unit / num_components**0.7 * 0.6
    raw_scales = (torch.maximum(spread, 1.5 * least) - least).log().expand_as(locations)
    values, shares = _order_statistics(y) if weights is None else (y, weights[:, None] / weights.sum())
    farthest = y.abs().amax(0)
    is_resolved = (farthest * torch.finfo(torch.float32).eps < 0.01 * least_scale) & (farthest < LARGEST_SINGLE)
    values = values.float() if bool(is_resolved.all()) else values
    shares = shares.to(values)
    parameters = torch.stack([locations, raw_scales, torch.zeros_like(locations)])
    # Adam's steps do not depend on the units of a gradient, those of its epsilon do: this makes them the column's own.
    units = torch.stack([unit, torch.ones_like(unit), torch.ones_like(unit)])
    # Columns in blocks whose temporary values stay in the cache.
    size = max(1, CACHED_NUMBERS // (len(values) * num_components))
    blocks = values.split(size, 1)
    # Columns do not touch each other: one whose coordinate overflows must not stop the others, and loses on its score.
    descent = Descent([parameters], DescentRule(num_steps, 0.05, is_annealed=True, must_be_finite=False))
    for _ in range(num_steps):
        log_weights, spread = parameters[2].log_softmax(-1), parameters[1].exp()
        own = [part.to(values).split(size) for part in (log_weights, parameters[0], least + spread)]
        found = [gradients_of_mean(block, shares, *parts) for block, *parts in zip(blocks, *own, strict=True)]
        by_weight, by_location, by_scale = (torch.cat(parts).to(parameters) for parts in zip(*found, strict=True))
        # The derivative of a log softmax as autograd takes it, to the bit.
        by_weight = torch.ops.aten._log_softmax_backward_data(by_weight, log_weights, -1, by_weight.dtype)
        descent.move([torch.stack([by_location, by_scale * spread, by_weight]).neg_() * units])
    return MixtureFit(parameters[2].log_softmax(-1), parameters[0].clone(), least + parameters[1].exp())


def _order_statistics(y: Tensor) -> tuple[Tensor, Tensor]:
    """At most ``MOST_VALUES`` values of every column ``(m, d)``, and the share of the rows of each ``(m, 1)``.

    The outermost values represent themselves, and every other the equally many ranks around it. So a mean over them differs
    from that over all rows by no more than the function varies between neighbours, in place of a random sample's error.
    """
    if len(y) <= MOST_VALUES:
        return y, torch.full((len(y), 1), 1 / len(y), dtype=y.dtype)
    body = (
        torch.linspace(OUTERMOST, len(y) - OUTERMOST, MOST_VALUES - 2 * OUTERMOST + 1, dtype=torch.float64)
        .round()
        .long()
    )
    first = torch.cat([torch.arange(OUTERMOST), body, torch.arange(len(y) - OUTERMOST + 1, len(y) + 1)])
    middle = (first[:-1] + first[1:] - 1) // 2
    return y.sort(0).values[middle], (first.diff().to(y) / len(y))[:, None]


def gradients_of_mean(
    y: Tensor, shares: Tensor, log_weights: Tensor, locations: Tensor, scales: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the summed mean log density of all columns under their mixtures, in closed form.

    Automatic differentiation gives the same up to rounding, and takes longer.

    Args:
        y: coordinates ``(rows, d)``.
        shares: share of every row, ``(rows, 1)``.
        log_weights: log weights of the components, ``(d, components)``.
        locations: their centres, ``(d, components)``.
        scales: their scales, ``(d, components)``.

    Returns:
        Derivatives by log weights, locations and scales, each ``(d, components)``.
    """
    # Components along dimension 0, where sums over them are fastest.
    scale = scales.T[:, None]
    z = (y - locations.T[:, None]) / scale
    size = z.abs()
    decay = (-size).exp()
    # Densities over the decay of the nearest component: that one is never lost to underflow.
    parts = (log_weights.T.exp()[:, None] / scale) * (size.amin(0) - size).exp_() / (1 + decay).square_()
    held = parts.mul_(shares / parts.sum(0))
    # The derivative of log sigmoid'(z) is -tanh(z / 2).
    pulls = (1 - decay).div_(1 + decay).mul_(held).copysign_(z)
    counts = held.sum(1).T
    return counts, pulls.sum(1).T / scales, (pulls.mul_(z).sum(1).T - counts) / scales


def _mixture_log_density(y: Tensor, log_weights: Tensor, locations: Tensor, scales: Tensor) -> Tensor:
    z = (y[..., None] - locations) / scales
    return (log_weights + functional.logsigmoid(z) + functional.logsigmoid(-z) - scales.log()).logsumexp(-1)
