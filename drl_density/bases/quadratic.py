"""A wide isotropic Gaussian, which makes an energy of linear growth integrable and leaves it almost unchanged."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from torch import Tensor

from drl_density.bases.contract import Base, Tail, signal_and_noise
from drl_density.bases.mixture_conditional import MixtureConditional
from drl_density.devices import normal_draws


class QuadraticBase(Base):
    r"""The density N(0, S^2 I), which is :math:`\mathcal{N}(0, (\alpha^2 S^2 + \sigma^2) I)` under noise.

    A wide S hardly changes what a network has learned, and still gives exp(base + network) a finite integral. It stores one
    number in any dimension, while :class:`~drl_density.bases.NoisedGaussianMixture` stores d of them or more.

    Args:
        num_features: length d of the vectors.
        scale: standard deviation S, in units of model space.

    Raises:
        ValueError: no features, or a scale that is not positive.

    >>> QuadraticBase(4, 10.0)(torch.zeros(2, 4), torch.tensor(0.0)).shape
    torch.Size([2])
    """

    kind = "quadratic"

    _place: Tensor

    def __init__(self, num_features: int, scale: float) -> None:
        super().__init__()
        if num_features < 1 or not scale > 0:
            raise ValueError(f"expected at least one feature and a positive scale, got {num_features} and {scale}")
        self._num_features, self.scale = num_features, float(scale)
        # An empty tensor that moves with the module: draws get its dtype and device.
        self.register_buffer("_place", torch.empty(0), persistent=False)

    @property
    def num_features(self) -> int:
        """Length d of the vectors."""
        return self._num_features

    @property
    def tail(self) -> Tail:
        """Quadratic decay, with covariance S^2 I."""
        return Tail.QUADRATIC

    def to_state(self) -> dict[str, Any]:
        """Plain values that give the whole density."""
        return {"kind": self.kind, "num_features": self.num_features, "scale": self.scale}

    @classmethod
    def from_state(cls, values: dict[str, Any]) -> Self:
        """Build the density from the saved ``values``."""
        return cls(values["num_features"], values["scale"])

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density without noise of rows ``x`` ``(n, *event)``, in nats, ``(n,)``."""
        return self(x, torch.tensor(math.inf))  # sigmoid(inf) is exactly 1 and sigmoid(-inf) exactly 0

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw independent vectors ``(num_samples, d)``."""
        return self.scale * normal_draws((num_samples, self.num_features), self._place, generator)

    def noised(self, log_snr: Tensor) -> QuadraticBase:
        """Build the density of the noised vectors at one log-SNR ``()``."""
        signal, noise = signal_and_noise(log_snr, torch.empty(0, dtype=torch.float64))
        other = QuadraticBase(self.num_features, float((signal * self.scale**2 + noise).sqrt()))
        return other.to(self._place)

    def covariances(self, log_snr: Tensor | None = None) -> Tensor:
        """Covariance ``(1, d, d)`` at one log-SNR ``()``; None means without noise."""
        signal, noise = signal_and_noise(log_snr, self._place if log_snr is None else log_snr)
        variance = signal * self.scale**2 + noise
        return variance * torch.eye(self.num_features)[None].to(variance)

    def expected_error(self, log_snr: Tensor) -> Tensor:
        r"""Expected squared error of the scaled score against the noise.

        .. math:: E\lVert \sigma s(x) + \varepsilon \rVert^2 = d\, \alpha^2 S^2 / (\alpha^2 S^2 + \sigma^2)

        Args:
            log_snr: log-SNRs of any shape, which is the shape of the result.
        """
        carried = torch.sigmoid(log_snr) * self.scale**2
        return self.num_features * carried / (carried + torch.sigmoid(-log_snr))

    def conditional(self, log_snr: Tensor | None = None) -> MixtureConditional:
        """Marginals and conditionals at one log-SNR ``()``; None means without noise."""
        signal, noise = signal_and_noise(log_snr, torch.empty(0, dtype=torch.float64, device=self._place.device))
        centers = torch.zeros(1, self.num_features, dtype=torch.float64, device=self._place.device)
        variance = signal * self.scale**2 + noise
        return MixtureConditional(torch.zeros_like(centers[:, 0]), centers, variance.expand_as(centers).clone())

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Log density of noised rows, in nats, ``(n,)``, in the dtype of ``x``.

        Args:
            x: rows of shape ``(n, *event)``.
            log_snr: ``()`` for all rows or ``(n,)``.
        """
        log_snr = log_snr.to(x)
        variance = torch.sigmoid(log_snr) * self.scale**2 + torch.sigmoid(-log_snr)
        distance = x.flatten(1).square().sum(1) / variance
        return -0.5 * (distance + self.num_features * (2 * math.pi * variance).log())
