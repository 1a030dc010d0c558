"""The small fixed quadratic that makes an energy of linear growth integrable."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class QuadraticBase(nn.Module):
    r"""log density of N(0, S^2 I) after the noise of any level: :math:`\log\mathcal{N}(x; 0, (\alpha^2 S^2 + \sigma^2) I)`.

    A wide S leaves what a network has learned almost alone and still gives exp(base + network) a finite integral. It is one
    number whatever the dimension, where a :class:`~drl_density.networks.NoisedGaussianMixture` keeps its axes.

    Args:
        num_features: d.
        scale: S, in units of model space.

    Raises:
        ValueError: no features, or a scale that is not positive.

    >>> QuadraticBase(4, 10.0)(torch.zeros(2, 4), torch.tensor(0.0)).shape
    torch.Size([2])
    """

    has_bounded_growth = False
    is_integrable = True
    num_components = 1

    def __init__(self, num_features: int, scale: float) -> None:
        super().__init__()
        if num_features < 1 or not scale > 0:
            raise ValueError(f"expected at least one feature and a positive scale, got {num_features} and {scale}")
        self.num_features, self.scale = num_features, float(scale)

    def covariances(self, log_snr: Tensor) -> Tensor:
        """Covariance at one ``log_snr`` ``()``, shape ``(1, d, d)``."""
        variance = torch.sigmoid(log_snr) * self.scale**2 + torch.sigmoid(-log_snr)
        return variance * torch.eye(self.num_features)[None].to(variance)

    def expected_error(self, log_snr: Tensor) -> Tensor:
        r"""Expected squared error of its scaled score against the noise: shape of ``log_snr``.

        .. math:: E\lVert \sigma s(x) + \varepsilon \rVert^2 = d\, \alpha^2 S^2 / (\alpha^2 S^2 + \sigma^2)

        Args:
            log_snr: any shape.
        """
        carried = torch.sigmoid(log_snr) * self.scale**2
        return self.num_features * carried / (carried + torch.sigmoid(-log_snr))

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """log density of ``x`` ``(batch, *event)`` at ``log_snr`` ``()`` or ``(batch,)``."""
        log_snr = log_snr.to(x)
        variance = torch.sigmoid(log_snr) * self.scale**2 + torch.sigmoid(-log_snr)
        distance = x.flatten(1).square().sum(1) / variance
        return -0.5 * (distance + self.num_features * (2 * math.pi * variance).log())
