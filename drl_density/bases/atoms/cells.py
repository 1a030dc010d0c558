"""Cells of frequent single values in model space, and what a row says about them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from drl_density.records.brief import brief

LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)


def log_normal_mass(lower: Tensor, upper: Tensor) -> Tensor:
    r"""Log of the standard normal mass of intervals, :math:`\log(\Phi(b) - \Phi(a))`, -inf for an empty one.

    Far above zero both tails are those of the mirrored interval, whose difference keeps its digits.

    Args:
        lower: lower ends a, float64, of any shape.
        upper: upper ends b, of the same shape, none below its lower end.

    >>> found = log_normal_mass(torch.tensor([-1.0, 40.0]).double(), torch.tensor([1.0, 41.0]).double())
    >>> [round(value, 2) for value in found.tolist()]
    [-0.38, -804.61]
    """
    is_high = lower + upper > 0
    below, above = torch.where(is_high, -upper, lower), torch.where(is_high, -lower, upper)
    low, high = torch.special.log_ndtr(below), torch.special.log_ndtr(above)
    mass = high + (-torch.expm1(low - high)).log()
    return torch.where(below < above, mass, -math.inf)


def inside_normal(lower: Tensor, upper: Tensor, share: Tensor) -> Tensor:
    r"""Quantiles of a standard normal that is truncated to an interval, :math:`\Phi^{-1}(\Phi(a) + r (\Phi(b) - \Phi(a)))`.

    Args:
        lower: lower ends a, float64, of any shape; -inf for none.
        upper: upper ends b.
        share: probabilities r below the quantile, within (0, 1).

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> round(float(inside_normal(one, 2 * one, 0.5 * one)), 2)
    1.34
    """
    # The upper half is mirrored, because a probability near 1 has few digits left.
    is_high = lower + upper > 0
    below, above = torch.where(is_high, -upper, lower), torch.where(is_high, -lower, upper)
    part = torch.where(is_high, 1 - share, share)
    first, last = torch.special.ndtr(below), torch.special.ndtr(above)
    found = torch.special.ndtri(first + part * (last - first))
    return torch.where(is_high, -found, found)


@dataclass(frozen=True, eq=False)
class AtomCells:
    r"""Cells of single values that many rows share, in model space.

    Rows with such a value are spread over its cell by dequantisation. The cell is divided into M bins of equal
    probability, in each of which the density is a truncated standard normal:

    .. math:: s_a(u) = \frac{\varphi(u)}{M\,(\Phi(e_{i+1}) - \Phi(e_i))}, \qquad e_i \le u < e_{i+1}

    Attributes:
        columns: column of every cell, ``(A,)``, ascending.
        edges: ends of the bins of every cell, ascending, ``(A, M + 1)``, float64. Cells of one column are in order and do
            not overlap.
        num_features: number of columns d.

    Raises:
        ValueError: columns or edges out of order.

    >>> cells = AtomCells(torch.tensor([1]), torch.tensor([[0.0, 1.0]]).double(), 2)
    >>> cells.hits(torch.tensor([[0.5, 0.5], [0.5, 1.5]]).double()).flatten().tolist()
    [True, False]
    """

    columns: Tensor
    edges: Tensor
    num_features: int

    __repr__ = brief

    def __post_init__(self) -> None:
        edges = self.edges
        if edges.ndim != 2 or self.columns.shape != edges.shape[:1] or edges.shape[1] < 2:
            raise ValueError(
                f"expected a column and at least two ends for each cell, got columns {tuple(self.columns.shape)} and ends "
                f"{tuple(edges.shape)}"
            )
        is_next = self.columns[1:] == self.columns[:-1]
        is_ordered = bool((self.columns.diff() >= 0).all() & (edges[:, 1:] > edges[:, :-1]).all())
        if not is_ordered or bool((edges[1:, 0] < edges[:-1, -1])[is_next].any()):
            raise ValueError("expected ascending columns, ascending ends, and cells of one column that do not overlap")

    @property
    def lower(self) -> Tensor:
        """Lower end of every cell, ``(A,)``."""
        return self.edges[:, 0]

    @property
    def upper(self) -> Tensor:
        """Upper end of every cell, ``(A,)``."""
        return self.edges[:, -1]

    @property
    def num_bins(self) -> int:
        """Number M of bins of a cell."""
        return self.edges.shape[1] - 1

    @cached_property
    def log_heights(self) -> Tensor:
        """Log of the density of a cell over that of the standard normal in each of its bins, ``(A, M)``."""
        return -math.log(self.num_bins) - log_normal_mass(self.edges[:, :-1], self.edges[:, 1:])

    @cached_property
    def gaps(self) -> tuple[Tensor, Tensor, Tensor]:
        """Column, lower and upper end ``(G,)`` of every interval between the cells, in order; whole lines without cells."""
        found = []
        for column in range(self.num_features):
            own = self.columns == column
            ends = [-math.inf, *torch.stack([self.lower[own], self.upper[own]], 1).flatten().tolist(), math.inf]
            found += [(column, a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if a < b]
        where, lower, upper = zip(*found, strict=True) if found else ((), (), ())
        options = {"dtype": torch.float64, "device": self.edges.device}
        columns = torch.tensor(where, dtype=torch.int64, device=self.edges.device)
        return columns, torch.tensor(lower, **options), torch.tensor(upper, **options)

    @cached_property
    def has_gap(self) -> Tensor:
        """Which columns have values outside all cells, ``(d,)``."""
        found = torch.zeros(self.num_features, dtype=torch.bool, device=self.edges.device)
        found[self.gaps[0]] = True
        return found

    def hits(self, u: Tensor) -> Tensor:
        """Whether a row lies in a cell, ``(n, A)``, for rows ``u`` ``(n, d)``."""
        values = u[:, self.columns]
        return (values >= self.lower) & (values < self.upper)

    def features(self, u: Tensor, is_missing: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the log densities of components are linear in, and the part that all components share.

        Args:
            u: rows ``(n, d)``, float64.
            is_missing: coordinates ``(n, d)`` that do not count; none when not given.

        Returns:
            Indicators of the cells, indicators of the columns outside them, values there and their squares,
            ``(n, A + 3 d)``; and the sum over cells of log densities ``(n,)``.
        """
        hits = self.hits(u)
        is_free = torch.ones_like(u, dtype=torch.bool)
        rows, atoms = hits.nonzero(as_tuple=True)
        is_free[rows, self.columns[atoms]] = False
        if is_missing is not None:
            hits, is_free = hits & ~is_missing[:, self.columns], is_free & ~is_missing
            rows, atoms = hits.nonzero(as_tuple=True)
        values = u[rows, self.columns[atoms]]
        bins = (values.detach()[:, None] >= self.edges[atoms, 1:-1]).sum(1)
        logs = self.log_heights[atoms, bins] - LOG_ROOT_TWO_PI - 0.5 * values.square()
        free = torch.where(is_free, u, 0.0)
        shared = u.new_zeros(len(u)).index_add(0, rows, logs)
        return torch.cat([hits.to(u), is_free.to(u), free, free.square()], 1), shared

    def log_gap_mass(self, means: Tensor, spreads: Tensor) -> Tensor:
        """Log of the mass that normal densities have outside the cells of their column; 0 for a column without gaps.

        Args:
            means: means ``(*, d)``, float64.
            spreads: standard deviations ``(*, d)``.
        """
        where, lower, upper = self.gaps
        logs = log_normal_mass(*((end - means[..., where]) / spreads[..., where] for end in (lower, upper)))
        index = where.expand(logs.shape)
        top = torch.full_like(means, -math.inf).scatter_reduce(-1, index, logs, "amax")
        top = torch.where(self.has_gap, top, 0.0)
        sums = torch.zeros_like(means).scatter_add(-1, index, (logs - top[..., where]).exp())
        return torch.where(self.has_gap, top + torch.where(self.has_gap, sums, 1.0).log(), 0.0)
