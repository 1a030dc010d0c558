"""Convergence statistics of parallel chains."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from drl_density.diagnostics.arviz_versions import installed_arviz

if TYPE_CHECKING:
    import xarray as xr

LEAST_DRAWS = 4
"""Draws of each chain, so that both halves have a spread."""


def split_r_hat(draws: torch.Tensor) -> torch.Tensor:
    """Rank-normalised split R-hat of every cell of ``draws`` ``(chain, draw, cell)``, ``(cell,)``, float64.

    It is NaN for a single chain, and for chains of fewer than four draws.

    Source: Vehtari, Gelman, Simpson, Carpenter and Buerkner 2021.

    >>> draws = torch.randn(4, 100, 2, generator=torch.Generator().manual_seed(0))
    >>> bool((split_r_hat(draws) < 1.1).all())
    True
    """
    if len(draws) < 2 or draws.shape[1] < LEAST_DRAWS:
        return torch.full(draws.shape[2:], math.nan, dtype=torch.float64)
    return torch.as_tensor(np.asarray(installed_arviz().statistics.rhat(_cells(draws))["x"]))


def bulk_ess(draws: torch.Tensor) -> torch.Tensor:
    """Rank-normalised bulk effective sample size of every cell of ``draws`` ``(chain, draw, cell)``, ``(cell,)``.

    It is NaN for chains of fewer than four draws.

    Source: Vehtari, Gelman, Simpson, Carpenter and Buerkner 2021.

    >>> draws = torch.randn(4, 100, 2, generator=torch.Generator().manual_seed(0))
    >>> bool((bulk_ess(draws) > 200).all())
    True
    """
    if not len(draws) or draws.shape[1] < LEAST_DRAWS:
        return torch.full(draws.shape[2:], math.nan, dtype=torch.float64)
    return torch.as_tensor(np.asarray(installed_arviz().statistics.ess(_cells(draws), method="bulk")["x"]))


def nested_r_hat(draws: torch.Tensor, superchains: Sequence[Hashable]) -> torch.Tensor:
    r"""Nested R-hat :math:`\sqrt{1 + B / W}` of every cell: do groups of chains agree?

    B is the variance over superchains of their means. W is the mean over superchains of the variance between their chains'
    means plus the mean variance within chains. With many short chains it sees what split R-hat cannot.

    Args:
        draws: draws of all chains, ``(draw, chain, cell)``.
        superchains: label of each chain's superchain; at least two labels, each of as many chains.

    Returns:
        Nested R-hat of each cell, ``(cell,)``, float64.

    Raises:
        ValueError: fewer than two superchains, unequal sizes, or fewer than two draws.

    Source: Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari and Gelman 2024.

    >>> x = torch.randn(50, 8, 1, generator=torch.Generator().manual_seed(0))
    >>> bool(nested_r_hat(x, [0, 0, 0, 0, 1, 1, 1, 1]) < 1.1)
    True
    """
    names = list(dict.fromkeys(superchains))
    places = [[index for index, label in enumerate(superchains) if label == name] for name in names]
    if len(names) < 2 or len({len(place) for place in places}) > 1 or len(draws) < 2:
        raise ValueError(
            f"expected at least two superchains of equal size and two draws, got sizes {[len(p) for p in places]} and "
            f"{len(draws)} draws"
        )
    x = draws.detach().cpu().double()
    means = torch.stack([x.mean(0)[place] for place in places])
    within = torch.stack([x.var(0)[place] for place in places]).mean(1)
    if means.shape[1] > 1:
        within = within + means.var(1)
    return (1 + means.mean(1).var(0) / within.mean(0)).sqrt()


def _cells(draws: torch.Tensor) -> xr.Dataset:
    import xarray as xr

    return xr.Dataset({"x": (("chain", "draw", "cell"), draws.detach().cpu().double().numpy())})
