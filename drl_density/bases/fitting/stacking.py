"""Stacking: scores of rows by the densities that leave them out, and weights that maximise the likelihood of these."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def stacking_weights(log_densities: Tensor, *, num_iterations: int = 1000, tolerance: float = 1e-7) -> Tensor:
    r"""Weights w of G densities that maximise :math:`\sum_i \log \sum_g w_g\, p_g(x_i)` over held-out rows.

    The problem is concave; each step of expectation maximisation raises the likelihood.

    Args:
        log_densities: log densities ``(G, n)`` of rows that no density was fitted to, in nats. A density may give -inf to
            some rows, but every row needs one that does not.
        num_iterations: limit of the EM iterations, each of which raises the likelihood.
        tolerance: gain of the mean log density, in nats a row, below which the iterations end.

    Returns:
        Weights ``(G,)``, float64, that sum to 1.

    Raises:
        ValueError: a row to which every density gives 0, or NaN.

    Source: Smyth and Wolpert 1998, "Stacked density estimation".

    >>> stacking_weights(torch.tensor([[-1.0, -2.0, -9.0], [-5.0, -9.0, -1.0]])).round(decimals=2)
    tensor([0.6600, 0.3400], dtype=torch.float64)
    """
    values = log_densities.double()
    if bool(values.isnan().any()) or not bool((values > -torch.inf).any(0).all()):
        raise ValueError("expected log densities without NaN, at least one of them above -inf for every row")
    log_weights = torch.full((len(values),), 1 / len(values), dtype=torch.float64).log()
    score = -torch.inf
    for _ in range(num_iterations):
        joint = values + log_weights[:, None]
        mixed = joint.logsumexp(0)
        previous, score = score, float(mixed.mean())
        if score - previous < tolerance:
            break
        log_weights = (joint - mixed).logsumexp(1) - torch.tensor(float(values.shape[1])).log()
    return log_weights.exp()


def left_out_log_density(log_densities: Tensor, is_left_out: Tensor) -> Tensor:
    """Log of the mean density ``(n,)`` of every row over the bags that leave it out; NaN where none does.

    Args:
        log_densities: log densities of n rows under the density of each bag, ``(B, n)``, in nats.
        is_left_out: whether the row is not in the bag, ``(B, n)``.

    >>> values = torch.tensor([[0.2, 0.5], [0.4, 0.5]]).log()
    >>> left_out_log_density(values, torch.tensor([[True, False], [True, False]])).exp().round(decimals=1)
    tensor([0.3000,    nan])
    """
    kept = torch.where(is_left_out, log_densities, -math.inf)
    number = is_left_out.sum(0)
    return torch.where(number > 0, kept.logsumexp(0) - number.log(), math.nan)
