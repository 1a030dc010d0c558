"""One-dimensional mixtures of normals for all columns of a table at once."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.partition_function.target_bases.product import ProductBase

SIZES = (2, 3)
"""Numbers of components that are tried beside a single normal."""
LEAST_GAIN = 0.002
"""Nats a row that every further component has to gain on the held-out rows."""
NUM_STEPS = 30
"""Steps of expectation maximisation; any mixture is a valid base, converged or not."""
LEAST_VARIANCE = 1e-8
"""Smallest variance of a component, as a share of the column's."""
NORMAL_ERRORS = 4.0
"""Standard errors of skewness and kurtosis within which a column counts as normal and gets no mixture."""


@dataclass(frozen=True)
class Columns:
    """A mixture for every column, components first, padded by components of weight 0.

    Attributes:
        weights: share of each component in each column, ``(K, d)``, columns adding to 1.
        means: means of the components, ``(K, d)``.
        spreads: standard deviations of the components, ``(K, d)``.
        scores: mean log density of each column on the held-out rows, ``(d,)``.
    """

    weights: Tensor
    means: Tensor
    spreads: Tensor
    scores: Tensor

    @property
    def score(self) -> float:
        """Mean log density of the held-out rows under the product of all columns."""
        return float(self.scores.sum())

    def product(
        self, center: Tensor, unit: Tensor, widening: float, like: Tensor, *, kept: Sequence[int] | None = None
    ) -> ProductBase:
        """The product of the columns in units in which a value x stands for ``center + unit * x``.

        Args:
            center: origin of every column, ``(d,)``.
            unit: unit of every column, ``(d,)``.
            widening: factor on every standard deviation.
            like: tensor of the dtype and device to compute in.
            kept: columns of the product; all of them when not given.
        """
        columns = list(range(len(unit)) if kept is None else kept)
        weights, means, spreads = (values[:, columns] for values in (self.weights, self.means, self.spreads))
        moved = center[columns] + unit[columns] * means
        return ProductBase(weights.to(like), moved.to(like), (widening * unit[columns] * spreads).to(like))


def look_normal(rows: Tensor) -> Tensor:
    """Whether skewness and kurtosis of each column of rows ``(n, d)`` are those of a normal, ``(d,)``."""
    count = len(rows)
    # A column that does not vary is 0 / tiny = 0 here, and not 0 / 0.
    scaled = (rows - rows.mean(0)) / rows.std(0).clamp_min(torch.finfo(rows.dtype).tiny)
    skewness, kurtosis = scaled.pow(3).mean(0), scaled.pow(4).mean(0) - 3
    # Standard errors of both for normal rows: sqrt(6 / n) and sqrt(24 / n).
    return (skewness.abs() < NORMAL_ERRORS * (6 / count) ** 0.5) & (
        kurtosis.abs() < NORMAL_ERRORS * (24 / count) ** 0.5
    )


def fit_columns(train: Tensor, held: Tensor) -> Columns:
    """Fit a normal or a mixture of two or three to every column, whichever describes the held-out rows better.

    A column that looks normal gets a single normal.

    Args:
        train: rows to fit to ``(n, d)``, float64, of spread about 1.
        held: rows to score with ``(m, d)``.
    """
    dim, most = train.shape[1], max(SIZES)
    weights, means = torch.zeros(most, dim, dtype=train.dtype), torch.zeros(most, dim, dtype=train.dtype)
    variances = torch.ones(most, dim, dtype=train.dtype)
    weights[0], means[0] = 1.0, train.mean(0)
    variances[0] = train.var(0) + LEAST_VARIANCE
    scores = _log_density(held, weights[:1], means[:1], variances[:1]).mean(0)
    (bent,) = (~look_normal(train)).nonzero(as_tuple=True)
    if not len(bent):
        return Columns(weights, means, variances.sqrt(), scores)
    for size in SIZES:
        fitted = _fit_mixtures(train[:, bent], size)
        reached = _log_density(held[:, bent], *fitted).mean(0) - LEAST_GAIN * (size - 1)
        better = reached > scores[bent]
        chosen = bent[better]
        scores[chosen] = reached[better]
        for whole, part, rest in zip((weights, means, variances), fitted, (0.0, 0.0, 1.0), strict=True):
            whole[:, chosen] = rest
            whole[:size, chosen] = part[:, better]
    return Columns(weights, means, variances.sqrt(), scores)


def _fit_mixtures(rows: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and variances ``(size, d)`` by expectation maximisation, the better of two starts."""
    count, dim = rows.shape
    ordered = rows.sort(0).values
    by_rank = ordered.tensor_split(size)
    first = torch.stack([part.mean(0) for part in by_rank])
    low, high = ordered[count // 100], ordered[-1 - count // 100]
    places = (2 * torch.arange(size, dtype=rows.dtype)[:, None] + 1) / (2 * size)
    second = low + (high - low) * places
    means = torch.cat([first, second], 1)  # both starts side by side, as if they were columns
    variances = torch.cat(
        [torch.stack([part.var(0) for part in by_rank]), ((high - low) / size).square().expand(size, -1)], 1
    )
    weights = torch.full_like(means, 1 / size)
    variances = variances + 1e-4 * rows.var(0).repeat(2)
    both = torch.cat([rows, rows], 1)
    squares = both.square()
    floor = LEAST_VARIANCE * rows.var(0).repeat(2) + torch.finfo(rows.dtype).tiny
    for _ in range(NUM_STEPS):
        terms = _log_joint(both, weights, means, variances)
        shares = (terms - functools.reduce(torch.logaddexp, terms)).exp()
        totals = shares.sum(1).clamp_min(1e-10)  # a component that has lost all rows keeps a mean
        means = torch.einsum("knd,nd->kd", shares, both) / totals
        # Rounding can lift the squared mean above the mean square.
        variances = (torch.einsum("knd,nd->kd", shares, squares) / totals - means.square()).clamp_min(0) + floor
        weights = totals / totals.sum(0)
    reached = _log_density(both, weights, means, variances).mean(0)
    index = torch.arange(dim) + dim * (reached[dim:] > reached[:dim])
    return weights[:, index], means[:, index], variances[:, index]


def _log_joint(rows: Tensor, weights: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """Log weight plus log density of every component at every entry, ``(size, n, d)``."""
    heights = weights.log() - 0.5 * (2 * torch.pi * variances).log()
    return heights[:, None] - 0.5 * (rows - means[:, None]).square() / variances[:, None]


def _log_density(rows: Tensor, weights: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """Log density of every entry, ``(n, d)``."""
    return functools.reduce(torch.logaddexp, _log_joint(rows, weights, means, variances))
