"""Uniform dequantisation of rounded and discrete columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.devices import uniform_draws
from drl_density.records.brief import brief


@dataclass(frozen=True, eq=False)
class Dequantization:
    r"""Adds Uniform(-w/2, w/2) to each column of rounding width w; columns of width 0 stay as they are.

    For a discrete column, the mean over the noise of the log density plus log w is a lower bound of the log
    probability of the value, by Jensen's inequality. Source: Theis, van den Oord and Bethge 2016.

    Attributes:
        widths: rounding width w of every column, ``(d,)``, float64.

    >>> noisy = Dequantization(torch.tensor([1.0, 0.0]))(torch.zeros(3, 2))
    >>> bool((noisy[:, 0].abs() <= 0.5).all()), noisy[:, 1].tolist()
    (True, [0.0, 0.0, 0.0])
    """

    widths: Tensor

    __repr__ = brief

    def __call__(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """The rows ``x`` ``(rows, d)`` with fresh noise; whole numbers become float64."""
        x = x if x.is_floating_point() else x.double()
        uniform = uniform_draws(x.shape, x, generator)
        widths = self.widths.to(x)
        noise = (uniform - 0.5) * widths
        noisy = x + noise
        # Draws of exactly 0, and sums that rounding puts on an edge of the cell, belong to no cell: half the noise does.
        on_edge = (noisy - x).abs() >= 0.5 * widths
        return torch.where(on_edge & (widths > 0), x + 0.5 * noise, noisy)

    @property
    def log_volume(self) -> Tensor:
        """Sum of log w over the columns with noise, which turns a log density into a bound of a log probability."""
        return self.widths[self.widths > 0].log().sum()
