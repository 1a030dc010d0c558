"""Closed-form marginals and conditionals of a Gaussian mixture, with any pattern of missing coordinates in every row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from drl_density.devices import normal_draws

MOST_NUMBERS = 4_000_000
"""Largest number of float64 entries of one intermediate tensor (32 MB): small enough to stay in reach of a CPU's caches."""


class MixtureConditional:
    r"""Marginals and conditionals of a Gaussian mixture.

    With o the observed and m the missing coordinates of a row,
    :math:`p(x_o) = \sum_k w_k N(x_o; \mu_{k,o}, S_{k,oo})`, and :math:`p(x_m \mid x_o)` is the mixture of the components'
    conditionals with weights :math:`\propto w_k N(x_o; \mu_{k,o}, S_{k,oo})`. Rows with the same missing coordinates share
    the factors of their matrices. All tensors are float64.

    :meth:`NoisedGaussianMixture.conditional` builds it.

    Args:
        log_weights: logarithms of the weights, ``(K,)``.
        centers: means of the components in the coordinates of their axes, ``(K, d)``.
        variances: variances along the axes, ``(K, d)``.
        axes: axes as columns, ``(K, d, d)``; None for the coordinate axes, that is for independent columns.

    >>> from drl_density.bases import NoisedGaussianMixture
    >>> law = NoisedGaussianMixture.standard(2).conditional()
    >>> rows, mask = torch.zeros(1, 2), torch.tensor([[True, False]])
    >>> round(float(law.observed_log_density(rows, mask)), 4)
    -0.9189
    """

    def __init__(self, log_weights: Tensor, centers: Tensor, variances: Tensor, axes: Tensor | None = None) -> None:
        self.log_weights, self.variances = log_weights, variances
        self.means = centers if axes is None else torch.einsum("kde,ke->kd", axes, centers)
        self.covariances = self.precisions = None
        if axes is not None:
            self.covariances = (axes * variances[:, None, :]) @ axes.mT
            self.precisions = (axes / variances[:, None, :]) @ axes.mT

    def observed_log_density(self, x: Tensor, is_missing: Tensor) -> Tensor:
        """Log density of the observed coordinates of each row, in nats, ``(n,)``, float64.

        Args:
            x: rows of shape ``(n, d)``. Values at missing coordinates are ignored.
            is_missing: which coordinates are missing, ``(n, d)``.
        """
        values = x.new_empty(len(x), dtype=torch.float64)
        for some, pattern in self._patterns(is_missing):
            for part in some.split(self._rows_at_once(1)):
                values[part] = pattern.log_shares(x[part].double()).logsumexp(-1)
        return values

    def sample(
        self, x: Tensor, is_missing: Tensor, num_samples: int, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw the missing coordinates given the observed ones, as whole vectors ``(n, num_samples, d)``, float64.

        Where rows are split into several calls, all draws are the same if each call has a multiple of 16 draws.

        Args:
            x: rows of shape ``(n, d)``. Values at missing coordinates are ignored.
            is_missing: which coordinates are missing, ``(n, d)``.
            num_samples: how many draws to make for each row.
        """
        parts, share = [], self._rows_at_once(num_samples)
        for rows, mask in zip(x.double().split(share), is_missing.split(share), strict=True):
            # One call for all numbers of a row.
            noise = normal_draws((len(rows), num_samples, rows.shape[1] + 1), self.means, generator)
            draws = rows[:, None].repeat(1, num_samples, 1)
            for some, pattern in self._patterns(mask):
                draws[some[:, None, None], torch.arange(num_samples)[:, None], pattern.missing] = pattern.draw(
                    rows[some], noise[some]
                )
            parts.append(draws)
        return torch.cat(parts)

    def _patterns(self, is_missing: Tensor) -> Iterator[tuple[Tensor, _Pattern]]:
        """Indices of the rows of each pattern of missing coordinates, with the conditionals for that pattern."""
        if not len(is_missing):
            return
        distinct, which = is_missing.unique(dim=0, return_inverse=True)
        order, counts = which.argsort(stable=True), which.bincount(minlength=len(distinct))
        for mask, some in zip(distinct, order.split(counts.tolist()), strict=True):
            yield some, _Pattern(self, mask)

    def _rows_at_once(self, num_samples: int) -> int:
        count, num_features = self.means.shape
        wide = 1 if self.covariances is None else num_features
        most = MOST_NUMBERS // max(count * num_features, num_samples * num_features * wide)
        return max(16, most // 16 * 16)  # torch makes normal numbers in blocks of 16


class _Pattern:
    """Conditionals of all components for one set of missing coordinates.

    Args:
        law: the mixture.
        is_missing: which coordinates are missing, ``(d,)``.
    """

    def __init__(self, law: MixtureConditional, is_missing: Tensor) -> None:
        self.law, self.seen, self.missing = law, (~is_missing).nonzero().flatten(), is_missing.nonzero().flatten()

    @cached_property
    def _whitening(self) -> tuple[Tensor, Tensor, Tensor]:
        """Maps from observed coordinates to whitened ones ``(o, K o)``, the whitened means, and heights ``(K,)``."""
        law, seen = self.law, self.seen
        constant = law.log_weights - 0.5 * len(seen) * math.log(2 * math.pi)
        assert law.covariances is not None
        triangles = torch.linalg.cholesky(law.covariances[:, seen][:, :, seen])
        identity = torch.eye(len(seen)).to(triangles).expand_as(triangles)
        maps = torch.linalg.solve_triangular(triangles, identity, upper=False)
        centers = (maps @ law.means[:, seen, None]).squeeze(-1)
        heights = constant - triangles.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return maps.flatten(0, 1).T, centers, heights

    @cached_property
    def _conditional(self) -> tuple[Tensor, Tensor, Tensor]:
        """Linear maps ``(o, K m)`` and offsets ``(K, m)`` of the conditional means, and factors of the covariances.

        They follow from the precision matrix, whose block of the missing coordinates is the inverse of their conditional
        covariance. That block stays positive definite where a difference of covariances would round to zero.
        """
        law, seen, missing = self.law, self.seen, self.missing
        assert law.precisions is not None
        rows = law.precisions[:, missing]
        triangles = torch.linalg.cholesky(rows[:, :, missing])
        gains = -torch.cholesky_solve(rows[:, :, seen], triangles)
        offsets = law.means[:, missing] - (gains @ law.means[:, seen, None]).squeeze(-1)
        identity = torch.eye(len(missing)).to(triangles).expand_as(triangles)
        factors = torch.linalg.solve_triangular(triangles, identity, upper=False).mT
        return gains.flatten(0, 1).T, offsets, factors

    def log_shares(self, rows: Tensor) -> Tensor:
        """Log of w_k N(x_o; mu_ko, S_koo) of rows ``(n, d)``, ``(n, K)``."""
        law, seen = self.law, self.seen
        if law.covariances is None:
            variances = law.variances[:, seen]
            squares = (rows[:, None, seen] - law.means[:, seen]).square() / variances
            return law.log_weights - 0.5 * (squares + (2 * math.pi * variances).log()).sum(-1)
        maps, centers, heights = self._whitening
        whitened = (rows[:, seen] @ maps).unflatten(1, centers.shape) - centers
        return heights - 0.5 * whitened.square().sum(-1)

    def draw(self, rows: Tensor, noise: Tensor) -> Tensor:
        """Draws of the missing coordinates ``(n, num_samples, m)``.

        Args:
            rows: rows ``(n, d)``.
            noise: standard normal numbers ``(n, num_samples, 1 + d)``; the first chooses the component.
        """
        law, missing = self.law, self.missing
        shares = self.log_shares(rows).softmax(-1).cumsum(-1)
        # Rounding can leave the last cumulative share below 1.
        places = torch.special.ndtr(noise[..., 0]) * shares[:, -1:]
        chosen = torch.searchsorted(shares, places).minimum(torch.tensor(shares.shape[1] - 1))
        numbers = noise[..., 1:][..., missing]
        if law.covariances is None:
            return law.means[:, missing][chosen] + law.variances[:, missing].sqrt()[chosen] * numbers
        gains, offsets, factors = self._conditional
        centers = offsets + (rows[:, self.seen] @ gains).unflatten(1, offsets.shape)
        spread = (factors[chosen] @ numbers[..., None]).squeeze(-1)
        return centers.gather(1, chosen[..., None].expand(*chosen.shape, len(missing))) + spread
