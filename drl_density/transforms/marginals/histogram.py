r"""Histogram marginals of columns with a closed support: one cell per permitted value, uniform inside.

Cell k is :math:`[v_k - w/2, v_k + w/2]` with probability :math:`p_k`. Its logit coordinate is that of the distribution
function, :math:`y = \log F - \log(1 - F)`, in which the law is standard logistic. Everything is kept as logs, so that both
tails of F have full relative accuracy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from drl_density.records.brief import brief

SMOOTHING = 0.5
"""Rows added to every cell, as in the estimate of Krichevsky and Trofimov 1981: no permitted value has probability 0."""

EDGE = 2.0**-30
"""Share of a width by which rounding may place a value beyond the edge of its cell: decimals are not exact in binary."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """The histogram of one column.

    Attributes:
        values: permitted values v, ascending, ``(cells,)``.
        width: width w of every cell.
        log_shares: log of the probability of every cell, ``(cells,)``.

    >>> halves = Histogram(torch.tensor([0.0, 1.0]), 1.0, torch.tensor([0.5, 0.5]).log())
    >>> halves.from_logit(halves.to_logit(torch.tensor([-0.25, 0.5, 1.3]))[0])
    tensor([-0.2500,  0.5000,  1.3000])
    """

    values: Tensor
    width: float
    log_shares: Tensor
    _log_below: Tensor = field(init=False, repr=False)
    _log_above: Tensor = field(init=False, repr=False)
    _has_gap: Tensor = field(init=False, repr=False)

    __repr__ = brief

    def __post_init__(self) -> None:
        """Compute once the log probabilities below and above every cell, and the ends of cells that touch no other."""
        nothing = torch.full((1,), -torch.inf, dtype=self.log_shares.dtype)
        below = torch.cat([nothing, self.log_shares.logcumsumexp(0)[:-1]])
        above = torch.cat([self.log_shares.flip(0).logcumsumexp(0)[:-1].flip(0), nothing])
        end = torch.ones(1, dtype=torch.bool)
        has_gap = torch.cat([end, self.values.diff() > self.width * (1 + EDGE), end])
        for name, value in (("_log_below", below), ("_log_above", above), ("_has_gap", has_gap)):
            object.__setattr__(self, name, value)

    def contains(self, x: Tensor) -> Tensor:
        """Whether values ``x`` lie in a cell, of the shape of ``x``.

        Cells are half-open: the upper edge of one belongs to the next, or to none before a gap. The lowest edge of all
        belongs to none, because it has no finite coordinate.
        """
        cell = self._cell(x)
        from_low, from_high = self._distances(x, cell)
        return self._are_inside(cell, from_low, from_high)

    def to_logit(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The coordinates y of values ``x``, and log dy/dx; both NaN outside the cells.

        Args:
            x: values of any shape.
        """
        cell, shares = self._cell(x), self.log_shares.to(x)
        from_low, from_high = self._distances(x, cell)
        below, above, share = (pick(part.to(x), cell) for part in (self._log_below, self._log_above, shares))
        lower, upper = log_sum(below, share, from_low), log_sum(above, share, from_high)
        slope = share - math.log(self.width) - lower - upper
        nothing, is_inside = torch.full_like(x, torch.nan), self._are_inside(cell, from_low, from_high)
        return torch.where(is_inside, lower - upper, nothing), torch.where(is_inside, slope, nothing)

    def from_logit(self, y: Tensor) -> Tensor:
        """The values of coordinates ``y``, always inside a cell.

        Args:
            y: coordinates of any shape.
        """
        log_below, log_above = self._log_below.to(y), self._log_above.to(y)
        cell = count_reached(y, log_below[1:] - log_above[:-1])
        below, above, share = (pick(part.exp(), cell) for part in (log_below, log_above, self.log_shares.to(y)))
        # The smaller of both tails keeps its relative accuracy, so the place inside the cell is taken from it.
        low = (functional.logsigmoid(y).exp() - below) / share
        high = (functional.logsigmoid(-y).exp() - above) / share
        from_low, from_high = torch.where(y < 0, low, 1 - high), torch.where(y < 0, 1 - low, high)
        center = pick(self.values.to(y), cell)
        left, right = center - 0.5 * self.width, center + 0.5 * self.width
        x = torch.where(from_low < 0.5, left + self.width * from_low, right - self.width * from_high)
        # Rounding must not carry a value over the edge of its cell, nor onto the lowest edge of all.
        left, right = self._ends(cell, y)
        return x.maximum(left).minimum(right)

    def ends_around(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the greatest float64 in the cell that is nearest to each of ``x``, of the shape of ``x``.

        >>> halves = Histogram(torch.tensor([0.0, 1.0]), 1.0, torch.tensor([0.5, 0.5]).log())
        >>> [round(float(end), 9) for end in halves.ends_around(torch.tensor(0.2))]
        [-0.5, 0.5]
        """
        return self._ends(self._cell(x.double()), x.double())

    def rescaled(self, shift: float, factor: float) -> Histogram:
        """The histogram of ``shift + factor * x``; a negative factor reverses the order of the cells."""
        order = slice(None) if factor > 0 else torch.arange(len(self.values) - 1, -1, -1)
        return Histogram((shift + factor * self.values)[order], self.width * abs(factor), self.log_shares[order])

    def _ends(self, cell: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the greatest number of the type of ``like`` that belong to cells."""
        center, half = pick(self.values.to(like), cell), 0.5 * self.width
        left, right = center - half, center + half
        right_inside = torch.where(self._has_gap_after(cell), torch.nextafter(right, left), right)
        return torch.where(cell > 0, left, torch.nextafter(left, right)), right_inside

    def _cell(self, x: Tensor) -> Tensor:
        """Index of the value nearest to each of ``x``."""
        values = self.values.to(x)
        return count_reached(x, values[:-1] + 0.5 * values.diff())

    def _distances(self, x: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Distances of values from the lower and from the upper edge of their cells, as shares of the width."""
        center, half = pick(self.values.to(x), cell), 0.5 * self.width
        return (x - (center - half)) / self.width, ((center + half) - x) / self.width

    def _are_inside(self, cell: Tensor, from_low: Tensor, from_high: Tensor) -> Tensor:
        """Whether values at these distances from the edges belong to their cells."""
        is_above = torch.where(self._has_gap_after(cell - 1), from_low >= 0, from_low >= -EDGE)
        is_below = torch.where(self._has_gap_after(cell), from_high > 0, from_high >= -EDGE)
        return is_above & is_below & ((cell > 0) | (from_low > 0))

    def _has_gap_after(self, cell: Tensor) -> Tensor:
        """Whether no other cell begins where these cells, of which -1 is the one before the first, end."""
        return pick(self._has_gap, cell + 1)


def count_reached(x: Tensor, thresholds: Tensor) -> Tensor:
    """Number of thresholds at or below each value; unlike torch.bucketize without a warning under vmap."""
    return (x.detach()[..., None] >= thresholds).sum(-1)


def log_sum(log_rest: Tensor, log_share: Tensor, part: Tensor) -> Tensor:
    """log(rest + share * part), whose gradient is finite on an edge, where the part is 0, unless the rest is 0 too."""
    has_rest = log_rest > -torch.inf
    rest = torch.where(has_rest, log_rest, 0.0)
    alone = log_share + torch.where(part > 0, part, 1.0).log()
    return torch.where(has_rest, rest + torch.log1p(part * (log_share - rest).exp()), alone)


def pick(values: Tensor, index: Tensor) -> Tensor:
    """Elements of a vector by an index of any shape, also under vmap."""
    return values.index_select(0, index.reshape(-1)).reshape(index.shape)


def fit_histogram(x: Tensor, values: Tensor, width: float, *, weights: Tensor | None = None) -> Histogram:
    """The histogram of a column, with half a row added to every cell.

    Args:
        x: values ``(rows,)``, which may be dequantised; each counts for the nearest permitted one.
        values: permitted values, ascending, ``(cells,)``.
        width: width of the cells.
        weights: relative weight of each row, ``(rows,)``; all equal when not given.

    >>> found = fit_histogram(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 2.0]), 1.0)
    >>> [round(share, 6) for share in (found.log_shares.exp() * 4.5).tolist()]
    [2.5, 1.5, 0.5]
    """
    blank = Histogram(values.double(), width, torch.zeros(len(values), dtype=torch.float64))
    share = torch.ones(len(x), dtype=torch.float64) if weights is None else weights.double() / weights.double().mean()
    counts = torch.bincount(blank._cell(x.double()), weights=share, minlength=len(values)) + SMOOTHING
    return Histogram(blank.values, width, counts.log() - counts.sum().log())
