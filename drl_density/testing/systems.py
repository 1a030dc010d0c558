"""Sequences of models whose every quantity is known in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from drl_density.model import EnergySequence
from drl_density.schedule import Level, NoiseSchedule


class MixtureLogDensity(nn.Module):
    """log density of a noised Gaussian mixture plus a level-dependent offset, as a network of an energy sequence."""

    has_bounded_growth = True

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor, offsets: tuple[float, float]) -> None:
        super().__init__()
        values, vectors = torch.linalg.eigh(covariances.double())
        self.register_buffer("log_weights", weights.double().log())
        self.register_buffer("means", means.double())
        self.register_buffer("variances", values)
        self.register_buffer("axes", vectors)
        self.register_buffer(
            "flat_axes", vectors.transpose(0, 1).flatten(1)
        )  # (d, K d): all projections in one product
        self.register_buffer("centers", torch.einsum("kd,kde->ke", means.double(), vectors))
        self.offsets = offsets

    def offset(self, log_snr: Tensor) -> Tensor:
        """The constant added on purpose: log Z of the level."""
        return self.offsets[0] + self.offsets[1] * log_snr

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """log density plus offset, ``(batch,)``."""
        log_snr = log_snr.double()
        alpha_squared = torch.sigmoid(log_snr)[..., None, None]
        variances = alpha_squared * self.variances + torch.sigmoid(-log_snr)[..., None, None]
        heights = self.log_weights - 0.5 * (variances.log() + math.log(2 * math.pi)).sum(-1)
        projected = (x.double() @ self.flat_axes).unflatten(1, self.centers.shape)
        whitened = (projected - alpha_squared.sqrt() * self.centers) * variances.rsqrt()
        return torch.logsumexp(heights - 0.5 * whitened.square().sum(-1), -1) + self.offset(log_snr)


@dataclass(frozen=True)
class GaussianMixtureSequence:
    r"""Data :math:`\sum_k w_k N(\mu_k, S_k)` and all their noised levels, with offsets that are not zero.

    Level t is :math:`\sum_k w_k N(\alpha_t \mu_k, \alpha_t^2 S_k + \sigma_t^2 I)`; the model's log density carries the
    offset ``offsets[0] + offsets[1] * lambda_t``, so that log Z is known and differs from level to level.

    Attributes:
        weights: ``(K,)``, adding to one.
        means: ``(K, d)``.
        covariances: ``(K, d, d)``.
        schedule: noise levels.
        offsets: constant and slope in log-SNR.

    >>> system = GaussianMixtureSequence.example(dim=2, schedule=NoiseSchedule.log_spaced(6))
    >>> x = torch.zeros(1, 2).double()
    >>> gap = system.model.log_density(x, 0) - system.log_prob(x, 0)
    >>> bool(torch.allclose(gap, system.log_z(0)))
    True
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    schedule: NoiseSchedule
    offsets: tuple[float, float] = (7.3, 0.3)

    @classmethod
    def example(
        cls, *, dim: int = 2, num_components: int = 3, schedule: NoiseSchedule | None = None, seed: int = 0
    ) -> GaussianMixtureSequence:
        """Random means of variance 0.64, full covariances of scale 0.05 to 0.15, uneven weights.

        Args:
            dim: d.
            num_components: K.
            schedule: 8 levels when not given.
            seed: of means and covariances.
        """
        generator = torch.Generator().manual_seed(seed)
        means = 0.8 * torch.randn(num_components, dim, generator=generator, dtype=torch.float64)
        factors = torch.randn(num_components, dim, dim, generator=generator, dtype=torch.float64)
        covariances = 0.05 * torch.eye(dim).double() + 0.05 * factors @ factors.mT / dim
        weights = torch.arange(1, num_components + 1, dtype=torch.float64)
        return cls(weights / weights.sum(), means, covariances, schedule or NoiseSchedule.log_spaced(8))

    @property
    def dim(self) -> int:
        """d."""
        return self.means.shape[1]

    @property
    def model(self) -> EnergySequence:
        """The sequence as an :class:`EnergySequence` with exact log densities."""
        network = MixtureLogDensity(self.weights, self.means, self.covariances, self.offsets)
        return EnergySequence(
            self.schedule, network, (self.dim,), has_base=False, is_integrable=True, dtype=torch.float64
        )

    def log_z(self, level: Level) -> Tensor:
        """Exact log normaliser of a level.

        Args:
            level: continuous, in [0, T].
        """
        return self.offsets[0] + self.offsets[1] * self.schedule.log_snr_at(level)

    def marginal(self, level: float) -> MixtureSameFamily:
        """The exact normalised distribution of a level.

        Args:
            level: continuous, in [0, T].
        """
        alpha, sigma = float(self.schedule.alpha_at(level)), float(self.schedule.sigma_at(level))
        covariances = alpha**2 * self.covariances + sigma**2 * torch.eye(self.dim).double()
        return MixtureSameFamily(Categorical(self.weights), MultivariateNormal(alpha * self.means, covariances))

    def log_prob(self, x: Tensor, level: float) -> Tensor:
        """Exact normalised log density.

        Args:
            x: rows ``(n, d)``.
            level: continuous, in [0, T].
        """
        return self.marginal(level).log_prob(x.double())

    def sample(self, num_rows: int, level: float | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Exact draws of a level, or clean data for ``level=None``.

        Args:
            num_rows: draws.
            level: continuous, in [0, T].
            generator: source of randomness.
        """
        chosen = torch.multinomial(self.weights, num_rows, replacement=True, generator=generator)
        noise = torch.randn(num_rows, self.dim, 1, generator=generator, dtype=torch.float64)
        clean = self.means[chosen] + (torch.linalg.cholesky(self.covariances)[chosen] @ noise).squeeze(-1)
        return clean if level is None else self.schedule.diffuse(clean, level, generator=generator)

    def recovery(self, x_noisier: Tensor, level: float, *, noisier: float | None = None) -> MixtureSameFamily:
        """Exact p(x_level | x_noisier) for states ``(n, d)``: again a mixture, by Bayes' rule for each component.

        Args:
            x_noisier: states one level up, or at ``noisier``.
            level: of the cleaner state.
            noisier: of the given state.
        """
        noisier = level + 1 if noisier is None else noisier
        step_alpha, step_sigma = map(float, self.schedule.step_between(level, noisier))
        prior = self.marginal(level).component_distribution
        identity = torch.eye(self.dim).double()
        predicted = step_alpha**2 * prior.covariance_matrix + step_sigma**2 * identity
        gain = step_alpha * prior.covariance_matrix @ torch.linalg.inv(predicted)
        residual = x_noisier.double()[:, None, :] - step_alpha * prior.mean
        means = prior.mean + torch.einsum("kde,nke->nkd", gain, residual)
        covariances = prior.covariance_matrix - step_alpha * gain @ prior.covariance_matrix
        covariances = 0.5 * (covariances + covariances.mT)
        evidence = MultivariateNormal(step_alpha * prior.mean, predicted).log_prob(x_noisier.double()[:, None, :])
        shape = (len(x_noisier), *covariances.shape)
        parts = MultivariateNormal(means, covariances.expand(shape))
        return MixtureSameFamily(Categorical(logits=self.weights.log() + evidence), parts)

    def denoise(self, x: Tensor, level: float) -> Tensor:
        """Exact posterior mean of the clean row given rows ``(n, d)`` of a level.

        Args:
            x: noised rows.
            level: at which they stand.
        """
        alpha, sigma = float(self.schedule.alpha_at(level)), float(self.schedule.sigma_at(level))
        predicted = alpha**2 * self.covariances + sigma**2 * torch.eye(self.dim).double()
        gain = alpha * self.covariances @ torch.linalg.inv(predicted)
        residual = x.double()[:, None, :] - alpha * self.means
        means = self.means + torch.einsum("kde,nke->nkd", gain, residual)
        evidence = MultivariateNormal(alpha * self.means, predicted).log_prob(x.double()[:, None, :])
        return ((self.weights.log() + evidence).softmax(-1)[..., None] * means).sum(1)


def gaussian_sequence(
    mean: Tensor, covariance: Tensor, schedule: NoiseSchedule, *, offsets: tuple[float, float] = (7.3, 0.3)
) -> GaussianMixtureSequence:
    """Gaussian data: the one-component case, our harmonic oscillator.

    Args:
        mean: ``(d,)``.
        covariance: ``(d, d)``.
        schedule: noise levels.
        offsets: constant and slope in log-SNR of log Z.

    >>> system = gaussian_sequence(torch.zeros(2), torch.eye(2), NoiseSchedule.log_spaced(4))
    >>> system.denoise(torch.zeros(1, 2), 0)
    tensor([[0., 0.]], dtype=torch.float64)
    """
    one = torch.ones(1, dtype=torch.float64)
    return GaussianMixtureSequence(one, mean.double()[None], covariance.double()[None], schedule, offsets)
