r"""Histograms of many columns on one grid, such as the 256 grey levels of every pixel, each mapped to N(0, 1).

Cell k of the grid is :math:`[v_k - w/2, v_k + w/2]`. Inside it the density of column i is :math:`p_{ik} / w`, so that its
distribution function is linear there. All columns are evaluated together, which takes tables of size (columns, cells).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from drl_density.errors import DataError
from drl_density.records.brief import brief
from drl_density.transforms.data_transform import Bounds, DataTransform
from drl_density.transforms.gaussianize import FARTHEST_SCORE, Quantiles, log_normal

SPREADS = (2, 4, 8, 16)
"""Half widths, in cells, of the triangle over which smoothing spreads a count."""
SPREAD_SHARES = (0.1, 0.2, 0.4, 0.6, 0.8, 0.9)
"""Shares of the counts that are spread; the rest stays in its cell."""
EVEN_ROWS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Rows that are spread evenly over all cells of a column."""
ATOM_RATIO, ATOM_REACH = 5.0, 4
"""Rows that make a cell an atom, which is not spread: over 5 times one row and the mean count of cells up to 4 away."""
MOST_COUNTED = 2**22
"""Values that are counted at once: their indices take 32 MiB."""


class _Place(NamedTuple):
    """Values in their cells: index of the cell, shares of its width below and above, and whether the grid covers them."""

    cell: Tensor
    from_low: Tensor
    from_high: Tensor
    is_inside: Tensor


@dataclass(frozen=True, eq=False)
class GridMarginals:
    """Independent histograms of d columns on one grid.

    Attributes:
        first: lowest value of the grid, the centre of its first cell.
        width: width of every cell, the distance of neighbouring values.
        log_shares: log of the probability of every cell of every column, ``(d, cells)``, float64.
    """

    first: float
    width: float
    log_shares: Tensor
    _below: Tensor = field(init=False, repr=False)
    _above: Tensor = field(init=False, repr=False)

    __repr__ = brief

    def __post_init__(self) -> None:
        """Compute once the probabilities below and above every cell, each summed from its own end."""
        shares = self.log_shares.double().exp()
        nothing = shares.new_zeros(len(shares), 1)
        below = torch.cat([nothing, shares.cumsum(1)[:, :-1]], 1)
        above = torch.cat([shares.flip(1).cumsum(1)[:, :-1].flip(1), nothing], 1)
        for name, value in (("log_shares", self.log_shares.double()), ("_below", below), ("_above", above)):
            object.__setattr__(self, name, value)

    @property
    def ends(self) -> tuple[float, float]:
        """Lower end of the first and upper end of the last cell."""
        lower = self.first - 0.5 * self.width
        return lower, lower + self.width * self.log_shares.shape[1]

    def tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """F(x) and 1 - F(x) of values ``x`` ``(*, d)``, each with full relative accuracy; NaN outside the grid."""
        place = self._place(x)
        share = self._pick(self.log_shares, place.cell).exp()
        outside = torch.where(place.is_inside, 0.0, torch.nan)
        lower = self._pick(self._below, place.cell) + share * place.from_low + outside
        return lower, self._pick(self._above, place.cell) + share * place.from_high + outside

    def log_density(self, x: Tensor) -> Tensor:
        """log density of each column at values ``x`` ``(*, d)``, nats; NaN outside the grid."""
        place = self._place(x)
        density = self._pick(self.log_shares, place.cell) - math.log(self.width)
        return density + torch.where(place.is_inside, 0.0, torch.nan)

    def quantiles(self, u: Tensor) -> Tensor:
        """The values x with F(x) = Phi(u) of standard normal scores ``u`` ``(*, d)``, float64."""
        flat = u.double().reshape(-1, u.shape[-1]).T.contiguous()
        low, high = torch.special.ndtr(flat), torch.special.ndtr(-flat)
        below, above, shares = (part.to(flat) for part in (self._below, self._above, self.log_shares.exp()))
        num_cells = shares.shape[1]
        from_below = torch.searchsorted(below.contiguous(), low, right=True) - 1
        # Above the median the smaller tail is the upper one: its cells are those whose upper rest is not below it.
        from_above = num_cells - torch.searchsorted(above.flip(1).contiguous(), high)
        # Beyond a score of about 38 the smaller tail underflows to 0; it then belongs to the cell at its end of the grid.
        cell = torch.where(flat < 0, from_below, from_above).clamp(0, num_cells - 1)
        share = shares.gather(1, cell)
        part = torch.where(flat < 0, (low - below.gather(1, cell)) / share, 1 - (high - above.gather(1, cell)) / share)
        # A quotient of rounded differences may leave its cell by a rounding error.
        part = part.clamp(0.0, 1.0)
        return (self.ends[0] + self.width * (cell + part)).T.reshape(u.shape)

    def select(self, columns: Tensor) -> GridMarginals:
        """The histograms of the columns with the indices ``columns``."""
        return GridMarginals(self.first, self.width, self.log_shares[columns])

    def _place(self, x: Tensor) -> _Place:
        position = (x.double() - self.ends[0]) / self.width
        num_cells = self.log_shares.shape[1]
        is_inside = (position > 0) & (position < num_cells)
        cell = torch.where(is_inside, position.detach(), 0.0).floor()
        return _Place(cell.long(), position - cell, cell + 1 - position, is_inside)

    def _pick(self, table: Tensor, cell: Tensor) -> Tensor:
        """Entries of a table ``(d, cells)`` at cells ``(*, d)``; an index into the flat table also works under vmap."""
        start = torch.arange(len(table), device=cell.device) * table.shape[1]
        return table.to(cell.device).flatten().index_select(0, (start + cell).reshape(-1)).reshape(cell.shape)


class GridHistograms(DataTransform):
    r"""u_i = Phi^{-1}(F_i(x_i)) with the histogram of every column on one grid, as of the grey levels of images.

    The log-Jacobian is :math:`\sum_i \log p_{ik} / w - \log\phi(u_i)`, so N(0, I) in u is exactly the model of independent
    pixels. Constant columns have a histogram too: they are uniform in their cell, and N(0, 1) in u.

    Args:
        marginals: histograms of the columns.

    >>> halves = GridMarginals(0.0, 1.0, torch.tensor([[0.5, 0.5]]).log())
    >>> transform = GridHistograms(halves)
    >>> transform.inv(transform(torch.tensor([[-0.25], [0.5], [1.25]]))).flatten().tolist()
    [-0.25, 0.5, 1.25]
    """

    kind = "grid_histograms"

    def __init__(self, marginals: GridMarginals) -> None:
        super().__init__()
        self.marginals = marginals
        lower, upper = (torch.full((len(marginals.log_shares),), end).double() for end in marginals.ends)
        self._bounds = Bounds(lower, upper)

    @property
    def bounds(self) -> Bounds:
        """The ends of the grid."""
        return self._bounds

    @property
    def tail_scale(self) -> Tensor:
        """Scale 1 of every column: the distance to an end is proportional to the tail probability there."""
        return torch.ones(len(self.marginals.log_shares), dtype=torch.float64)

    def to_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The grid, and the log shares of its cells."""
        marginals = self.marginals
        settings = {"kind": self.kind, "first": marginals.first, "width": marginals.width}
        return settings, {"log_shares": marginals.log_shares}

    @classmethod
    def from_state(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """The map with the grid in ``settings`` and the histograms in ``tensors``."""
        return cls(GridMarginals(settings["first"], settings["width"], tensors["log_shares"]))

    def column_log_jacobian(self, x: Tensor) -> Tensor:
        """log p_ik / w - log phi(u_i) of every column of ``x`` ``(*, d)``."""
        return self.with_column_log_jacobian(x)[1]

    def with_column_log_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image of ``x`` ``(*, d)`` and log p_ik / w - log phi(u_i) of every column."""
        u = self._scores(x)
        slope = self.marginals.log_density(x) - log_normal(u)
        return u.to(x.dtype), slope.to(x.dtype)

    def with_log_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image of ``x`` ``(*, d)`` and the sum over the columns of log p_ik / w - log phi(u_i)."""
        u = self._scores(x)
        slope = self.marginals.log_density(x) - log_normal(u)
        return u.to(x.dtype), slope.sum(-1).to(x.dtype)

    def select(self, columns: Tensor) -> GridHistograms:
        """The map of some columns alone, given by their indices."""
        return GridHistograms(self.marginals.select(columns))

    def marginal_log_density(self, x: Tensor) -> Tensor:
        """log density of each column of ``x`` ``(*, d)`` under its histogram, nats, float64."""
        return self.marginals.log_density(x)

    def carry_tail(self, scale: Tensor) -> Tensor:
        """Inf for any ``scale``: growth before a quantile map is not followed."""
        return torch.full(scale.shape, math.inf, dtype=torch.float64)

    def describe(self) -> list[str]:
        """One line for all columns."""
        num_columns, num_cells = self.marginals.log_shares.shape
        lower, upper = self.marginals.ends
        return [f"all {num_columns} columns: smoothed histograms of {num_cells} values on {lower:g} to {upper:g}"]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum over the columns of log p_ik / w - log phi(u_i)."""
        return (self.marginals.log_density(x) - log_normal(y)).sum(-1).to(x.dtype)

    def _scores(self, x: Tensor) -> Tensor:
        """Standard normal scores of ``x``, float64, from the smaller of both tails."""
        below, above = self.marginals.tails(x)
        is_low = below < above
        score = torch.special.ndtri(torch.where(is_low, below, above))
        return torch.where(is_low, score, -score)

    def _call(self, x: Tensor) -> Tensor:
        return self._scores(x).to(x.dtype)

    def _inverse(self, y: Tensor) -> Tensor:
        x: Any = Quantiles.apply(y.double().clamp(-FARTHEST_SCORE, FARTHEST_SCORE), self.marginals, self._bounds)
        return x if y.dtype == x.dtype else self._bounds.nearest_inside(x.to(y.dtype))


def fit_grid_histograms(
    x: Tensor, *, first: float, width: float, num_cells: int, weights: Tensor | None = None
) -> GridHistograms:
    r"""Fit the histogram of every column, with the smoothing that predicts left-out rows best.

    The probability of a cell is :math:`(1 - s) c_k + s \sum_j T_{kj} c_j + a / \text{cells}`, over its sum, with counts c
    and a triangle T. Atoms, cells with far more rows than their neighbours, stay as they are. The share s, the half width of
    the triangle and the number a of even rows are the same for all columns. They maximise the mean log probability of every
    row under the counts of all others, which follows from the counts alone.

    Args:
        x: values of the grid ``(rows, d)``, which may be dequantised; 8-bit images may be uint8.
        first: lowest value of the grid.
        width: distance of neighbouring values.
        num_cells: number of values of the grid.
        weights: relative weight of each row, ``(rows,)``; all equal when not given.

    Raises:
        DataError: fewer than two rows, or values outside the grid.

    >>> transform = fit_grid_histograms(torch.tensor([[0], [0], [1]]), first=0.0, width=1.0, num_cells=3)
    >>> shares = transform.marginals.log_shares.exp()
    >>> bool(shares[0, 0] > shares[0, 1] > shares[0, 2] > 0), round(float(shares.sum()), 6)
    (True, 1.0)
    """
    if len(x) < 2:
        raise DataError(f"histograms need at least 2 rows, got {len(x)}")
    counts = _counts(x, first, width, num_cells, weights)
    total = counts.sum(1, keepdim=True)
    best, chosen = -math.inf, counts
    for smooth, own in _smoothed(counts):
        for even in EVEN_ROWS:
            # A row's own cell without that row, whose weight is about 1. The clamp is for lighter rows, and for empty cells,
            # which count for nothing.
            left = (smooth - own).clamp_min(0.0) + even / num_cells
            score = float((counts * (left.log() - (total - 1 + even).log())).sum())
            if score > best:
                best, chosen = score, smooth + even / num_cells
    return GridHistograms(GridMarginals(first, width, (chosen / chosen.sum(1, keepdim=True)).log()))


def _smoothed(counts: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Counts under every smoothing, with what a row contributes to its own cell, each ``(d, cells)``."""
    yield counts, torch.ones_like(counts)
    is_atom = _atoms(counts)
    bulk = counts.masked_fill(is_atom, 0.0)
    place = torch.arange(counts.shape[1])
    distance = (place[:, None] - place).abs()
    for spread in SPREADS:
        triangle = (spread - distance).clamp_min(0).to(counts)  # 0 beyond its half width
        triangle = triangle / triangle.sum(1, keepdim=True)
        gain, own = bulk @ triangle - bulk, (triangle.diagonal() - 1).expand_as(counts).masked_fill(is_atom, 0.0)
        for share in SPREAD_SHARES:
            yield counts + share * gain, 1 + share * own


def _atoms(counts: Tensor) -> Tensor:
    """Which cells hold far more rows than their neighbours, ``(d, cells)``."""
    inside = functional.pad(counts.cumsum(1), (1, 0))
    place = torch.arange(counts.shape[1])
    # Cells at an end of the grid have fewer neighbours.
    low, high = (place - ATOM_REACH).clamp_min(0), (place + ATOM_REACH + 1).clamp_max(counts.shape[1])
    others = (inside[:, high] - inside[:, low] - counts) / (high - low - 1)
    return counts > ATOM_RATIO * (1 + others)


def _counts(x: Tensor, first: float, width: float, num_cells: int, weights: Tensor | None) -> Tensor:
    """Weighted counts of every cell of every column, ``(d, cells)``, float64, with a total of one for each row."""
    num_columns = x.shape[1]
    counts = torch.zeros(num_columns * num_cells, dtype=torch.float64)
    starts = torch.arange(num_columns) * num_cells
    own = None if weights is None else weights.double() / weights.double().mean()
    size = max(1, MOST_COUNTED // num_columns)
    for start in range(0, len(x), size):
        part = x[start : start + size]
        cell = ((part.double() - first) / width + 0.5).floor().long()
        if not bool(((cell >= 0) & (cell < num_cells)).all()):
            row, column = ((cell < 0) | (cell >= num_cells)).nonzero()[0].tolist()
            raise DataError(
                f"row {start + row}, column {column}: expected a value from {first:g} to "
                f"{first + width * (num_cells - 1):g}, got {float(part[row, column]):g}"
            )
        share = None if own is None else own[start : start + size, None].expand(part.shape).flatten()
        counts += torch.bincount((cell + starts).flatten(), weights=share, minlength=len(counts))
    return counts.reshape(num_columns, num_cells)
