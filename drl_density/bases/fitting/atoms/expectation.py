"""Expectation maximisation for many mixtures of spike-and-slab products at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from drl_density.bases.atoms import AtomCells, AtomConditional
from drl_density.records.brief import brief

LEAST_VARIANCE = 3e-3
"""Variance added to every slab; model space has unit variances. Ten times more or less changed scores by 0.1 nats."""

LEAST_SLAB, LEAST_ATOM = 1e-3, 1e-4
"""Probabilities that are added to each slab and to each cell before smoothing, for values that no row of a fold has."""

LEAST_START = 0.5
"""Smoothing of the first components, each of which is one row."""


@dataclass(frozen=True, eq=False)
class AtomRows:
    r"""Rows as features of a mixture of spike-and-slab products, and the prior that all components share.

    Attributes:
        cells: cells of the spikes.
        features: features of the rows, ``(n, A + 3 d)``; see :meth:`AtomCells.features`.
        shared: part of the log density that all components share, ``(n,)``.
        shares: probabilities of cells and slabs over all rows, ``(A + d,)``.
        means: means of the slabs over all rows, ``(d,)``.
        squares: mean squares of the slabs over all rows, ``(d,)``.
    """

    cells: AtomCells
    features: Tensor
    shared: Tensor
    shares: Tensor
    means: Tensor
    squares: Tensor

    __repr__ = brief

    @classmethod
    def of(cls, u: Tensor, cells: AtomCells) -> Self:
        """Features of complete rows, with their own prior.

        Args:
            u: rows ``(n, d)`` in model space.
            cells: cells of the spikes.
        """
        features, shared = cells.features(u.double())
        atoms, slabs, sums, squares = features.mean(0).split([len(cells.columns), *[cells.num_features] * 3])
        # A column whose rows all lie in cells has the standard normal as its slab.
        held = torch.where(slabs > 0, slabs, 1.0)
        means, squares = sums / held, torch.where(slabs > 0, squares / held, 1.0)
        return cls(cells, features, shared, torch.cat([atoms + LEAST_ATOM, slabs + LEAST_SLAB]), means, squares)

    def scored(self, u: Tensor) -> Self:
        """Features of other rows with the prior of these ones.

        Args:
            u: other rows ``(m, d)`` in model space.
        """
        features, shared = self.cells.features(u.double())
        return type(self)(self.cells, features, shared, self.shares, self.means, self.squares)


@dataclass(frozen=True, eq=False)
class AtomBatch:
    """A batch of B mixtures of K components each.

    Attributes:
        log_weights: log weights of the components, ``(B, K)``; -inf for a component that holds no row.
        log_shares: log probabilities of cells and slabs, ``(B, K, A + d)``.
        means: means of the slabs, ``(B, K, d)``.
        variances: variances of the slabs, ``(B, K, d)``.
        cells: cells of the spikes.
    """

    log_weights: Tensor
    log_shares: Tensor
    means: Tensor
    variances: Tensor
    cells: AtomCells

    __repr__ = brief

    def log_joint(self, rows: AtomRows) -> Tensor:
        """Log of weight times density without what components share, ``(B, K, n)``.

        Args:
            rows: features of the rows.
        """
        law = AtomConditional(
            self.log_weights.flatten(),
            self.log_shares.flatten(0, 1),
            self.means.flatten(0, 1),
            self.variances.flatten(0, 1),
            self.cells,
        )
        joint = law.coefficients.T @ rows.features.T + law.log_weights[:, None]
        return joint.unflatten(0, self.log_weights.shape)

    def log_prob(self, rows: AtomRows) -> Tensor:
        """Log density of rows under every mixture, ``(B, n)``.

        Args:
            rows: features of the rows.
        """
        return self.log_joint(rows).logsumexp(1) + rows.shared


def fit_atom_batch(
    rows: AtomRows,
    weights: Tensor,
    num_components: int,
    *,
    smoothing: float,
    num_iterations: int = 30,
    tolerance: float = 1e-3,
    generator: torch.Generator | None = None,
) -> AtomBatch:
    r"""Fit B mixtures of spike-and-slab products by expectation maximisation, all at once.

    The probabilities of a component are smoothed towards those of all rows, as if it held c further rows:

    .. math:: p_{kja} = \frac{n_{kja} + c\, \bar p_{ja}}{n_k + c}, \qquad
        \mu_{kj} = \frac{\sum u_j + c\, \bar\mu_j}{n_{kj0} + c}

    with sums over the rows of the component, for the slabs over those outside the cells. Variances likewise. Slabs are
    fitted as normal densities that are not truncated, which is approximate, and evaluated as truncated ones.

    Args:
        rows: features of the rows.
        weights: weights of the rows in each mixture ``(B, n)``; at least ``num_components`` of each are positive.
        num_components: number K of components of every mixture.
        smoothing: number c of further rows.
        num_iterations: limit of the iterations.
        tolerance: gain of the mean log density, in nats a row, below which the iterations of all mixtures end.
        generator: source of the rows that components start at.

    Raises:
        ValueError: fewer rows of positive weight than components.

    >>> cells = AtomCells(torch.tensor([0]), torch.tensor([[0.0, 0.1]]).double(), 1)
    >>> rows = AtomRows.of(torch.tensor([[0.05]] * 30 + [[2.0], [2.2]] * 5), cells)
    >>> batch = fit_atom_batch(rows, torch.ones(1, 40), 1, smoothing=0.1)
    >>> batch.log_shares.exp().round(decimals=2), batch.means.round(decimals=1)
    (tensor([[[0.7500, 0.2500]]], dtype=torch.float64), tensor([[[2.1000]]], dtype=torch.float64))
    """
    weights = weights.double()
    if int((weights > 0).sum(1).min()) < num_components:
        raise ValueError(f"expected at least {num_components} rows of positive weight, one for each component")
    total = weights.sum(1)
    first = rows.features[torch.multinomial(weights, num_components, generator=generator)]
    even = torch.full(first.shape[:2], 1 / num_components, dtype=torch.float64)
    batch = _maximized(rows, first, torch.ones_like(even), even.log(), max(smoothing, LEAST_START))
    score = torch.full_like(total, -math.inf)
    for _ in range(num_iterations):
        joint = batch.log_joint(rows)
        log_density = joint.logsumexp(1)
        previous, score = score, (log_density * weights).sum(1) / total
        if bool((score - previous < tolerance).all()):
            break
        shares = (joint - log_density[:, None]).exp() * weights[:, None]
        held = shares.sum(-1)
        batch = _maximized(rows, shares @ rows.features, held, (held / total[:, None]).log(), smoothing)
    return batch


def _maximized(rows: AtomRows, sums: Tensor, held: Tensor, log_weights: Tensor, smoothing: float) -> AtomBatch:
    """The mixtures that follow from the sums of features ``(B, K, A + 3 d)`` over the rows of each component."""
    num_atoms, num_features = len(rows.cells.columns), rows.cells.num_features
    counts, totals, squares = sums.split([num_atoms + num_features, num_features, num_features], dim=-1)
    shares = (counts + smoothing * rows.shares) / (held[..., None] + smoothing)
    slabs = counts[..., num_atoms:] + smoothing
    means = (totals + smoothing * rows.means) / slabs
    variances = (squares + smoothing * rows.squares) / slabs - means.square() + LEAST_VARIANCE
    return AtomBatch(log_weights, shares.log(), means, variances, rows.cells)
