"""Closed-form marginals and conditionals of a Gaussian mixture, with any pattern of missing coordinates in every row."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MOST_NUMBERS = 4_000_000
"""Largest number of float64 entries of one intermediate tensor (32 MB): small enough to stay in reach of a CPU's caches."""


class MixtureConditional:
    r"""Marginals and conditionals of a Gaussian mixture.

    With o the observed and m the missing coordinates of a row,
    :math:`p(x_o) = \sum_k w_k N(x_o; \mu_{k,o}, S_{k,oo})`, and :math:`p(x_m \mid x_o)` is the mixture of the components'
    conditionals with weights :math:`\propto w_k N(x_o; \mu_{k,o}, S_{k,oo})`. All tensors are float64.

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
        self._factors = None if axes is None else axes * variances.sqrt()[:, None, :]
        self._covariances = None if self._factors is None else self._factors @ self._factors.mT

    def observed_log_density(self, x: Tensor, is_missing: Tensor) -> Tensor:
        """Log density of the observed coordinates of each row, in nats, ``(n,)``, float64.

        Args:
            x: rows of shape ``(n, d)``. Values at missing coordinates are ignored.
            is_missing: which coordinates are missing, ``(n, d)``.
        """
        share = self._rows_at_once(1)
        parts = [
            self._by_component(rows, mask)[0].logsumexp(-1)
            for rows, mask in zip(x.split(share), is_missing.split(share), strict=True)
        ]
        return torch.cat(parts)

    def sample(
        self, x: Tensor, is_missing: Tensor, num_samples: int, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw the missing coordinates given the observed ones, as whole vectors ``(n, num_samples, d)``, float64.

        A draw of the chosen component is moved by S_mo S_oo^{-1} times the difference between the given coordinates and
        its own observed ones (Matheron's rule), which makes it an exact draw of the conditional.

        Args:
            x: rows of shape ``(n, d)``. Values at missing coordinates are ignored.
            is_missing: which coordinates are missing, ``(n, d)``.
            num_samples: how many draws to make for each row.
        """
        parts = []
        share = self._rows_at_once(num_samples)
        for rows, mask in zip(x.double().split(share), is_missing.split(share), strict=True):
            logs, triangles = self._by_component(rows, mask)
            chosen = torch.multinomial(logs.softmax(-1), num_samples, replacement=True, generator=generator)
            noise = torch.randn(*chosen.shape, rows.shape[1], generator=generator, dtype=torch.float64)
            parts.append(torch.where(mask[:, None], self._moved(rows, mask, chosen, noise, triangles), rows[:, None]))
        return torch.cat(parts)

    def _moved(self, rows: Tensor, mask: Tensor, chosen: Tensor, noise: Tensor, triangles: Tensor | None) -> Tensor:
        """Draws of the chosen components ``(n, num_samples, d)``, moved to agree with the observed coordinates."""
        if self._factors is None or self._covariances is None or triangles is None:
            return self.means[chosen] + self.variances.sqrt()[chosen] * noise
        free = self.means[chosen] + (self._factors[chosen] @ noise[..., None]).squeeze(-1)
        gap = torch.where(mask[:, None], 0.0, rows[:, None] - free)
        picked = triangles.gather(1, chosen[..., None, None].expand(*chosen.shape, *triangles.shape[2:]))
        solved = torch.cholesky_solve(gap[..., None], picked)
        return free + (self._covariances[chosen] @ solved).squeeze(-1)

    def _rows_at_once(self, num_samples: int) -> int:
        count, num_features = self.means.shape
        per_row = max(count, num_samples) * num_features ** (1 if self._factors is None else 2)
        return max(1, MOST_NUMBERS // per_row)

    def _by_component(self, x: Tensor, is_missing: Tensor) -> tuple[Tensor, Tensor | None]:
        """Log of w_k N(x_o; mu_ko, S_koo) ``(n, K)``, and Cholesky factors of S_koo with ones for missing coordinates.

        The factors are None for independent columns.
        """
        gap = torch.where(is_missing[:, None], 0.0, x.double()[:, None] - self.means)
        if self._covariances is None:
            heights = torch.where(is_missing[:, None], 0.0, (2 * math.pi * self.variances).log())
            return self.log_weights - 0.5 * (gap.square() / self.variances + heights).sum(-1), None
        seen = (~is_missing).double()[:, None, :]
        block = self._covariances * seen[..., :, None] * seen[..., None, :] + torch.diag_embed(1 - seen)
        triangles = torch.linalg.cholesky(block)
        whitened = torch.linalg.solve_triangular(triangles, gap[..., None], upper=False).squeeze(-1)
        log_det = triangles.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        logs = -0.5 * whitened.square().sum(-1) - log_det - 0.5 * math.log(2 * math.pi) * seen.sum(-1)
        return self.log_weights + logs, triangles
