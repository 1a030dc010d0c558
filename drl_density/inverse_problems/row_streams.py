"""Random numbers that belong to rows: a row gets the same ones however rows are split into calls, and whatever others do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Kind = Literal["normal", "uniform"]


@dataclass(frozen=True)
class RowStreams:
    """Independent sources of random numbers, one for each row, purpose and round, all from one seed.

    The generator is Philox, whose counter holds the number of the row, so no two rows share numbers.

    Attributes:
        seed: seed of all sources, below 2^63.
        round: number of the round, from which other numbers follow.

    Source: Salmon, Moraes, Dror and Shaw 2011 (Philox).

    >>> streams = RowStreams(0)
    >>> both = streams.numbers(torch.tensor([7, 3]), (2,), purpose=1)
    >>> torch.equal(both[1:], streams.numbers(torch.tensor([3]), (2,), purpose=1))
    True
    """

    seed: int
    round: int = 0

    @classmethod
    def of(cls, generator: torch.Generator | None) -> RowStreams:
        """Draw the seed from a generator, or from torch's global one when it is None."""
        return cls(int(torch.randint(2**62, (), generator=generator)))

    def numbers(self, rows: Tensor, shape: tuple[int, ...], *, purpose: int, kind: Kind = "normal") -> Tensor:
        """Random numbers ``(len(rows), *shape)``, float64 on the CPU.

        Args:
            rows: numbers of the rows, ``(n,)``.
            shape: shape of the numbers of one row.
            purpose: number that distinguishes the uses of one row's numbers.
            kind: standard normal numbers, or uniform ones in [0, 1).
        """
        found = np.empty((len(rows), *shape))
        key = (self.seed, purpose)
        for own, row in zip(found, rows.tolist(), strict=True):
            source = np.random.Generator(np.random.Philox(key=key, counter=(0, 0, row, self.round)))
            if kind == "normal":
                source.standard_normal(out=own)
            else:
                source.random(out=own)
        return torch.from_numpy(found)
