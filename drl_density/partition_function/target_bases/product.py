"""Products of one-dimensional mixtures as bases."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from drl_density.partition_function.target_bases.scale_base import LOG_TWO_PI


class ProductBase:
    """Independent coordinates, each a mixture of normals.

    Args:
        weights: share of each component in each coordinate, ``(K, d)``, columns adding to 1. The components come first
            because reductions over a short last axis are slow.
        means: means of the components, ``(K, d)``.
        spreads: standard deviations of the components, ``(K, d)``.
    """

    def __init__(self, weights: Tensor, means: Tensor, spreads: Tensor) -> None:
        self.weights, self.means, self.spreads = weights, means, spreads
        self.event_shape = torch.Size(weights.shape[1:])
        self._heights = weights.log() - spreads.log() - 0.5 * LOG_TWO_PI

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        parts = zip(self._heights, self.means, self.spreads, strict=True)
        terms = [height - 0.5 * ((x - mean) / spread).square() for height, mean, spread in parts]
        return functools.reduce(torch.logaddexp, terms).sum(-1)

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``(num_rows, d)``."""
        chosen = torch.multinomial(self.weights.T, num_rows, replacement=True, generator=generator).T
        noise = torch.randn(chosen.shape, generator=generator, dtype=self.means.dtype, device=self.means.device)
        return self.means.gather(0, chosen) + self.spreads.gather(0, chosen) * noise

    def defended(self, share: float, factor: float) -> ProductBase:
        """The same product with one more component in every coordinate: a normal ``factor`` times as wide as the whole.

        Args:
            share: share of the new component.
            factor: its width in standard deviations of the coordinate.
        """
        mean = (self.weights * self.means).sum(0)
        variance = (self.weights * (self.spreads.square() + (self.means - mean).square())).sum(0)
        return ProductBase(
            torch.cat([(1 - share) * self.weights, torch.full_like(mean, share)[None]]),
            torch.cat([self.means, mean[None]]),
            torch.cat([self.spreads, factor * variance.sqrt()[None]]),
        )
