"""Affine maps with positive slopes between two bounds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST_SLOPE, MOST_SLOPE = 0.1, 1000.0
"""Bounds of the slopes. Gaussianised columns are seldom wider than 1 given others, and many are a thousand times narrower.
The bound below keeps the tails of a flow quadratic."""


def affine(x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """Map every number x to exp(s) x + b with s and b of its own; zeros in ``raw`` give the identity.

    Args:
        x: numbers of any shape ``(*shape)``.
        raw: unconstrained log slopes and shifts, ``(2, *shape)``. A log slope r counts as L tanh(r / L), where L is the
            logarithm of the bound on its side of 0.

    Returns:
        The values, and the logarithms s of the slopes, both ``(*shape)``.

    Source: Papamakarios et al. 2017, "Masked autoregressive flow" (arXiv 1705.07057), section 3.1.

    >>> affine(torch.tensor([2.0]), torch.tensor([[0.0], [1.0]]))
    (tensor([3.]), tensor([0.]))
    """
    log_slope = _log_slope(raw[0])
    return torch.addcmul(raw[1], x, log_slope.exp()), log_slope


def inverse_affine(y: Tensor, raw: Tensor) -> Tensor:
    """Find the numbers that :func:`affine` maps to ``y``, in the dtype of ``y``; arguments as there.

    >>> x, raw = torch.randn(4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    >>> bool(torch.allclose(inverse_affine(affine(x, raw)[0], raw), x))
    True
    """
    return (y - raw[1]) * (-_log_slope(raw[0]).to(y)).exp()


def _log_slope(raw: Tensor) -> Tensor:
    """Bounded log slopes: the identity near 0, with a continuous derivative there."""
    most, least = raw.new_tensor(math.log(MOST_SLOPE)), raw.new_tensor(-math.log(LEAST_SLOPE))
    bound = torch.where(raw < 0, least, most)
    return bound * (raw / bound).tanh()
