"""A fitted base together with wider and heavier ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.partition_function.target_bases.contract import Chart, DrivenChart, FlatBase
from drl_density.partition_function.target_bases.mixture import MixtureBase


@dataclass(frozen=True)
class DefendedBase:
    """A fitted base mixed with wider ones, whose tails reach beyond the draws that it was fitted to.

    Attributes:
        parts: fitted base first, then wider ones.
        shares: share of each part, adding to 1.
        local: part that gives kernels a local scale, by the covariances of a mixture's components or by coordinates of
            its own; ``None`` where there is neither.
    """

    parts: tuple[FlatBase, ...]
    shares: tuple[float, ...]
    local: MixtureBase | Chart | None

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one point."""
        return self.parts[0].event_shape

    @property
    def chart(self) -> DrivenChart | None:
        """The map with a driver, where the fitted base is a regression on one."""
        return self.local if isinstance(self.local, DrivenChart) else None

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        terms = [part.log_prob(x) + math.log(share) for part, share in zip(self.parts, self.shares, strict=True)]
        return torch.stack(terms).logsumexp(0)

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``(num_rows, d)``."""
        chosen = torch.multinomial(torch.tensor(self.shares), num_rows, replacement=True, generator=generator)
        counts = torch.bincount(chosen, minlength=len(self.parts)).tolist()
        rows = torch.cat([part.draw(count, generator) for part, count in zip(self.parts, counts, strict=True) if count])
        return rows[chosen.argsort().argsort().to(rows.device)]
