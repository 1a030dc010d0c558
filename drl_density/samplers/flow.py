r"""Sampling by the probability flow, an ordinary differential equation whose solutions share the levels' marginals.

.. math:: \frac{dx}{d\lambda} = \tfrac12 \alpha\,(\hat x_0(x, \lambda) - \alpha x)

from :math:`x_T \sim N(0, I)` down to level 0 by Heun's rule, two denoiser calls per step. DDIM with eta = 0 is Euler's rule
for the same equation in another coordinate. The log-likelihood computed along the way is that of the flow, which is another
density than the energy-based one.

Source: Song et al. 2021 (arXiv 2011.13456), section 4.3, in the log-SNR coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.distributions import SampleResult
from drl_density.model import EnergySequence
from drl_density.partition_function import flow_field
from drl_density.records.fields import NonNegativeFloat, PositiveInt, check_fields
from drl_density.records.given import given_or_default
from drl_density.samplers.walk import Denoiser, DenoisingPrior, StepRecord, falling_levels, starting_noise


@dataclass(frozen=True)
class FlowSettings:
    """Steps by which Heun's method integrates the probability flow.

    Attributes:
        num_steps: number of Heun steps, evenly spaced in level, with two denoiser calls each.
        levels: the levels themselves, falling from T to 0, instead of ``num_steps``.
        has_log_likelihood: whether to integrate the divergence too, at d gradients per call. ``stats["log_likelihood"]``
            ``(num_samples,)`` then holds the flow's log density of every draw.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> FlowSettings(num_steps=2).walk(model)
    (8.0, 4.0, 0.0)
    """

    num_steps: PositiveInt = 30
    levels: tuple[NonNegativeFloat, ...] | None = None
    has_log_likelihood: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    def walk(self, model: DenoisingPrior) -> tuple[float, ...]:
        """The levels from T to 0.

        Raises:
            ValueError: levels that do not fall from T to 0.
        """
        return falling_levels(model.num_levels, self.num_steps, self.levels)


@outside_inference_mode
def sample_flow(
    model: EnergySequence,
    num_samples: int,
    *,
    settings: FlowSettings | None = None,
    denoiser: Denoiser | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Draws ``(num_samples, *event)`` by the probability flow.

    Args:
        denoiser: ``denoiser(x, level)``, an estimate of the clean point; the model's own by default.
        noise: states at level T, ``(num_samples, *event)``; draws of N(0, I) by default.
        on_step: called with a :class:`StepRecord` after each step.

    Raises:
        ValueError: levels out of order, noise of another shape, a log-likelihood together with a denoiser of one's own,
            or a ``num_samples`` that is not a positive integer.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> found = sample_flow(model, 4, settings=FlowSettings(num_steps=5, has_log_likelihood=True))
    >>> found.draws.shape, sorted(found.stats)
    (torch.Size([4, 2]), ['log_likelihood'])
    """
    settings = given_or_default(settings, FlowSettings)
    levels = settings.walk(model)
    if denoiser is not None and settings.has_log_likelihood:
        raise ValueError("the flow's log-likelihood is that of the model's own scores: give no denoiser with it")
    x = starting_noise(model, num_samples, generator, noise=noise)
    log_likelihood = model.top.log_prob(x).double()

    def field(state: Tensor, level: float) -> tuple[Tensor, Tensor | float]:
        """Velocity at a state, and the rate at which the log density changes along the flow."""
        if settings.has_log_likelihood:
            velocity, divergence = flow_field(model, state, model.schedule.log_snr_at(level))
            return velocity, -divergence
        clean = model.denoise(state, level) if denoiser is None else denoiser(state, level)
        alpha = float(model.schedule.alpha_at(level))
        return 0.5 * alpha * (clean - alpha * state), 0.0

    for noisier, cleaner in zip(levels, levels[1:], strict=False):
        width = float(model.schedule.log_snr_at(cleaner) - model.schedule.log_snr_at(noisier))
        velocity, change = field(x, noisier)
        ahead, change_ahead = field(x + width * velocity, cleaner)
        x = x + 0.5 * width * (velocity + ahead)
        log_likelihood = log_likelihood + 0.5 * width * (change + change_ahead)
        if on_step is not None:
            on_step(StepRecord(cleaner, x, math.nan))
    return SampleResult(x, {"log_likelihood": log_likelihood} if settings.has_log_likelihood else {})
