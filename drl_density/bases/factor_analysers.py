"""Mixtures of factor analysers: Gaussian mixtures whose covariances are a few factors plus independent noise."""

from __future__ import annotations

import copy
import math
from typing import Any, Self

import torch
from torch import Tensor

from drl_density.bases.contract import Base, NoiseStep, Tail, signal_and_noise
from drl_density.bases.factor_conditional import FactorConditional, weighted_gram
from drl_density.bases.gaussian_mixture import check_weights, draw_components
from drl_density.devices import normal_draws
from drl_density.networks.distinct_levels import by_row, distinct_levels

MOST_NUMBERS = 2**22
"""Numbers in one temporary value of an evaluation, 16 MiB in float32: rows pass in parts of this size."""


class FactorAnalysers(Base):
    r"""A mixture of factor analysers and its exact density under the noise of any level.

    A row of component k is :math:`x = \mu_k + W_k z + \sqrt{\psi_k}\,\varepsilon` with r standard normal factors z, so that

    .. math:: p_\lambda(x) = \sum_k w_k\, \mathcal{N}\big(x;\ \alpha \mu_k,\
        \alpha^2 (W_k W_k^\top + \mathrm{diag}\,\psi_k) + \sigma^2 I\big)

    With D the noised diagonal :math:`\alpha^2 \psi_k + \sigma^2`, :math:`V = \alpha W_k` and
    :math:`M = I + V^\top D^{-1} V`, the Woodbury identity and the determinant lemma reduce every d x d matrix to the r x r
    matrix M. The quadratic form is evaluated as :math:`(g - V\hat z)^\top D^{-1} (g - V\hat z) + |\hat z|^2` with
    :math:`g = x - \alpha\mu_k` and :math:`\hat z = M^{-1} V^\top D^{-1} g`: a sum of squares, in which nothing cancels.

    There are no trainable parameters; the tensors are float32 buffers. An evaluation costs O(n K d r), storage is O(K d r).

    Args:
        weights: weights of the components, positive and summing to 1, shape ``(K,)``.
        means: means of the components, shape ``(K, d)``.
        loadings: factor loadings W of the components, shape ``(K, d, r)`` with r of at least 1.
        noises: variances psi of the independent noise, positive, shape ``(K, d)``.

    Raises:
        ValueError: shapes that do not fit, weights that are not a distribution, or a noise variance that is not positive.

    Source: Ghahramani and Hinton 1996 (CRG-TR-96-1); Richardson and Weiss 2018 (arXiv 1805.12462) for images.

    >>> analysers = FactorAnalysers(torch.ones(1), torch.zeros(1, 3), torch.ones(1, 3, 1), torch.ones(1, 3))
    >>> analysers(torch.zeros(5, 3), torch.tensor(0.0)).shape
    torch.Size([5])
    """

    kind = "factor_analysers"

    log_weights: Tensor
    means: Tensor
    loadings: Tensor
    noises: Tensor

    def __init__(self, weights: Tensor, means: Tensor, loadings: Tensor, noises: Tensor) -> None:
        super().__init__()
        is_fitting = loadings.ndim == 3 and loadings.shape[:2] == means.shape == noises.shape and loadings.shape[2] > 0
        if not is_fitting or weights.shape != means.shape[:1]:
            raise ValueError(
                "expected weights (K,), means (K, d), loadings (K, d, r) and noises (K, d), got "
                f"{tuple(weights.shape)}, {tuple(means.shape)}, {tuple(loadings.shape)}, {tuple(noises.shape)}"
            )
        check_weights(weights)
        if not bool((noises > 0).all()):
            raise ValueError(f"every noise variance must be positive, least one {float(noises.min()):.3g}")
        self.register_buffer("log_weights", weights.double().log().float())
        self.register_buffer("means", means.float())
        self.register_buffer("loadings", loadings.float())
        self.register_buffer("noises", noises.float())

    @property
    def num_components(self) -> int:
        """Number K of components."""
        return len(self.log_weights)

    @property
    def num_features(self) -> int:
        """Length d of the vectors."""
        return self.means.shape[1]

    @property
    def num_factors(self) -> int:
        """Number r of factors of each component."""
        return self.loadings.shape[2]

    @property
    def tail(self) -> Tail:
        """Quadratic decay, with the components' covariances."""
        return Tail.QUADRATIC

    def to_state(self) -> dict[str, Any]:
        """Plain values that give the shapes of the buffers."""
        sizes = {"num_components": self.num_components, "num_features": self.num_features}
        return {"kind": self.kind, **sizes, "num_factors": self.num_factors}

    @classmethod
    def from_state(cls, values: dict[str, Any]) -> Self:
        """Build a mixture of the shape in ``values``, whose buffers wait for ``load_state_dict``."""
        shape = (values["num_components"], values["num_features"])
        weights = torch.full(shape[:1], 1 / shape[0])
        return cls(weights, torch.zeros(shape), torch.zeros(*shape, values["num_factors"]), torch.ones(shape))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density without noise of rows ``x`` ``(n, *event)``, in nats, ``(n,)``."""
        return self(x, torch.tensor(math.inf))  # sigmoid(inf) is exactly 1 and sigmoid(-inf) exactly 0

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw independent vectors ``(num_samples, d)``."""
        chosen = draw_components(self.log_weights, num_samples, generator)
        factors = normal_draws((num_samples, self.num_factors), self.means, generator)
        noise = normal_draws((num_samples, self.num_features), self.means, generator)
        drawn = self.means[chosen] + self.noises[chosen].sqrt() * noise
        for component in chosen.unique().tolist():  # the loadings of all draws together would be r times their size
            own = chosen == component
            drawn[own] += factors[own] @ self.loadings[component].T
        return drawn

    def noised(self, log_snr: Tensor) -> Self:
        """Build the mixture of the noised vectors at one log-SNR ``()``."""
        signal, noise = signal_and_noise(log_snr, self.noises)
        other = copy.deepcopy(self)
        other.means, other.loadings = signal.sqrt() * self.means, signal.sqrt() * self.loadings
        other.noises = signal * self.noises + noise
        return other

    def covariances(self, log_snr: Tensor | None = None) -> Tensor:
        """Covariance of every component ``(K, d, d)`` at one log-SNR ``()``; None means without noise."""
        signal, noise = signal_and_noise(log_snr, self.noises)
        return signal * self.loadings @ self.loadings.mT + torch.diag_embed(signal * self.noises + noise)

    def expected_error(self, log_snr: Tensor) -> Tensor:
        r"""Expected squared error of the scaled score against the noise, as for one component alone.

        .. math:: E\lVert \sigma s(x) + \varepsilon \rVert^2
            = \textstyle\sum_k w_k \big(d - \sigma^2 \mathrm{tr}\,S_k^{-1}\big)

        with the noised covariances S, whose inverses have their trace by the Woodbury identity.

        Args:
            log_snr: log-SNRs of any shape, which is the shape of the result.
        """
        flat = log_snr.reshape(-1)
        signal, noise = (torch.sigmoid(value)[:, None, None] for value in (flat, -flat))
        inverse = 1 / (signal * self.noises.to(flat) + noise)
        loadings = self.loadings.to(flat)
        inner = _inner_matrices(inverse, loadings, signal)
        squared = signal[..., None] * weighted_gram(inverse.square(), loadings)
        trace = inverse.sum(-1) - torch.linalg.solve(inner, squared).diagonal(dim1=-2, dim2=-1).sum(-1)
        errors = self.num_features - noise[..., 0] * trace
        return (errors * self.log_weights.to(flat).exp()).sum(-1).reshape(log_snr.shape)

    def conditional(self, log_snr: Tensor | None = None) -> FactorConditional:
        """Marginals and conditionals at one log-SNR ``()``; None means without noise."""
        signal, noise = signal_and_noise(log_snr, self.noises.double())
        means, loadings = (signal.sqrt() * part.double() for part in (self.means, self.loadings))
        return FactorConditional(self.log_weights.double(), means, loadings, signal * self.noises.double() + noise)

    def _cleaner_states(self, x: Tensor, step: NoiseStep, generator: torch.Generator | None) -> Tensor:
        """Draw component, factors and residuals in turn, given the noisier state; float64 inside."""
        wide = x.double()
        after = FactorConditional(
            self.log_weights.double(),
            step.noisier_signal**0.5 * self.means.double(),
            step.noisier_signal**0.5 * self.loadings.double(),
            step.noisier_signal * self.noises.double() + step.noisier_noise,
        )
        component, factors = after.draw_factors(wide, generator=generator)
        mean = self.means[component].double() + torch.einsum("ndr,nr->nd", self.loadings[component].double(), factors)
        variance = step.signal * self.noises[component].double() + step.noise
        return step.draw_cleaner(wide, step.signal**0.5 * mean, variance, generator).to(x)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Log density of noised rows, in nats, ``(n,)``, in the dtype of ``x``.

        Args:
            x: rows of shape ``(n, *event)``.
            log_snr: ``()`` for all rows or ``(n,)``.
        """
        flat = x.flatten(1)
        levels, row_level = distinct_levels(log_snr.to(x))
        signal, noise = (torch.sigmoid(value).reshape(-1, 1, 1) for value in (levels, -levels))
        variances = signal * self.noises.to(x) + noise
        loadings = self.loadings.to(x)
        triangles = torch.linalg.cholesky(_inner_matrices(1 / variances, loadings, signal))
        heights = self.log_weights.to(x) - 0.5 * variances.log().sum(-1)
        heights = heights - triangles.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        of_levels = signal.sqrt(), variances, triangles, heights
        if levels.numel() == 1:
            row_level = None
        elif row_level is None:  # a device other than the CPU: every row has a level of its own
            row_level = torch.arange(len(flat), device=flat.device)
        means, size = self.means.to(x), max(1, MOST_NUMBERS // self.means.numel())
        values = []
        for start in range(0, max(1, len(flat)), size):
            part = slice(start, start + size)
            level = None if row_level is None else row_level[part]
            alpha, variance, triangle, height = (by_row(each, level) for each in of_levels)
            gap = flat[part][:, None] - alpha * means
            pulled = alpha * torch.einsum("nkd,kdr->nkr", gap / variance, loadings)
            factors = _solved(pulled, triangle)
            rest = gap - alpha * torch.einsum("nkr,kdr->nkd", factors, loadings)
            distance = (rest.square() / variance).sum(-1) + factors.square().sum(-1)
            values.append((height - 0.5 * distance).logsumexp(-1))
        return torch.cat(values) - 0.5 * flat.shape[1] * math.log(2 * math.pi)


def _solved(pulled: Tensor, triangles: Tensor) -> Tensor:
    """Solve the system of every row and component ``(n, K, r)``, given Cholesky factors ``(1 or n, K, r, r)``.

    Rows of one level are the right-hand sides of one system for each component: broadcast over rows, every factor would be
    copied for every row.
    """
    if len(triangles) == 1:
        return torch.cholesky_solve(pulled.permute(1, 2, 0), triangles[0]).permute(2, 0, 1)
    return torch.cholesky_solve(pulled[..., None], triangles).squeeze(-1)


def _inner_matrices(inverse: Tensor, loadings: Tensor, signal: Tensor) -> Tensor:
    """Compute I + alpha^2 W^T D^-1 W, ``(levels, K, r, r)``.

    Args:
        inverse: diagonals of D^-1, ``(levels, K, d)``.
        loadings: loadings W ``(K, d, r)``.
        signal: alpha^2 of each level ``(levels, 1, 1)``.
    """
    identity = torch.eye(loadings.shape[2], dtype=loadings.dtype, device=loadings.device)
    return identity + signal[..., None] * weighted_gram(inverse, loadings)
