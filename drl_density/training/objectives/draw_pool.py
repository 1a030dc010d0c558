"""A pool of a base's draws that many training steps share, refreshed during training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.bases import Base
from drl_density.records.brief import brief

BLOCK = 1024
"""Draws made at once: a full pass of a spline flow on the CPU, where a draw takes a third of its time in a small batch."""

FIRST_BLOCKS = 8
"""Blocks of the pool before the first step."""

BLOCK_STRIDE = 104_729
"""Distance between the seeds of two blocks: a prime, other than the distance between the seeds of two members."""


@dataclass(eq=False)
class DrawPool:
    """Draws of a base, such as a flow, whose draws are expensive in small batches: made in blocks, and each used repeatedly.

    The pool starts with 8 blocks of 1,024 draws. Training draws from it at random, and one fresh draw is added for every
    :attr:`uses` draws taken. Once the pool holds :attr:`size` draws, a fresh block replaces the oldest. So the mean number
    of uses of a draw is :attr:`uses`, far below that of a training row, and the contrast cannot overfit the draws.

    Which blocks the pool holds follows from the number of the step alone. So a resumed run, a run that was rolled back, and
    every process of a run have the same pool.

    Bases with quick draws have no pool: they make fresh draws at every call.

    Attributes:
        step: function that returns the number of training steps done.
        draws_per_step: draws that a step takes from the pool, over all processes.
        size: draws that the full pool holds at least.
        seed: seed of the blocks.
        uses: mean number of times that a draw is used.
        num_held: draws that the pool holds; 0 before the first call.

    Raises:
        ValueError: numbers below 1.

    >>> from drl_density.bases import AutoregressiveFlow, AutoregressiveFlowSettings
    >>> flow = AutoregressiveFlow(AutoregressiveFlowSettings(2, width=8), generator=torch.Generator().manual_seed(0))
    >>> pool = DrawPool(lambda: 0, draws_per_step=256, size=10_000)
    >>> pool(flow, 3).shape, pool.num_held
    (torch.Size([3, 2]), 8192)
    """

    step: Callable[[], int]
    draws_per_step: int
    size: int
    seed: int = 0
    uses: int = 4
    num_held: int = field(default=0, init=False)
    _base: Base | None = field(default=None, init=False, repr=False)
    _draws: Tensor | None = field(default=None, init=False, repr=False)
    _held: dict[int, int] = field(default_factory=dict, init=False, repr=False)

    __repr__ = brief

    def __post_init__(self) -> None:
        if min(self.draws_per_step, self.size, self.uses) < 1:
            raise ValueError(
                "need draws_per_step, size and uses of at least 1, got "
                f"{self.draws_per_step}, {self.size} and {self.uses}"
            )

    def __call__(self, base: Base, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw vectors ``(num_samples, d)`` without noise: from the pool, or from a base with quick draws itself.

        Args:
            base: density to draw from; the pool holds draws of one base with expensive draws alone.
            num_samples: number of vectors.
            generator: source of the choice among the draws of the pool, or of the quick draws.

        Raises:
            ValueError: a second base with expensive draws.
        """
        if base.has_quick_draws:
            return base.sample(num_samples, generator=generator)
        if self._base is not None and base is not self._base:
            raise ValueError(
                f"this pool holds draws of a {type(self._base).__name__}, and was asked for draws of another base: make a "
                "pool for each"
            )
        draws = self._current(base)
        chosen = torch.randint(self.num_held, (num_samples,), generator=generator)
        return draws[chosen.to(draws.device)]

    def _current(self, base: Base) -> Tensor:
        """Every draw of the pool at this step, in the first :attr:`num_held` rows; makes the blocks that are not there."""
        num_blocks = max(FIRST_BLOCKS, -(-self.size // BLOCK))
        newest = FIRST_BLOCKS - 1 + self.step() * self.draws_per_step // (self.uses * BLOCK)
        self.num_held = min(newest + 1, num_blocks) * BLOCK
        for index in range(max(0, newest + 1 - num_blocks), newest + 1):
            place = index % num_blocks
            if self._held.get(place) == index:
                continue
            # A block is always the same draws.
            generator = torch.Generator().manual_seed(self.seed + BLOCK_STRIDE * (index + 1))
            block = base.sample(BLOCK, generator=generator)
            if self._draws is None:
                self._base, self._draws = base, block.new_empty(num_blocks * BLOCK, block.shape[1])
            self._draws[place * BLOCK : (place + 1) * BLOCK] = block
            self._held[place] = index
        assert self._draws is not None  # the first call has made a block
        return self._draws
