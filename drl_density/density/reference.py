"""Scores of held-out rows that p-values rank against; the rows themselves are not kept."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from drl_density.records.brief import brief


@dataclass(frozen=True, eq=False)
class ReferenceScores:
    """Scores of the rows that others are ranked against.

    Attributes:
        log_density: normalised log density of each row, nats, ``(row,)``, float64.
        profile: mean log density of noised copies of each row at every level, in model space, ``(row, level)``, float64.
        words: what the rows are, such as "the fit's 200 test rows".
    """

    log_density: Tensor
    profile: Tensor
    words: str

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.log_density)
