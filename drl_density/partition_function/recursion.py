"""The level-by-level importance estimate of Gao et al. 2021, kept as a baseline with a known bias."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from drl_density.model import EnergySequence
from drl_density.partition_function.annealing.path import check_integrable
from drl_density.weights import log_mean_exp


def level_recursion(model: EnergySequence, draws: Sequence[Tensor]) -> Tensor:
    r"""log Z of levels 0..T-1 by :math:`\log Z_t = \log Z_{t+1} + \log \frac1M \sum_i e^{F_t(x^i) - F_{t+1}(x^i)}`.

    The estimate is consistent only when the draws of each level are draws of *that level's* model. Those of an ancestral
    sampler, and noised data, are so only if all levels agree with each other. Otherwise the estimate is biased for any
    number of draws, unlike the path estimators of this package.

    Args:
        draws: draws of levels 1 to T in this order, each ``(n, *event)``; those of level T come from N(0, I).

    Returns:
        log Z of levels 0 to T - 1, ``(T,)``, float64.

    Raises:
        ValueError: another number of sets of draws than levels.
        NumericalError: an improper model.

    Source: Gao et al. 2021, section 4.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> system = GaussianMixtureSequence.example()
    >>> draws = [system.sample(2000, level, generator=torch.Generator().manual_seed(level)) for level in range(1, 9)]
    >>> level_recursion(system.model, draws).shape
    torch.Size([8])
    """
    if len(draws) != model.num_levels:
        raise ValueError(f"expected draws of levels 1 to {model.num_levels}, got {len(draws)} sets")
    check_integrable(model)
    result, total = [], torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        for level in reversed(range(model.num_levels)):
            x = draws[level].to(model.dtype)
            above = model.top.log_prob(x) if level + 1 == model.num_levels else model.log_density(x, level + 1)
            total = total + log_mean_exp(model.log_density(x, level).double() - above.double())
            result.append(total)
    return torch.stack(result[::-1])
