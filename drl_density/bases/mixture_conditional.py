"""Closed-form marginals and conditionals of a Gaussian mixture, with any pattern of missing coordinates in every row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from drl_density.bases.contract import Conditional, Numbers
from drl_density.log_weights import chosen_by_share

MOST_NUMBERS = 2**18
"""Largest number of float64 entries of one intermediate tensor (2 MB), which stays in a CPU's cache."""
MOST_KEPT = 2**24
"""Numbers of the matrices that are kept for patterns that come again (128 MB)."""
MOST_COPIED = 2**22
"""Numbers in the copies of matrices that one multiplication of every row with its own may make (32 MB in float64)."""
LARGEST_PRECISION = 1e4
"""Entry of a precision matrix up to which squared distances are sums of products: rounding is below 1e-9 of a nat then."""


class MixtureConditional(Conditional):
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
        self._kept: dict[tuple[bool, ...], _Pattern] = {}
        self.means = centers if axes is None else torch.einsum("kde,ke->kd", axes, centers)
        self.covariances = self.precisions = None
        if axes is not None:
            self.covariances = (axes * variances[:, None, :]) @ axes.mT
            self.precisions = (axes / variances[:, None, :]) @ axes.mT

    def observed_log_density(self, x: Tensor, is_missing: Tensor) -> Tensor:
        """See :meth:`Conditional.observed_log_density <drl_density.bases.Conditional.observed_log_density>`."""
        values = x.new_empty(len(x), dtype=torch.float64)
        for some, pattern in self._patterns(is_missing):
            for part in some.split(self._rows_at_once(1)):
                values[part] = pattern.log_shares(x[part].double()).logsumexp(-1)
        return values

    def draw(self, x: Tensor, is_missing: Tensor, num_samples: int, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """See :meth:`Conditional.draw <drl_density.bases.Conditional.draw>`."""
        x = x.double()
        num_rows, num_points, num_features = x.shape
        draws = x[:, :, None].repeat(1, 1, num_samples, 1)
        heights = x.new_empty(num_rows, num_points)
        flat, places = draws.flatten(1, 2), torch.arange(num_points * num_samples)[:, None]
        for some, pattern in self._patterns(is_missing):
            count = len(pattern.missing)
            at_once = self._rows_at_once(num_points, num_samples * count * max(count, num_features - count))
            for part in some.split(at_once):
                noise = numbers(part, (num_points, num_samples, 1 + count)).to(x.device)
                found, height = pattern.draw(x[part].flatten(0, 1), noise.flatten(0, 1))
                found = found.reshape(len(part), num_points * num_samples, count)
                flat[part[:, None, None], places, pattern.missing] = found
                heights[part] = height.reshape(len(part), num_points)
        return draws, heights

    def _patterns(self, is_missing: Tensor) -> Iterator[tuple[Tensor, _Pattern]]:
        """Indices of the rows of each pattern of missing coordinates, with the conditionals for that pattern."""
        if not len(is_missing):
            return
        distinct, which = is_missing.unique(dim=0, return_inverse=True)
        order, counts = which.argsort(stable=True), which.bincount(minlength=len(distinct))
        for mask, some in zip(distinct, order.split(counts.tolist()), strict=True):
            yield some, self._pattern(mask)

    def _pattern(self, is_missing: Tensor) -> _Pattern:
        """The conditionals for a pattern, kept for the next call as long as there is room."""
        key = tuple(is_missing.tolist())
        if key not in self._kept:
            count, num_features = self.means.shape
            if len(self._kept) >= MOST_KEPT // (2 * count * num_features**2 + 1):
                self._kept.clear()
            self._kept[key] = _Pattern(self, is_missing)
        return self._kept[key]

    def _rows_at_once(self, num_points: int, num_numbers: int = 1) -> int:
        return max(1, MOST_NUMBERS // (max(len(self.means), num_numbers) * num_points))


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
        """Maps from observed coordinates to whitened ones ``(K, o, o)``, the whitened means, and heights ``(K,)``."""
        law, seen = self.law, self.seen
        constant = law.log_weights - 0.5 * len(seen) * math.log(2 * math.pi)
        assert law.covariances is not None
        triangles = torch.linalg.cholesky(law.covariances[:, seen][:, :, seen])
        identity = torch.eye(len(seen)).to(triangles).expand_as(triangles)
        maps = torch.linalg.solve_triangular(triangles, identity, upper=False)
        centers = (maps @ law.means[:, seen, None]).squeeze(-1)
        heights = constant - triangles.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return maps, centers, heights

    @cached_property
    def _products(self) -> tuple[Tensor, Tensor] | None:
        """Pairs (i, j) of observed coordinates ``(2, p)``, and the factors of [1, x, x_i x_j] in the log shares.

        None where the precision matrices are too large for sums of products.
        """
        law, seen = self.law, self.seen
        if law.covariances is None:
            precisions = torch.diag_embed(1 / law.variances[:, seen])
            means = law.means[:, seen]
            constant = law.log_weights - 0.5 * (2 * math.pi * law.variances[:, seen]).log().sum(-1)
        else:
            maps, whitened, constant = self._whitening
            precisions, means = maps.mT @ maps, law.means[:, seen]
        if len(seen) and float(precisions.abs().amax()) > LARGEST_PRECISION:
            return None
        pulled = (precisions @ means[..., None]).squeeze(-1)
        pairs = torch.triu_indices(len(seen), len(seen))
        if law.covariances is None:
            pairs = torch.arange(len(seen)).expand(2, -1)
        doubled = torch.where(pairs[0] == pairs[1], -0.5, -1.0).to(precisions)
        squares = precisions[:, pairs[0], pairs[1]] * doubled
        heights = constant - 0.5 * (pulled * means).sum(-1)
        return pairs, torch.cat([heights[:, None], pulled, squares], 1).T.contiguous()

    @cached_property
    def _conditional(self) -> tuple[Tensor, Tensor, Tensor]:
        """Linear maps ``(K, m, o)`` and offsets ``(K, m)`` of the conditional means, and factors of the covariances.

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
        factors = torch.linalg.solve_triangular(triangles, identity, upper=False).mT.contiguous()
        return gains, offsets, factors

    def log_shares(self, rows: Tensor) -> Tensor:
        """Log of w_k N(x_o; mu_ko, S_koo) of rows ``(n, d)``, ``(n, K)``."""
        law, given = self.law, rows[:, self.seen]
        if self._products is not None:
            pairs, factors = self._products
            products = given[:, pairs[0]] * given[:, pairs[1]]
            return torch.cat([given.new_ones(len(given), 1), given, products], 1) @ factors
        if law.covariances is None:
            variances = law.variances[:, self.seen]
            squares = (given[:, None] - law.means[:, self.seen]).square() / variances
            return law.log_weights - 0.5 * (squares + (2 * math.pi * variances).log()).sum(-1)
        maps, centers, heights = self._whitening
        whitened = (given @ maps.flatten(0, 1).T).unflatten(1, centers.shape) - centers
        return heights - 0.5 * whitened.square().sum(-1)

    def draw(self, rows: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draws of the missing coordinates ``(n, num_samples, m)``, and log densities of the observed ones ``(n,)``.

        Args:
            rows: rows ``(n, d)``.
            noise: standard normal numbers ``(n, num_samples, 1 + m)``; the first chooses the component.
        """
        law, missing, given = self.law, self.missing, rows[:, self.seen]
        logs = self.log_shares(rows)
        top = logs.amax(-1, keepdim=True)
        shares = (logs - top).exp_().cumsum(-1)
        height = top.squeeze(-1) + shares[:, -1].log()
        chosen = chosen_by_share(shares, torch.special.ndtr(noise[..., 0]))
        numbers = noise[..., 1:]
        if law.covariances is None:
            return law.means[:, missing][chosen] + law.variances[:, missing].sqrt()[chosen] * numbers, height
        gains, offsets, factors = self._conditional
        centers = offsets[chosen] + chosen_products(gains, chosen, given[:, None].expand(-1, chosen.shape[1], -1))
        return centers + chosen_products(factors, chosen, numbers), height


def chosen_products(matrices: Tensor, chosen: Tensor, vectors: Tensor) -> Tensor:
    """Multiply each vector with the matrix of its component.

    A few small matrices are copied for every vector. Where the copies would fill the memory, as with thousands of columns,
    the vectors of each component are multiplied at once.

    Args:
        matrices: matrices of the components, ``(K, a, b)``.
        chosen: component of each vector, ``(*batch,)``.
        vectors: vectors, ``(*batch, b)``.

    Returns:
        The products, ``(*batch, a)``.

    >>> chosen_products(torch.stack([torch.eye(2), 2 * torch.eye(2)]), torch.tensor([1, 0]), torch.ones(2, 2)).tolist()
    [[2.0, 2.0], [1.0, 1.0]]
    """
    if chosen.numel() * matrices[0].numel() <= MOST_COPIED:
        return (matrices[chosen] * vectors[..., None, :]).sum(-1)
    products = vectors.new_empty(*chosen.shape, matrices.shape[1])
    for component in chosen.unique().tolist():
        own = chosen == component
        products[own] = vectors[own] @ matrices[component].T
    return products
