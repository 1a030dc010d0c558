"""A mixture of Gaussians with full covariances as a base."""

from __future__ import annotations

import torch
from torch import Tensor

from drl_density.partition_function.factors import covariance_factor
from drl_density.partition_function.target_bases.scale_base import LOG_TWO_PI


class MixtureBase:
    """A mixture of Gaussians with full covariances.

    Args:
        weights: share of each component, ``(K,)``, adding to 1.
        means: mean of each component, ``(K, d)``.
        covariances: covariance of each component, ``(K, d, d)``.
        like: tensor of the dtype and device to compute in.
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor, like: Tensor) -> None:
        factors = covariance_factor(covariances)
        inverse = torch.linalg.inv(factors)
        self.num_components, dim = means.shape
        self.event_shape = torch.Size((dim,))
        heights = weights.double().log() - factors.diagonal(dim1=1, dim2=2).log().sum(1) - 0.5 * dim * LOG_TWO_PI
        self.weights, self.means, self.factors = weights.to(like), means.to(like), factors.to(like)
        self._whiten = inverse.reshape(-1, dim).T.contiguous().to(like)
        self._shift = torch.einsum("kij,kj->ki", inverse, means.double()).flatten().to(like)
        self._heights = heights.to(like)

    def log_joint(self, x: Tensor) -> Tensor:
        """Log weight plus log density of every component at rows ``(n, d)``, ``(n, K)``."""
        whitened = (x @ self._whiten - self._shift).unflatten(1, (self.num_components, -1))
        return self._heights - 0.5 * whitened.square().sum(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        return self.log_joint(x).logsumexp(1)

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``(num_rows, d)``."""
        noise = torch.randn(
            num_rows, self.means.shape[1], generator=generator, dtype=self.means.dtype, device=self.means.device
        )
        if self.num_components == 1:
            return torch.addmm(self.means, noise, self.factors[0].T)
        chosen = torch.multinomial(self.weights, num_rows, replacement=True, generator=generator)
        return self.means[chosen] + (self.factors[chosen] @ noise[..., None]).squeeze(-1)
