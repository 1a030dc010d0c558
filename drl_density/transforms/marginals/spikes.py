r"""Single values of a column with probabilities of their own, beside a density of the values between them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.records.brief import brief
from drl_density.transforms.marginals.histogram import count_reached, log_sum, pick


@dataclass(frozen=True, eq=False)
class Spikes:
    r"""The law of a column with frequent values: uniform on the cell of each, and a slab between the cells.

    .. math:: f(x) = \sum_a p_a \frac{1[l_a \le x < r_a]}{r_a - l_a}
        + p_0 \frac{s(x)\, 1[x \notin C]}{1 - S(C)}, \qquad p_0 = 1 - \sum_a p_a

    C is the union of the cells, s the density of the slab, and S(C) its mass in the cells. Probabilities near 0 and near 1
    are those of the slab beyond the outermost cells, so that tails keep their relative accuracy.

    Attributes:
        lower: lower ends l of the cells, ascending, ``(cells,)``, float64.
        upper: upper ends r of the cells, none above the next lower end, ``(cells,)``.
        log_shares: log probabilities p of the cells, ``(cells,)``; their sum is below 1.
        slab_below: log distribution function of the slab at l and at r, ``(2, cells)``.
        slab_above: log survival function of the slab there, ``(2, cells)``.

    Raises:
        ValueError: cells out of order, probabilities whose sum is not below 1, or a slab without mass between the cells.

    >>> half = torch.tensor([0.5]).double().log()
    >>> slab = torch.tensor([[0.25], [0.75]]).double()  # uniform on (-1, 1)
    >>> spikes = Spikes(-half.exp(), half.exp(), half, slab.log(), torch.log1p(-slab))
    >>> x = torch.tensor([0.0, 0.75]).double()
    >>> log_half, below, above = half.expand(2), torch.log((x + 1) / 2), torch.log((1 - x) / 2)
    >>> [round(value, 3) for value in spikes.log_parts(x, (log_half, below, above))[0].exp().tolist()]
    [0.5, 0.5]
    """

    lower: Tensor
    upper: Tensor
    log_shares: Tensor
    slab_below: Tensor
    slab_above: Tensor
    _edges: Tensor = field(init=False, repr=False)
    _start: Tensor = field(init=False, repr=False)
    _end: Tensor = field(init=False, repr=False)
    _shares: Tensor = field(init=False, repr=False)
    _below: Tensor = field(init=False, repr=False)
    _above: Tensor = field(init=False, repr=False)
    _slab_start: Tensor = field(init=False, repr=False)
    _slab_end: Tensor = field(init=False, repr=False)
    _log_factor: float = field(init=False, repr=False)

    __repr__ = brief

    def __post_init__(self) -> None:
        """Compute once what is left and right of every part: gap, cell, gap, ..., cell, gap."""
        total = float(self.log_shares.exp().sum())
        edges = torch.stack([self.lower, self.upper], 1).flatten()
        is_ordered = bool((self.upper > self.lower).all() and (edges.diff() >= 0).all())
        if not is_ordered or not 0 < total < 1:
            raise ValueError(
                f"expected cells in ascending order and probabilities whose sum is below 1, got a sum of {total:g} and ends "
                f"{edges.tolist()}"
            )
        below, above = (part.T.flatten() for part in (self.slab_below, self.slab_above))
        nothing, all_of_it = torch.full((1,), -torch.inf).to(edges), torch.zeros(1).to(edges)
        # Of the slab at the start and at the end of every part: log distribution function, log survival function.
        start = torch.stack([torch.cat([nothing, below]), torch.cat([all_of_it, above])])
        end = torch.stack([torch.cat([below, all_of_it]), torch.cat([above, nothing])])
        slab = _difference(end, start)[::2].clamp(min=0)  # gaps of one float may come out below 0 by rounding
        if not bool(slab.sum() > 0):
            raise ValueError("expected a slab with mass between the cells, got one that lies in the cells")
        factor = (1 - total) / slab.sum()
        shares = torch.stack([factor * slab, torch.cat([self.log_shares.exp(), all_of_it])], 1).flatten()[:-1]
        infinity, reached = torch.full((1,), torch.inf).to(edges), edges.clone()
        if not shares[0] > 0:  # the lowest end of all has no finite coordinate, as of a histogram
            reached[0] = torch.nextafter(edges[0], infinity[0])
        for name, value in {
            "_edges": reached,
            "_start": torch.cat([-infinity, edges]),
            "_end": torch.cat([edges, infinity]),
            "_shares": shares,
            "_below": torch.cat([all_of_it, shares.cumsum(0)[:-1]]),
            "_above": torch.cat([shares.flip(0).cumsum(0)[:-1].flip(0), all_of_it]),
            "_slab_start": start,
            "_slab_end": end,
            "_log_factor": float(factor.log()),
        }.items():
            object.__setattr__(self, name, value)

    def contains(self, x: Tensor) -> Tensor:
        """Whether values ``x`` lie in a cell, of the shape of ``x``."""
        return count_reached(x, self._edges.to(x)) % 2 == 1

    def log_parts(self, x: Tensor, slab: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """log density, log distribution function and log survival function at values ``x``, each of its shape.

        Args:
            x: values of any shape.
            slab: the same three of the slab, at ``x`` where this lies between cells, and anything finite elsewhere.
        """
        part = count_reached(x, self._edges.to(x))
        is_cell = part % 2 == 1
        density, below, above = slab
        share, low, high = (pick(each.to(x), part) for each in (self._shares, self._below, self._above))
        start, end = (
            torch.where(is_cell, pick(each.to(x), part), rest)
            for each, rest in ((self._start, torch.zeros_like(x)), (self._end, torch.ones_like(x)))
        )
        from_low, from_high = (
            torch.where(is_cell, distance / (end - start), 0.5) for distance in (x - start, end - x)
        )
        log_share = share.log()
        inside = (
            log_share - (end - start).log(),
            log_sum(low.log(), log_share, from_low),
            log_sum(high.log(), log_share, from_high),
        )
        here = torch.stack([below, above])
        factor = math.exp(self._log_factor)
        first, last = part == 0, part == len(self._edges)
        reached = low + factor * _difference(here, self._slab_at(self._slab_start, part, x))
        left = high + factor * _difference(self._slab_at(self._slab_end, part, x), here)
        outside = (
            density + self._log_factor,
            torch.where(first, below + self._log_factor, torch.where(first | is_cell, 1.0, reached).log()),
            torch.where(last, above + self._log_factor, torch.where(last | is_cell, 1.0, left).log()),
        )
        found = [torch.where(is_cell, *pair) for pair in zip(inside, outside, strict=True)]
        return found[0], found[1], found[2]

    def slab_tails(self, log_lower: Tensor, log_upper: Tensor) -> tuple[Tensor, Tensor]:
        """Tail probabilities under the slab of the values that have the given ones here; those of a median in a cell.

        Args:
            log_lower: log distribution function of values, of any shape.
            log_upper: their log survival function.
        """
        part = self._part_of(log_lower, log_upper)
        low, high = (pick(each.to(log_lower), part) for each in (self._below, self._above))
        factor = math.exp(self._log_factor)
        start, end = (self._slab_at(each, part, log_lower) for each in (self._slab_start, self._slab_end))
        least = torch.finfo(log_lower.dtype).tiny
        # Rounding must not carry a value over the end of its gap.
        lower = (start[0].exp() + (log_lower.exp() - low) / factor).maximum(start[0].exp()) + least
        upper = (end[1].exp() + (log_upper.exp() - high) / factor).maximum(end[1].exp()) + least
        lower = torch.where(part == 0, log_lower - self._log_factor, lower.log())
        upper = torch.where(part == len(self._edges), log_upper - self._log_factor, upper.log())
        is_cell, half = part % 2 == 1, torch.full_like(log_lower, 0.5).log()
        return torch.where(is_cell, half, lower), torch.where(is_cell, half, upper)

    def place(self, log_lower: Tensor, log_upper: Tensor, slab: Tensor) -> Tensor:
        """Values with the given tail probabilities.

        Args:
            log_lower: log distribution function of values, of any shape.
            log_upper: their log survival function.
            slab: values of the slab with the probabilities of :meth:`slab_tails`.
        """
        part = self._part_of(log_lower, log_upper)
        start, end, share, low, high = (
            pick(each.to(log_lower), part) for each in (self._start, self._end, self._shares, self._below, self._above)
        )
        from_low, from_high = (log_lower.exp() - low) / share, (log_upper.exp() - high) / share
        is_cell = part % 2 == 1
        left, right = (torch.where(is_cell, each, 0.0) for each in (start, end))
        inside = torch.where(from_low < from_high, left + (right - left) * from_low, right - (right - left) * from_high)
        found, least = torch.where(is_cell, inside, slab), torch.cat([self._start[:1], self._edges]).to(slab)
        return found.maximum(pick(least, part)).minimum(torch.nextafter(end, start))

    def _part_of(self, log_lower: Tensor, log_upper: Tensor) -> Tensor:
        """Index of the part with these tail probabilities; the smaller one decides, which has more digits."""
        below, above = self._below[1:].log().to(log_lower), self._above[:-1].log().to(log_lower)
        reached = (log_lower.detach()[..., None] >= below) & (log_lower < log_upper)[..., None]
        from_above = (log_upper.detach()[..., None] <= above) & (log_lower >= log_upper)[..., None]
        return (reached | from_above).sum(-1)

    @staticmethod
    def _slab_at(table: Tensor, part: Tensor, like: Tensor) -> Tensor:
        """Log tails of the slab at an end of the parts, ``(2, *)``."""
        return torch.stack([pick(row.to(like), part) for row in table])


def _difference(larger: Tensor, smaller: Tensor) -> Tensor:
    """Mass between two points with the given log tails ``(2, *)``, from the tail that is shorter at the first of them."""
    is_low = smaller[0] < smaller[1]
    low, high = larger[0].exp() - smaller[0].exp(), smaller[1].exp() - larger[1].exp()
    return torch.where(is_low, low, high)


def frequent_values(values: Tensor, width: float, *, least: int, most: int) -> list[tuple[float, int]]:
    """Values that many rows share, with their numbers, the most frequent first; no two are closer than the width.

    Args:
        values: values of a column that are not missing, not dequantised, ``(rows,)``, float64.
        width: width of the cell of each value.
        least: rows that share a value at least.
        most: number of values that are returned at most.

    >>> frequent_values(torch.tensor([1.0, 2.0, 2.0, 2.1, 2.1, 2.1]), 0.5, least=2, most=5)
    [(2.0999999046325684, 3)]
    """
    distinct, counts = values.unique(return_counts=True)
    chosen: list[tuple[float, int]] = []
    taken = torch.empty(0, dtype=torch.float64)
    for index in counts.argsort(descending=True, stable=True).tolist():
        if int(counts[index]) < least or len(chosen) == most:
            break
        # Sums of decimals miss a grid by rounding.
        if bool(((taken - distinct[index]).abs() > width * (1 - 1e-6)).all()):
            chosen.append((float(distinct[index]), int(counts[index])))
            taken = torch.cat([taken, distinct[index, None].double()])
    return chosen
