r"""Ancestral sampling with the normal approximation of the recovery conditionals: one Gaussian draw per level, no chain.

.. math:: x_t = x' + \frac{s^2}{a^2} \nabla F_t(x') + \frac{s}{a}\,\epsilon, \qquad x' = x_{t+1} / a

The error of each step is of order :math:`s^4`, so many short steps are needed. Chains on the conditionals
(:func:`~drl_density.samplers.sample_progressive`) need fewer levels and become exact as they grow longer.

Source: Gao et al. 2021 (arXiv 2012.08125), section 3.2, the setting with T = 1000.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from drl_density.autograd import outside_inference_mode
from drl_density.devices import normal_draws
from drl_density.distributions import SampleResult
from drl_density.model import EnergySequence
from drl_density.records.fields import NonNegativeFloat, PositiveInt, check_fields
from drl_density.records.given import given_or_default
from drl_density.samplers.walk import Denoiser, StepRecord, falling_levels, starting_noise


@dataclass(frozen=True)
class AncestralSettings:
    """Steps of ancestral sampling down the noise levels.

    Attributes:
        num_steps: number of steps from level T to level 0, evenly spaced in level.
        levels: the levels themselves, falling from T to 0, instead of ``num_steps``.
    """

    num_steps: PositiveInt = 200
    levels: tuple[NonNegativeFloat, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def walk(self, model: EnergySequence) -> tuple[float, ...]:
        """The levels from T to 0.

        Raises:
            ValueError: levels out of order, or so far apart that the approximation overshoots, s / a > sigma.
        """
        levels = falling_levels(model.num_levels, self.num_steps, self.levels)
        log_snr = model.schedule.log_snr_at(torch.tensor(levels, dtype=torch.float64))
        longest = float(log_snr.diff().max())
        # (s / a)^2 = sigma^2 (exp(step of log-SNR) - 1), which exceeds sigma^2 beyond log 2.
        if longest > math.log(2):
            needed = math.ceil((len(levels) - 1) * longest / math.log(2))
            raise ValueError(
                f"the normal approximation needs short steps: {len(levels) - 1} steps overshoot, give about {needed} "
                "or more, or use DDIM or progressive sampling"
            )
        return levels


@outside_inference_mode
def sample_ancestral(
    model: EnergySequence,
    num_samples: int,
    *,
    settings: AncestralSettings | None = None,
    denoiser: Denoiser | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Draws ``(num_samples, *event)`` by one Gaussian step per level.

    Args:
        denoiser: ``denoiser(x, level)`` instead of the model's own; the score follows from it by Tweedie's formula.
        on_step: called with a :class:`StepRecord` after each step.

    Raises:
        ValueError: levels out of order, too few steps, or a ``num_samples`` that is not a positive integer.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> sample_ancestral(model, 4, settings=AncestralSettings(num_steps=20)).draws.shape
    torch.Size([4, 2])
    """
    levels = given_or_default(settings, AncestralSettings).walk(model)
    denoiser = model.denoise if denoiser is None else denoiser
    x = starting_noise(model, num_samples, generator)
    for noisier, cleaner in zip(levels, levels[1:], strict=False):
        step_alpha, step_sigma = map(float, model.schedule.step_between(cleaner, noisier))
        alpha, sigma = float(model.schedule.alpha_at(cleaner)), float(model.schedule.sigma_at(cleaner))
        center, spread = x / step_alpha, step_sigma / step_alpha
        score = (alpha * denoiser(center, cleaner) - center) / sigma**2
        noise = normal_draws(x.shape, x, generator)
        x = center + spread**2 * score + spread * noise
        if on_step is not None:
            on_step(StepRecord(cleaner, x, math.nan))
    return SampleResult(x)
