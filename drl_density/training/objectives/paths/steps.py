"""Steps of a path over the noise levels: the noising step, the reverse step, and their densities."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.model import EnergySequence


class Step(NamedTuple):
    """The step of a path from a cleaner level t to a noisier one u, with the constants of x_u = a x_t + s eps.

    Attributes:
        cleaner: continuous level t.
        noisier: continuous level u.
        alphas: signal scales of t and u.
        sigmas: noises of t and u.
        scale: a.
        noise: s.
    """

    cleaner: float
    noisier: float
    alphas: tuple[float, float]
    sigmas: tuple[float, float]
    scale: float
    noise: float

    @property
    def factors(self) -> tuple[float, float]:
        """Factors of x_u and of the clean row in the mean of x_t given both."""
        squared = self.sigmas[1] ** 2
        return self.scale * self.sigmas[0] ** 2 / squared, self.alphas[0] * self.noise**2 / squared

    @property
    def variance(self) -> float:
        """Variance of x_t given x_u and the clean row."""
        return (self.noise * self.sigmas[0] / self.sigmas[1]) ** 2


def noised_pair(x: Tensor, step: Step, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Rows at both levels of a step, the noisier made from the cleaner."""
    cleaner = step.alphas[0] * x + step.sigmas[0] * normal_draws(x.shape, x, generator)
    return cleaner, step.scale * cleaner + step.noise * normal_draws(x.shape, x, generator)


def base_and_score(model: EnergySequence, x: Tensor, log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """Log density of the base at one level and its gradient, both without a graph."""
    with torch.enable_grad():
        point = x.detach().requires_grad_(True)
        value = model.base_at(point, log_snr)
        (score,) = torch.autograd.grad(value.sum(), point)
    return value.detach(), score


def clean_rows(noisier: Tensor, score: Tensor, step: Step) -> Tensor:
    """Clean rows that a score at the noisier level of a step estimates, by Tweedie's formula."""
    return (noisier + step.sigmas[1] ** 2 * score) / step.alphas[1]


def reverse_mean(noisier: Tensor, score: Tensor, step: Step) -> Tensor:
    """Mean of the reverse step: that of x_t given x_u and the clean row that the score estimates."""
    first, second = step.factors
    return first * noisier + second * clean_rows(noisier, score, step)


def log_kernels(cleaner: Tensor, noisier: Tensor, mean: Tensor, step: Step, variances: Tensor) -> Tensor:
    """log q(x_u | x_t) - log r(x_t | x_u) of every row, ``(batch,)``."""
    forward = (noisier - step.scale * cleaner).square() / step.noise**2 + 2 * math.log(step.noise)
    backward = (cleaner - mean).square() / variances.reshape(mean.shape[1:]) + variances.reshape(mean.shape[1:]).log()
    return 0.5 * (backward - forward).flatten(1).sum(1)
