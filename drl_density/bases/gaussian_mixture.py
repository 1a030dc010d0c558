"""A Gaussian mixture seen through the noise: the fixed part of an energy, exact at every level."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from drl_density.networks.distinct_levels import by_row, distinct_levels


class NoisedGaussianMixture(nn.Module):
    r"""log density of a Gaussian mixture after the noise of any level, normalised at every one.

    .. math:: \log \sum_k w_k\, \mathcal{N}(x;\ \alpha \mu_k,\ \alpha^2 C_k + \sigma^2 I)

    Each component is kept by the axes and variances of its covariance, so that every level's covariance is diagonal in
    the same axes and nothing is factorised again; components of independent columns have no axes to keep or to multiply
    by. It has no trainable parameter and satisfies the networks' contract: a call maps ``x`` ``(batch, *event)`` and
    log-SNR ``()`` or ``(batch,)`` to ``(batch,)``.

    Args:
        weights: positive, summing to 1, shape ``(K,)``.
        means: shape ``(K, d)``.
        covariances: positive definite, shape ``(K, d, d)``; or variances of independent columns, ``(K, d)``.

    Raises:
        ValueError: shapes that do not fit, weights that are not a distribution, a covariance that is not positive
            definite.

    >>> mixture = NoisedGaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])
    >>> mixture(torch.zeros(3, 2), torch.tensor(0.0)).shape
    torch.Size([3])
    """

    has_bounded_growth = False
    is_integrable = True

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        super().__init__()
        count, num_features = means.shape
        shapes = ((count, num_features, num_features), (count, num_features))
        if weights.shape != (count,) or covariances.shape not in shapes:
            raise ValueError(
                "expected weights (K,), means (K, d), covariances (K, d, d) or variances (K, d), got "
                f"{tuple(weights.shape)}, {tuple(means.shape)}, {tuple(covariances.shape)}"
            )
        if not bool((weights > 0).all()) or abs(float(weights.sum()) - 1) > 1e-4:
            raise ValueError(f"weights must be positive and sum to 1, got {weights.tolist()}")
        variances, axes, centers = covariances.double(), None, means.double()
        if covariances.ndim == 3:
            variances, axes = torch.linalg.eigh(variances)
            centers = torch.einsum("kd,kde->ke", centers, axes)
        if not bool((variances > 0).all()):
            raise ValueError(
                f"every covariance must be positive definite, least eigenvalue {float(variances.min()):.3g}"
            )
        self.register_buffer("log_weights", weights.double().log().float())
        self.register_buffer("variances", variances.float())
        self.register_buffer("axes", None if axes is None else axes.float())
        self.register_buffer("centers", centers.float())

    @classmethod
    def standard(cls, num_features: int) -> NoisedGaussianMixture:
        """One component N(0, I): standard normal at every level.

        Args:
            num_features: d.
        """
        return cls(torch.ones(1), torch.zeros(1, num_features), torch.ones(1, num_features))

    @classmethod
    def empty(cls, num_components: int, num_features: int, *, is_diagonal: bool = False) -> NoisedGaussianMixture:
        """A mixture of the right shape whose buffers are about to be loaded.

        Args:
            num_components: K.
            num_features: d.
            is_diagonal: whether its columns are independent within each component.
        """
        spread = torch.ones(num_features) if is_diagonal else torch.eye(num_features)
        weights = torch.full((num_components,), 1 / num_components)
        return cls(weights, torch.zeros(num_components, num_features), spread.expand(num_components, *spread.shape))

    @property
    def is_diagonal(self) -> bool:
        """Whether columns are independent within each component, which is kept without axes then."""
        return self.axes is None

    @property
    def num_components(self) -> int:
        """K."""
        return len(self.log_weights)

    @property
    def num_features(self) -> int:
        """d."""
        return self.centers.shape[1]

    def covariances(self, log_snr: Tensor) -> Tensor:
        """Covariance of every component at one ``log_snr`` ``()``, shape ``(K, d, d)``."""
        signal, noise = (torch.sigmoid(value).to(self.variances) for value in (log_snr, -log_snr))
        variances = signal * self.variances + noise
        return torch.diag_embed(variances) if self.is_diagonal else (self.axes * variances[:, None]) @ self.axes.mT

    def expected_error(self, log_snr: Tensor) -> Tensor:
        r"""Expected squared error of its scaled score against the noise, as for one component alone: shape of ``log_snr``.

        .. math:: E\lVert \sigma s(x) + \varepsilon \rVert^2
            = \textstyle\sum_k w_k \sum_i \alpha^2 v_{ki} / (\alpha^2 v_{ki} + \sigma^2)

        Args:
            log_snr: any shape.
        """
        signal, noise = (torch.sigmoid(value)[..., None, None] for value in (log_snr, -log_snr))
        carried = signal * self.variances.to(log_snr)
        return ((carried / (carried + noise)).sum(-1) * self.log_weights.to(log_snr).exp()).sum(-1)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """log density of ``x`` ``(batch, *event)`` at ``log_snr`` ``()`` or ``(batch,)``, in the dtype of ``x``."""
        flat = x.reshape(x.shape[0], -1)
        distinct, row_level = distinct_levels(log_snr.to(x))
        signal, noise = (torch.sigmoid(value)[..., None, None] for value in (distinct, -distinct))
        scales = (signal * self.variances.to(x) + noise).rsqrt()
        centers = signal.sqrt() * self.centers.to(x) * scales
        heights = scales.log().sum(-1) + self.log_weights.to(x)
        projected = flat[:, None] if self.is_diagonal else torch.tensordot(flat, self.axes.to(x), dims=([1], [1]))
        whitened = projected * by_row(scales, row_level) - by_row(centers, row_level)
        parts = by_row(heights, row_level) - 0.5 * whitened.square().sum(-1)
        return parts.logsumexp(-1) - 0.5 * flat.shape[1] * math.log(2 * math.pi)
