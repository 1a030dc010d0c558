"""Some coordinates of a noised Gaussian mixture given the others, in closed form, any pattern in every row."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from drl_density.bases.gaussian_mixture import NoisedGaussianMixture


class MixtureConditional:
    r"""Marginals and conditionals of a :class:`NoisedGaussianMixture` at one noise level.

    With o the observed and m the missing coordinates of a row,
    :math:`p(x_o) = \sum_k w_k N(x_o; \mu_{k,o}, S_{k,oo})`, and :math:`p(x_m \mid x_o)` is the mixture of the
    components' conditionals with weights :math:`\propto w_k N(x_o; \mu_{k,o}, S_{k,oo})`.

    Args:
        mixture: the mixture.
        log_snr: of the level; None for the mixture itself, without noise.

    >>> law = MixtureConditional(NoisedGaussianMixture.standard(2))
    >>> rows, mask = torch.zeros(1, 2), torch.tensor([[True, False]])
    >>> round(float(law.observed_log_density(rows, mask)), 4)
    -0.9189
    """

    def __init__(self, mixture: NoisedGaussianMixture, log_snr: Tensor | None = None) -> None:
        variances, centers = mixture.variances.double(), mixture.centers.double()
        if log_snr is not None:
            signal = torch.sigmoid(log_snr.double())
            variances, centers = signal * variances + torch.sigmoid(-log_snr.double()), signal.sqrt() * centers
        self.log_weights, self.variances = mixture.log_weights.double(), variances
        self.is_diagonal = mixture.is_diagonal
        if self.is_diagonal:
            self.means = centers
            return
        axes = mixture.axes.double()
        self.means = torch.einsum("kde,ke->kd", axes, centers)
        self.factors = axes * variances.sqrt()[:, None, :]
        self.covariances = self.factors @ self.factors.mT

    def observed_log_density(self, x: Tensor, is_missing: Tensor) -> Tensor:
        """log p(x_o) of rows ``(n, d)``, nats, ``(n,)``, float64; what stands in missing places plays no part.

        Args:
            x: rows.
            is_missing: ``(n, d)``.
        """
        rows, masks = x.split(self._share()), is_missing.split(self._share())
        parts = [self._by_component(row, mask)[0].logsumexp(-1) for row, mask in zip(rows, masks, strict=True)]
        return torch.cat(parts)

    def sample(
        self, x: Tensor, is_missing: Tensor, num_draws: int, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Exact draws of the missing coordinates, as whole vectors ``(n, num_draws, d)``, float64.

        A draw of the chosen component is moved by S_mo S_oo^{-1} times the gap between its observed coordinates and the
        given ones (Matheron's rule).

        Args:
            x: rows ``(n, d)``; what stands in missing places plays no part.
            is_missing: ``(n, d)``.
            num_draws: per row.
            generator: source of randomness.
        """
        parts = []
        share = self._share(num_draws)
        for rows, mask in zip(x.double().split(share), is_missing.split(share), strict=True):
            logs, factors = self._by_component(rows, mask)
            chosen = torch.multinomial(logs.softmax(-1), num_draws, replacement=True, generator=generator)
            if factors is None:
                noise = torch.randn(*chosen.shape, rows.shape[1], generator=generator, dtype=torch.float64)
                free = self.means[chosen] + self.variances.sqrt()[chosen] * noise
                parts.append(torch.where(mask[:, None], free, rows[:, None]))
                continue
            noise = torch.randn(*chosen.shape, rows.shape[1], 1, generator=generator, dtype=torch.float64)
            free = self.means[chosen] + (self.factors[chosen] @ noise).squeeze(-1)
            gap = torch.where(mask[:, None], 0.0, rows[:, None] - free)
            picked = factors.gather(1, chosen[..., None, None].expand(*chosen.shape, *factors.shape[2:]))
            solved = torch.cholesky_solve(gap[..., None], picked)
            moved = free + (self.covariances[chosen] @ solved).squeeze(-1)
            parts.append(torch.where(mask[:, None], moved, rows[:, None]))
        return torch.cat(parts)

    def _share(self, num_draws: int = 1) -> int:
        count, num_features = self.means.shape
        return max(1, 4_000_000 // (max(count, num_draws) * num_features ** (1 if self.is_diagonal else 2)))

    def _by_component(self, x: Tensor, is_missing: Tensor) -> tuple[Tensor, Tensor | None]:
        """(log w_k N(x_o; mu_ko, S_koo) ``(n, K)``, Cholesky factors of S_koo with ones for the missing; None for
        independent columns).
        """
        if self.is_diagonal:
            gap = torch.where(is_missing[:, None], 0.0, x.double()[:, None] - self.means)
            heights = torch.where(is_missing[:, None], 0.0, (2 * math.pi * self.variances).log())
            return self.log_weights - 0.5 * (gap.square() / self.variances + heights).sum(-1), None
        seen = (~is_missing).double()[:, None, :]
        block = self.covariances * seen[..., :, None] * seen[..., None, :] + torch.diag_embed(1 - seen)
        factors = torch.linalg.cholesky(block)
        gap = torch.where(is_missing[:, None], 0.0, x.double()[:, None] - self.means)
        whitened = torch.linalg.solve_triangular(factors, gap[..., None], upper=False).squeeze(-1)
        log_det = factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        logs = -0.5 * whitened.square().sum(-1) - log_det - 0.5 * math.log(2 * math.pi) * seen.sum(-1)
        return self.log_weights + logs, factors
