"""Sequences of models in which every quantity is known in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from drl_density.model import EnergySequence
from drl_density.records.brief import brief
from drl_density.schedule import Level, NoiseSchedule


class MixtureLogDensity(nn.Module):
    """Log density of a noised Gaussian mixture plus an offset that depends on the level, as a network.

    Unlike the bases it computes in float64, so that tests can compare digits.

    Args:
        weights: weights of the components ``(K,)``.
        means: means of the components ``(K, d)``.
        covariances: covariances of the components ``(K, d, d)``.
        offsets: constant and slope in log-SNR of the offset.
    """

    log_weights: Tensor
    means: Tensor
    variances: Tensor
    axes: Tensor
    flat_axes: Tensor
    centers: Tensor

    has_bounded_growth = True

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor, offsets: tuple[float, float]) -> None:
        super().__init__()
        values, vectors = torch.linalg.eigh(covariances.double())
        self.register_buffer("log_weights", weights.double().log())
        self.register_buffer("means", means.double())
        self.register_buffer("variances", values)
        self.register_buffer("axes", vectors)
        # (d, K d): the projections on all axes of all components are one product.
        self.register_buffer("flat_axes", vectors.transpose(0, 1).flatten(1))
        self.register_buffer("centers", torch.einsum("kd,kde->ke", means.double(), vectors))
        self.offsets = offsets

    def offset(self, log_snr: Tensor) -> Tensor:
        """Compute the offset at log-SNRs of any shape, which is log Z of the level, in nats."""
        return self.offsets[0] + self.offsets[1] * log_snr

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Compute log density plus offset of rows ``x`` ``(batch, d)``, shape ``(batch,)``."""
        log_snr = log_snr.double()
        alpha_squared = torch.sigmoid(log_snr)[..., None, None]
        variances = alpha_squared * self.variances + torch.sigmoid(-log_snr)[..., None, None]
        heights = self.log_weights - 0.5 * (variances.log() + math.log(2 * math.pi)).sum(-1)
        projected = (x.double() @ self.flat_axes).unflatten(1, self.centers.shape)
        whitened = (projected - alpha_squared.sqrt() * self.centers) * variances.rsqrt()
        return torch.logsumexp(heights - 0.5 * whitened.square().sum(-1), -1) + self.offset(log_snr)


@dataclass(frozen=True, eq=False)
class GaussianMixtureSequence:
    r"""Data from the mixture :math:`\sum_k w_k N(\mu_k, S_k)` and all its noised levels, with known log Z.

    Level t is :math:`\sum_k w_k N(\alpha_t \mu_k, \alpha_t^2 S_k + \sigma_t^2 I)`. The model's log density is offset by
    ``offsets[0] + offsets[1] * lambda_t``, so that log Z is known, is not zero, and differs from level to level. All
    quantities are float64.

    Attributes:
        weights: weights of the components, summing to one, ``(K,)``.
        means: means of the components ``(K, d)``.
        covariances: covariances of the components ``(K, d, d)``.
        schedule: noise levels of the sequence.
        offsets: constant and slope in log-SNR of log Z, in nats.

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

    __repr__ = brief

    @classmethod
    def example(
        cls, *, dim: int = 2, num_components: int = 3, schedule: NoiseSchedule | None = None, seed: int = 0
    ) -> GaussianMixtureSequence:
        """Build a system with random means of variance 0.64, full covariances of scale 0.05 to 0.15 and uneven weights.

        Args:
            dim: number d of coordinates.
            num_components: number K of components.
            schedule: noise levels; eight log-spaced levels when not given.
            seed: fixes means and covariances.
        """
        generator = torch.Generator().manual_seed(seed)
        means = 0.8 * torch.randn(num_components, dim, generator=generator, dtype=torch.float64)
        factors = torch.randn(num_components, dim, dim, generator=generator, dtype=torch.float64)
        covariances = 0.05 * torch.eye(dim).double() + 0.05 * factors @ factors.mT / dim
        weights = torch.arange(1, num_components + 1, dtype=torch.float64)
        return cls(weights / weights.sum(), means, covariances, schedule or NoiseSchedule.log_spaced(8))

    @property
    def dim(self) -> int:
        """Number d of coordinates."""
        return self.means.shape[1]

    @property
    def model(self) -> EnergySequence:
        """The system as an :class:`~drl_density.EnergySequence` with exact log densities and their offsets."""
        network = MixtureLogDensity(self.weights, self.means, self.covariances, self.offsets)
        return EnergySequence(
            self.schedule, network, (self.dim,), has_base=False, is_integrable=True, dtype=torch.float64
        )

    def log_z(self, level: Level) -> Tensor:
        """Compute the exact log normaliser of a level, in nats."""
        return self.offsets[0] + self.offsets[1] * self.schedule.log_snr_at(level)

    def marginal(self, level: float) -> MixtureSameFamily:
        """Build the exact normalised distribution of a level."""
        return MixtureSameFamily(Categorical(self.weights), self.components(level))

    def components(self, level: float) -> MultivariateNormal:
        """Build the exact normalised components of a level, a batch of K normal distributions."""
        alpha, sigma = float(self.schedule.alpha_at(level)), float(self.schedule.sigma_at(level))
        covariances = alpha**2 * self.covariances + sigma**2 * torch.eye(self.dim).double()
        return MultivariateNormal(alpha * self.means, covariances)

    def log_prob(self, x: Tensor, level: float) -> Tensor:
        """Compute the exact normalised log density of rows ``x`` ``(n, d)`` at a level, in nats, ``(n,)``."""
        return self.marginal(level).log_prob(x.double())

    def sample(self, num_samples: int, level: float | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Make exact draws of a level, or of clean data for ``level=None``, ``(num_samples, d)``."""
        chosen = torch.multinomial(self.weights, num_samples, replacement=True, generator=generator)
        noise = torch.randn(num_samples, self.dim, 1, generator=generator, dtype=torch.float64)
        clean = self.means[chosen] + (torch.linalg.cholesky(self.covariances)[chosen] @ noise).squeeze(-1)
        return clean if level is None else self.schedule.diffuse(clean, level, generator=generator)

    def recovery(self, x_noisier: Tensor, level: float, *, noisier: float | None = None) -> MixtureSameFamily:
        """Build the exact p(x_level | x_noisier), again a mixture, by Bayes' rule for each component.

        Args:
            x_noisier: given states ``(n, d)``.
            level: continuous level of the cleaner state.
            noisier: level of the given states; one above ``level`` by default.
        """
        noisier = level + 1 if noisier is None else noisier
        step_alpha, step_sigma = map(float, self.schedule.step_between(level, noisier))
        prior = self.components(level)
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
        """Compute the exact posterior mean of the clean row.

        Args:
            x: noised rows ``(n, d)`` of that level.
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
    """Build a system of Gaussian data, the case of one component.

    Args:
        mean: mean of the data ``(d,)``.
        covariance: covariance of the data ``(d, d)``.
        schedule: noise levels of the sequence.
        offsets: constant and slope in log-SNR of log Z.

    >>> system = gaussian_sequence(torch.zeros(2), torch.eye(2), NoiseSchedule.log_spaced(4))
    >>> system.denoise(torch.zeros(1, 2), 0)
    tensor([[0., 0.]], dtype=torch.float64)
    """
    one = torch.ones(1, dtype=torch.float64)
    return GaussianMixtureSequence(one, mean.double()[None], covariance.double()[None], schedule, offsets)
