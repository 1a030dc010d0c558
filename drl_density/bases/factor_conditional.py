"""Closed-form marginals and conditionals of factor analysers, with any pattern of missing coordinates in every row."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from drl_density.bases.contract import Conditional, Numbers
from drl_density.bases.gaussian_mixture import draw_of_each
from drl_density.devices import normal_draws
from drl_density.log_weights import chosen_by_share

MOST_NUMBERS = 4_000_000
"""Largest number of float64 entries of one intermediate tensor (32 MB)."""


class FactorConditional(Conditional):
    r"""Marginals and conditionals of a mixture of factor analysers.

    Given the factors z, coordinates are independent. Observed coordinates o therefore act on the missing ones only through
    :math:`z \mid x_o, k \sim N(M^{-1} W_o^\top \psi_o^{-1} (x_o - \mu_o),\ M^{-1})` with
    :math:`M = I + W_o^\top \psi_o^{-1} W_o`, and no matrix is larger than r x r. All tensors are float64.

    :meth:`FactorAnalysers.conditional` builds it.

    Args:
        log_weights: logarithms of the weights, ``(K,)``.
        means: means of the components, ``(K, d)``.
        loadings: factor loadings W, ``(K, d, r)``.
        noises: variances psi of the independent noise, ``(K, d)``.

    >>> from drl_density.bases import FactorAnalysers
    >>> analysers = FactorAnalysers(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 2, 1), torch.ones(1, 2))
    >>> rows, mask = torch.zeros(1, 2), torch.tensor([[True, False]])
    >>> round(float(analysers.conditional().observed_log_density(rows, mask)), 4)  # log N(0; 0, 2)
    -1.2655
    """

    def __init__(self, log_weights: Tensor, means: Tensor, loadings: Tensor, noises: Tensor) -> None:
        self.log_weights, self.means, self.loadings, self.noises = log_weights, means, loadings, noises

    def observed_log_density(self, x: Tensor, is_missing: Tensor) -> Tensor:
        """See :meth:`Conditional.observed_log_density <drl_density.bases.Conditional.observed_log_density>`."""
        share = self._rows_at_once(1)
        parts = [
            self._posterior(rows, mask)[0].logsumexp(-1)
            for rows, mask in zip(x.double().split(share), is_missing.split(share), strict=True)
        ]
        return torch.cat(parts)

    def draw(self, x: Tensor, is_missing: Tensor, num_samples: int, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """See :meth:`Conditional.draw <drl_density.bases.Conditional.draw>`."""
        (num_rows, num_points, num_features), num_factors = x.shape, self.loadings.shape[-1]
        found, heights = (
            [x.new_empty(0, num_points, num_samples, num_features).double()],
            [x.new_empty(0, num_points).double()],
        )
        for some in torch.arange(num_rows).split(max(1, self._rows_at_once(num_samples) // max(1, num_points))):
            noise = numbers(some, (num_points, num_samples, 1 + num_factors + num_features)).flatten(0, 1)
            rows = x[some].double().flatten(0, 1)
            mask = is_missing[some].repeat_interleave(num_points, 0)
            logs, centers, triangles = self._posterior(rows, mask)
            chosen = chosen_by_share(logs.softmax(-1).cumsum(-1), torch.special.ndtr(noise[..., 0]))
            index = torch.arange(len(rows))[:, None]
            scores, residuals = noise[..., 1 : 1 + num_factors], noise[..., 1 + num_factors :]
            # L^-T e has covariance M^-1 for M = L L^T.
            spread = torch.linalg.solve_triangular(triangles[index, chosen].mT, scores[..., None], upper=True)
            factors = centers[index, chosen] + spread.squeeze(-1)
            carried = torch.einsum("nsdr,nsr->nsd", self.loadings[chosen], factors)
            drawn = self.means[chosen] + carried + self.noises[chosen].sqrt() * residuals
            whole = torch.where(mask[:, None], drawn, rows[:, None])
            found.append(whole.reshape(len(some), num_points, num_samples, num_features))
            heights.append(logs.logsumexp(-1).reshape(len(some), num_points))
        return torch.cat(found), torch.cat(heights)

    def draw_factors(self, x: Tensor, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw the component ``(n,)`` and the factors ``(n, r)`` of whole rows.

        Args:
            x: rows of shape ``(n, d)``.
        """
        logs, centers, triangles = self._posterior(x, torch.zeros(x.shape, dtype=torch.bool, device=x.device))
        chosen = draw_of_each(logs, generator)
        index = torch.arange(len(x), device=x.device)
        noise = normal_draws(centers.shape[::2], centers, generator)[..., None]
        spread = torch.linalg.solve_triangular(triangles[index, chosen].mT, noise, upper=True)
        return chosen, centers[index, chosen] + spread.squeeze(-1)

    def _rows_at_once(self, num_samples: int) -> int:
        count, num_features, num_factors = self.loadings.shape
        return max(1, MOST_NUMBERS // (max(count, num_samples) * num_features * num_factors))

    def _posterior(self, x: Tensor, is_missing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log of w_k N(x_o; mu_ko, S_koo) ``(n, K)``; means ``(n, K, r)`` and Cholesky factors of M of the factors."""
        seen = (~is_missing).double()[:, None]
        gap = torch.where(is_missing[:, None], 0.0, x[:, None] - self.means)
        precision = seen / self.noises
        inner = weighted_gram(precision, self.loadings)
        triangles = torch.linalg.cholesky(inner + torch.eye(inner.shape[-1]).to(inner))
        pulled = torch.einsum("nkd,kdr->nkr", gap * precision, self.loadings)
        centers = torch.cholesky_solve(pulled[..., None], triangles).squeeze(-1)
        rest = gap - torch.einsum("nkr,kdr->nkd", centers, self.loadings)
        distance = (rest.square() * precision).sum(-1) + centers.square().sum(-1)
        heights = 0.5 * (seen * (2 * math.pi * self.noises).log()).sum(-1)
        log_det = triangles.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return self.log_weights - heights - log_det - 0.5 * distance, centers, triangles


def weighted_gram(weights: Tensor, loadings: Tensor) -> Tensor:
    """Compute W^T diag(w) W for every component, ``(n, K, r, r)``.

    For many rows of weights, products of loadings are formed first, so that nothing of size n K d r is stored. For few, the
    weighted loadings are smaller than these products. Measured on two cores, products are faster from n = 3 r / 4 on.

    Args:
        weights: diagonals w, ``(n, K, d)``.
        loadings: loadings W, ``(K, d, r)``.

    >>> weighted_gram(torch.ones(1, 1, 3), torch.ones(1, 3, 2))[0, 0]
    tensor([[3., 3.],
            [3., 3.]])
    """
    if 4 * len(weights) < 3 * loadings.shape[2]:
        return (weights[..., None] * loadings).mT @ loadings
    products = (loadings[..., :, None] * loadings[..., None, :]).flatten(2)
    grams = weights.transpose(0, 1) @ products
    return grams.transpose(0, 1).unflatten(-1, (loadings.shape[2], loadings.shape[2]))
