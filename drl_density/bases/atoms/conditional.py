"""Marginals and conditionals of a mixture of spike-and-slab products."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from drl_density.bases.atoms.cells import LOG_ROOT_TWO_PI, AtomCells, inside_normal, log_normal_mass
from drl_density.bases.contract import Conditional, Numbers
from drl_density.log_weights import chosen_by_share
from drl_density.records.brief import brief

MOST_NUMBERS = 2**22
"""Largest number of float64 entries of one intermediate tensor (32 MB)."""


@dataclass(frozen=True, eq=False)
class ColumnQuantiles:
    """Inverse cumulative distribution functions of one column under every component.

    The line is divided into the cells and the intervals between them.

    Attributes:
        lower: lower end of every piece, ``(P,)``, ascending.
        upper: upper end of every piece, ``(P,)``.
        cumulative: probability of each piece and those below it under every component, ``(K, P)``.
        means: means of the slabs ``(K,)``.
        spreads: standard deviations of the slabs ``(K,)``.
        bins: ends of the bins of every piece, ``(P, M + 1)``; NaN between the cells.
    """

    lower: Tensor
    upper: Tensor
    cumulative: Tensor
    means: Tensor
    spreads: Tensor
    bins: Tensor

    __repr__ = brief

    def __call__(self, chosen: Tensor, places: Tensor) -> Tensor:
        """Quantiles ``(n,)`` of components ``(n,)`` at probabilities ``(n,)`` in (0, 1)."""
        cumulative = self.cumulative[chosen]
        # The last sum may miss 1 by rounding.
        place = (places * cumulative[:, -1]).clone()
        piece = torch.searchsorted(cumulative, place[:, None], right=True).squeeze(1)
        piece = torch.minimum(piece, torch.tensor(len(self.lower) - 1, device=piece.device))
        before = torch.where(piece > 0, cumulative.gather(1, (piece - (piece > 0).long())[:, None]).squeeze(1), 0.0)
        mass = cumulative.gather(1, piece[:, None]).squeeze(1) - before
        share = (place - before) / mass
        is_cell = ~self.bins[piece, 0].isnan()
        num_bins = self.bins.shape[1] - 1
        bin_ = torch.minimum((share * num_bins).long(), torch.tensor(num_bins - 1, device=piece.device))
        cell_ends = (self.bins[piece, bin_ + side] for side in (0, 1))
        mean, spread = self.means[chosen], self.spreads[chosen]
        gap_ends = ((end[piece] - mean) / spread for end in (self.lower, self.upper))
        low, high = (torch.where(is_cell, cell, gap) for cell, gap in zip(cell_ends, gap_ends, strict=True))
        found = inside_normal(low, high, torch.where(is_cell, share * num_bins - bin_, share))
        return torch.where(is_cell, found, mean + spread * found)


class AtomConditional(Conditional):
    r"""Marginals and conditionals of a mixture of spike-and-slab products, for any pattern of missing coordinates.

    .. math:: p(u_o) = \sum_k w_k \prod_{j \in o} p_{kj}(u_j), \qquad p(u_m \mid u_o) = \sum_k w_k(u_o)
        \prod_{j \in m} p_{kj}(u_j)

    :meth:`AtomMixture.conditional` builds it. All tensors are float64.

    Args:
        log_weights: log weights of the components ``(K,)``, normalised.
        log_shares: log probabilities of cells and slabs ``(K, A + d)``; normalised here for each column.
        means: means of the slabs ``(K, d)``.
        variances: variances of the slabs ``(K, d)``.
        cells: cells of the spikes.

    >>> cells = AtomCells(torch.tensor([0]), torch.tensor([[0.0, 0.1]]).double(), 2)
    >>> shares, one = torch.tensor([[0.5, 0.5, 1.0]]).double().log(), torch.ones(1, 2).double()
    >>> law = AtomConditional(torch.zeros(1).double(), shares, 0 * one, one, cells)
    >>> round(float(law.observed_log_density(torch.tensor([[0.05, 7.0]]), torch.tensor([[False, True]])).exp()), 1)
    5.0
    """

    def __init__(
        self, log_weights: Tensor, log_shares: Tensor, means: Tensor, variances: Tensor, cells: AtomCells
    ) -> None:
        self.log_weights, self.means, self.variances, self.cells = log_weights, means, variances, cells
        self._kept: dict[int, ColumnQuantiles] = {}
        atoms, slabs = log_shares.tensor_split([len(cells.columns)], dim=1)
        slabs = slabs.masked_fill(~cells.has_gap, -torch.inf)
        index = cells.columns.expand_as(atoms)
        top = slabs.scatter_reduce(1, index, atoms, "amax")
        totals = (slabs - top).exp().scatter_add(1, index, (atoms - top.gather(1, index)).exp()).log() + top
        self.atom_shares, self.slab_shares = atoms - totals.gather(1, index), slabs - totals

    @cached_property
    def coefficients(self) -> Tensor:
        """Coefficients ``(A + 3 d, K)`` of the features of a row in the log densities of the components."""
        spreads = self.variances.sqrt()
        heights = self.slab_shares - self.cells.log_gap_mass(self.means, spreads) - spreads.log() - LOG_ROOT_TWO_PI
        heights = heights - 0.5 * self.means.square() / self.variances
        # No row lies outside cells that cover the line.
        heights = torch.where(self.cells.has_gap, heights, 0.0)
        parts = [self.atom_shares, heights, self.means / self.variances, -0.5 / self.variances]
        return torch.cat(parts, 1).T.contiguous()

    def log_joint(self, u: Tensor, is_missing: Tensor | None = None) -> Tensor:
        """Log of weight times density of the observed coordinates under every component, ``(n, K)``.

        Args:
            u: rows ``(n, d)``, float64.
            is_missing: coordinates ``(n, d)`` that do not count; none when not given.
        """
        features, shared = self.cells.features(u, is_missing)
        # Indicators have no gradient, and most features are indicators.
        count = len(self.cells.columns) + self.cells.num_features
        where, values = features[:, :count].detach(), features[:, count:]
        fixed, sloped = self.coefficients[:count], self.coefficients[count:]
        return where @ fixed + values @ sloped + self.log_weights + shared[:, None]

    def observed_log_density(self, x: Tensor, is_missing: Tensor) -> Tensor:
        """See :meth:`Conditional.observed_log_density <drl_density.bases.Conditional.observed_log_density>`."""
        at_once = max(1, MOST_NUMBERS // len(self.log_weights))
        parts = zip(x.double().split(at_once), is_missing.split(at_once), strict=True)
        return torch.cat([self.log_joint(*part).logsumexp(1) for part in parts])

    def draw(self, x: Tensor, is_missing: Tensor, num_samples: int, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """See :meth:`Conditional.draw <drl_density.bases.Conditional.draw>`."""
        x = x.double()
        num_rows, num_points, num_features = x.shape
        draws = x[:, :, None].repeat(1, 1, num_samples, 1)
        heights = x.new_empty(num_rows, num_points)
        at_once = max(1, MOST_NUMBERS // (num_points * max(len(self.log_weights), num_samples * (1 + num_features))))
        for part in torch.arange(num_rows).split(at_once):
            own = is_missing[part].repeat_interleave(num_points, 0)
            logs = self.log_joint(x[part].flatten(0, 1), own)
            heights[part] = logs.logsumexp(1).reshape(len(part), num_points)
            noise = numbers(part, (num_points, num_samples, 1 + num_features)).to(x)
            places = torch.special.ndtr(noise).flatten(0, 1)
            chosen = chosen_by_share(logs.softmax(1).cumsum(1), places[..., 0])
            found = draws[part].flatten(0, 1)
            for column in own.any(0).nonzero().flatten().tolist():
                rows = own[:, column]
                values = self.quantiles(column)(chosen[rows].flatten(), places[rows][..., 1 + column].flatten())
                found[rows, :, column] = values.reshape(-1, num_samples)
            draws[part] = found.reshape(len(part), num_points, num_samples, num_features)
        return draws, heights

    def quantiles(self, column: int) -> ColumnQuantiles:
        """Inverse cumulative distribution functions of one column, kept for the next call.

        Args:
            column: index of the column.
        """
        if column not in self._kept:
            self._kept[column] = self._quantiles(column)
        return self._kept[column]

    def _quantiles(self, column: int) -> ColumnQuantiles:
        cells, spreads = self.cells, self.variances[:, column].sqrt()
        own = cells.columns == column
        where, lower, upper = (each[cells.gaps[0] == column] for each in cells.gaps)
        ends = ((end - self.means[:, column, None]) / spreads[:, None] for end in (lower, upper))
        gaps = log_normal_mass(*ends)
        logs = torch.cat([self.atom_shares[:, own], self.slab_shares[:, column, None] + gaps.log_softmax(1)], 1)
        bins = torch.cat([cells.edges[own], cells.edges.new_full((len(where), cells.edges.shape[1]), torch.nan)])
        lows, highs = torch.cat([cells.lower[own], lower]), torch.cat([cells.upper[own], upper])
        order = lows.argsort()
        cumulative = logs[:, order].exp().cumsum(1)
        return ColumnQuantiles(lows[order], highs[order], cumulative, self.means[:, column], spreads, bins[order])
