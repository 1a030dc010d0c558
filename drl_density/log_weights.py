"""Arithmetic of log weights of particles, some of which have lost theirs, choice by weight, and the tail of weights."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def carried_weights(log_weights: Tensor, now: Tensor, before: Tensor) -> Tensor:
    """Log weights of particles after a step from one density to the next, without moving.

    A particle is dead once the next density is zero or not a number where it stands, or the former one was zero there. It
    keeps the weight zero for ever, wherever it moves: a density that is positive again does not bring the weight back.

    Args:
        log_weights: log weights before the step, of any shape.
        now: log density of the next density at each particle, in the same shape.
        before: log density of the former one.

    >>> carried_weights(torch.zeros(3), torch.tensor([1.0, -math.inf, 1.0]), torch.tensor([0.5, 0.5, -math.inf]))
    tensor([0.5000,   -inf,   -inf])
    """
    is_dead = (log_weights == -math.inf) | ~(now > -math.inf) | (before == -math.inf)
    return torch.where(is_dead, -math.inf, log_weights + (now - before))


def alive_mean(log_weights: Tensor, dim: int = -1) -> Tensor:
    """Mean log weight as a lower bound of the log mean weight, by Jensen's inequality over the particles that are alive.

    It is the mean over finite log weights plus the log of their share; the plain mean where all are finite.

    >>> alive_mean(torch.tensor([1.0, 3.0, -math.inf, -math.inf])), alive_mean(torch.tensor([1.0, 3.0]))
    (tensor(1.3069), tensor(2.))
    """
    is_alive = log_weights.isfinite()
    if bool(is_alive.all()):
        return log_weights.mean(dim)
    count = is_alive.sum(dim)
    total = torch.where(is_alive, log_weights, 0.0).sum(dim)
    mean = total / count + (count / log_weights.shape[dim]).log()
    return torch.where(count > 0, mean, -math.inf)


def chosen_by_share(cumulative: Tensor, places: Tensor) -> Tensor:
    r"""Index of the component in whose share each place lies: the least k with :math:`p\, s_K \le s_1 + \dots + s_k`.

    Args:
        cumulative: cumulative shares of the components, up to a common factor, ``(*, K)``.
        places: places p in [0, 1], such as uniform numbers, ``(*, n)``.

    Returns:
        Indices ``(*, n)``.

    >>> chosen_by_share(torch.tensor([0.25, 1.0, 1.0]), torch.tensor([0.2, 0.3, 1.0])).tolist()
    [0, 1, 1]
    """
    found = torch.searchsorted(cumulative, (places * cumulative[..., -1:]).contiguous())
    # A product that is not a number lies beyond every share; the index is held back, so that a lookup stays in its table.
    return found.minimum(torch.tensor(cumulative.shape[-1] - 1, device=found.device))


def pareto_k(log_weights: Tensor) -> float:
    """Shape of a generalised Pareto distribution fitted to the largest weights.

    Above 0.7 the mean of the weights cannot be trusted. The tail holds the largest min(n / 5, 3 sqrt(n)) weights; NaN
    when it has fewer than 5 distinct values.

    Source: Vehtari et al. 2024, Pareto smoothed importance sampling; the fit is Zhang and Stephens 2009.
    """
    values = log_weights.double().flatten()
    ordered = np.sort(values[values > -math.inf].cpu().numpy())  # weights of zero say nothing about the largest ones
    size = int(min(len(ordered) / 5, 3 * math.sqrt(len(ordered))))
    if size < 5 or not math.isfinite(ordered[-1]):  # too few weights, or all of them lost
        return math.nan
    threshold = ordered[-size - 1]
    tail = np.exp(ordered[-size:] - ordered[-1]) - np.exp(threshold - ordered[-1])
    if len(np.unique(tail)) < 5 or tail[0] <= 0:
        return math.nan
    return _zhang_stephens_shape(tail)


def _zhang_stephens_shape(tail: np.ndarray) -> float:
    """Zhang and Stephens' estimate with the weak prior of 10 pseudo-observations at 0.5 of Vehtari et al. 2024."""
    count = len(tail)
    grid_size = 30 + int(math.sqrt(count))
    quartile = tail[int(count / 4 + 0.5) - 1]
    grid = 1 / tail[-1] + (1 - np.sqrt(grid_size / (np.arange(1, grid_size + 1) - 0.5))) / (3 * quartile)
    shapes = np.log1p(-grid[:, None] * tail).mean(1)
    profile = count * (np.log(-grid / shapes) - shapes - 1)
    posterior = np.exp(profile - profile.max())
    best = float((grid * posterior).sum() / posterior.sum())
    shape = float(np.log1p(-best * tail).mean())
    return (shape * count + 0.5 * 10) / (count + 10)
