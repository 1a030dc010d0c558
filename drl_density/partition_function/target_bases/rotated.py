"""A product of one-dimensional mixtures in axes of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from drl_density.partition_function.target_bases.product import ProductBase


class RotatedBase:
    """A product in the coordinates ``(x - center) @ whiten``.

    Args:
        product: distribution of the new coordinates, ``(d,)``.
        center: origin of the new coordinates, ``(d,)``.
        whiten: invertible matrix from x to the new coordinates, ``(d, d)``.
        like: tensor of the dtype and device to compute in.
    """

    def __init__(self, product: ProductBase, center: Tensor, whiten: Tensor, like: Tensor) -> None:
        self.product = product
        self.event_shape = product.event_shape
        self._center, self._whiten = center.to(like), whiten.to(like)
        self._back = torch.linalg.inv(whiten.double()).to(like)
        self._log_volume = float(torch.linalg.slogdet(whiten.double())[1])

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        return self.product.log_prob((x - self._center) @ self._whiten) + self._log_volume

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``(num_rows, d)``."""
        return self._center + self.product.draw(num_rows, generator) @ self._back
