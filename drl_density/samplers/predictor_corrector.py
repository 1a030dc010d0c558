"""Predictor steps between levels, each followed by corrector chains: adjusted kernel steps on the level's energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.distributions import SampleResult
from drl_density.mcmc import MALA, Kernel, Tuner, take_steps
from drl_density.model import EnergySequence
from drl_density.records.fields import NonNegativeInt, PositiveFloat, check_fields
from drl_density.records.given import given_or_default
from drl_density.samplers.ddim import DDIMSettings, ddim_step
from drl_density.samplers.walk import Denoiser, StepRecord, starting_noise


@dataclass(frozen=True)
class PredictorCorrectorSettings:
    """Steps of the predictor, and kernel steps of the corrector after each of them.

    Attributes:
        walk: DDIM walk of the predictor; eta 1 is the ancestral step.
        num_corrections: kernel steps on every level reached; 0 leaves the predictor alone.
        kernel: kernel of the corrector. An adjusted one corrects towards the energy-based model itself; ``ULA()`` is the
            usual choice elsewhere.
        step_size: step size of the kernel in units of the level's scale.
    """

    walk: DDIMSettings = field(default_factory=lambda: DDIMSettings(eta=1.0))
    num_corrections: NonNegativeInt = 2
    kernel: Kernel = field(default_factory=MALA)
    # MALA's best step size on a standard normal, 1.65 d^(-1/6) (Roberts and Rosenthal 1998), for some 70 dimensions. In
    # fewer dimensions it is shorter than necessary, and accepts more.
    step_size: PositiveFloat = 0.8

    def __post_init__(self) -> None:
        check_fields(self)


@outside_inference_mode
def sample_predictor_corrector(
    model: EnergySequence,
    num_samples: int,
    *,
    settings: PredictorCorrectorSettings | None = None,
    denoiser: Denoiser | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Draws ``(num_samples, *event)`` with the corrector's ``acceptance_rate`` per level, ``(level, chain)``.

    Args:
        denoiser: ``denoiser(x, level)`` of the predictor; the model's own by default.
        on_step: called with a :class:`StepRecord` after each level.

    Raises:
        ValueError: levels out of order, or a ``num_samples`` that is not a positive integer.

    Source: Song et al. 2021 (arXiv 2011.13456), algorithm 1; there the corrector is unadjusted.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model, walk = GaussianMixtureSequence.example().model, DDIMSettings(num_steps=5, eta=1.0)
    >>> sample_predictor_corrector(model, 4, settings=PredictorCorrectorSettings(walk)).draws.shape
    torch.Size([4, 2])
    """
    settings = given_or_default(settings, PredictorCorrectorSettings)
    denoiser = model.denoise if denoiser is None else denoiser
    levels, eta = settings.walk.walk(model), settings.walk.eta
    x = starting_noise(model, num_samples, generator)
    rates: list[Tensor] = []
    for start, end in zip(levels, levels[1:], strict=False):
        x = ddim_step(model, x, denoiser(x, start), start=start, end=end, eta=eta, generator=generator)
        x, rate = correct(model, x, end, settings, generator=generator)
        rates.append(rate)
        if on_step is not None:
            on_step(StepRecord(end, x, float(rate.mean())))
    draws = denoiser(x, 0.0) if settings.walk.is_denoised else x
    return SampleResult(draws, {"acceptance_rate": torch.stack(rates)})


def correct(
    model: EnergySequence,
    x: Tensor,
    level: float,
    settings: PredictorCorrectorSettings,
    *,
    step_size: Tuner | None = None,
    generator: torch.Generator | None = None,
    project: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Corrector steps on one level, with scales from the states' own scores: (states, acceptance rate per chain).

    The step size is that of the settings, or of a tuner that adapts to the steps. With ``project``, a linear projection of
    states, the target is the level's density on the image of the projection: coordinates that the projection overwrites do
    not affect acceptance.
    """

    def log_density(state: Tensor) -> Tensor:
        return model.log_density(state if project is None else project(state), level)

    state = settings.kernel.init(x, log_density)
    gradient = state.gradient if project is None else model.score(x, level)
    # The mean squared score is the Fisher information, whose inverse root is the scale of each coordinate.
    kernel = settings.kernel.with_scale(gradient.square().mean(0).rsqrt())
    state, rate, _ = take_steps(
        kernel,
        state,
        log_density,
        num_steps=settings.num_corrections,
        step_size=settings.step_size if step_size is None else step_size,
        generator=generator,
    )
    return (state.position if project is None else project(state.position)), rate
