"""Units in which moments of columns neither overflow nor underflow."""

from __future__ import annotations

import torch
from torch import Tensor


def binary_units(x: Tensor) -> Tensor:
    """The largest power of two within the magnitudes of every column of ``x`` ``(rows, d)``, ``(d,)``; 1 for zeros.

    Division by it is exact, so figures of columns at 1e300 or 1e-300 can be computed near 1 and scaled back.

    >>> binary_units(torch.tensor([[3.0, 0.0], [-5.0, 0.0]]))
    tensor([4., 1.])
    """
    largest = torch.where(x.isnan(), 0.0, x).abs().amax(0)
    exponent = torch.frexp(largest).exponent - 1
    return torch.where(largest > 0, torch.ldexp(torch.ones_like(largest), exponent), 1.0)
