"""Importance sampling of log Z from draws of the sequence's own base."""

from __future__ import annotations

import torch
from torch import Tensor

from drl_density.errors import NumericalError
from drl_density.model import EnergySequence
from drl_density.weights import LogPartitionEstimate, assess_weights

CHUNK = 8192
"""Draws in one pass, which bounds the memory."""


def importance_sampling(
    model: EnergySequence,
    *,
    level: float = 0.0,
    num_draws: int = 50_000,
    num_replicates: int = 10,
    generator: torch.Generator | None = None,
) -> LogPartitionEstimate:
    r"""Estimate log Z of one level from independent draws of its base.

    .. math:: \log \hat Z = \log \tfrac1M \sum_{m=1}^{M} e^{g(y_m, \lambda)}, \qquad y_m \sim b_\lambda

    The base is normalised, so the mean of the tilt's exponential is an unbiased estimate of Z, and its logarithm a
    stochastic
    lower bound of log Z. It sees no mass where the base draws nothing; annealing from the base, which walks, checks that.

    Args:
        model: sequence on a base with draws at every level.
        level: continuous level whose log Z is wanted.
        num_draws: number of draws, shared out over the replicates.
        num_replicates: independent groups of draws, whose spread is the standard error; at least 2.

    Raises:
        NumericalError: a sequence without a base, which has nothing to draw from.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> estimate = importance_sampling(GaussianMixtureSequence.example().model, num_draws=2000)
    >>> str(estimate.verdict), estimate.log_weights.shape
    ('reliable', torch.Size([10, 200]))
    """
    if model.base is None:
        raise NumericalError("importance sampling draws from the base, and this sequence has none: use annealing")
    weights = tilts(model, base_draws(model, num_replicates * (num_draws // num_replicates), level, generator), level)
    return assess_weights(weights.reshape(num_replicates, -1), bias="lower")


def base_draws(model: EnergySequence, num_draws: int, level: float, generator: torch.Generator | None) -> Tensor:
    """Independent draws ``(num_draws, *event)`` of the base under the noise of a level."""
    if model.base is None:
        raise NumericalError("there is no base to draw from")
    clean = torch.cat(
        [model.base.sample(len(part), generator=generator) for part in torch.empty(num_draws).split(CHUNK)]
    )
    rows = clean.reshape(num_draws, *model.event_shape)
    return model.schedule.diffuse(rows, level, generator=generator)


def tilts(model: EnergySequence, rows: Tensor, level: float) -> Tensor:
    """Network output g of a level at rows, in nats, ``(n,)``, float64 on the CPU."""
    with torch.no_grad():
        return torch.cat([model.tilt(part.to(model.device), level).double().cpu() for part in rows.split(CHUNK)])
