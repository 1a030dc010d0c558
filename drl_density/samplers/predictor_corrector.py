"""Predictor steps between levels and corrector chains on each: the corrector is an adjusted kernel on the level's energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.distributions import SampleResult
from drl_density.mcmc import MALA, Kernel, take_steps
from drl_density.model import EnergySequence
from drl_density.samplers.ddim import DDIMSettings, Denoiser, move
from drl_density.samplers.progressive import StepRecord


@dataclass(frozen=True)
class PredictorCorrectorSettings:
    """Walk of the predictor and length of the corrector.

    Attributes:
        walk: of the predictor; eta 1 is the ancestral step.
        num_corrections: kernel steps on every level reached.
        kernel: an adjusted kernel corrects towards the energy-based model itself; ``ULA()`` is the usual choice elsewhere.
        step_size: in units of the level's scale, see ``mcmc``.
    """

    walk: DDIMSettings = field(default_factory=lambda: DDIMSettings(eta=1.0))
    num_corrections: int = 2
    kernel: Kernel = field(default_factory=MALA)
    step_size: float = 0.8


def sample_predictor_corrector(
    model: EnergySequence,
    num_samples: int,
    *,
    settings: PredictorCorrectorSettings | None = None,
    denoiser: Denoiser | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Draws ``(num_samples, *event)``; stats hold the corrector's acceptance rate per level, ``(step, chain)``.

    Args:
        model: the sequence.
        num_samples: draws.
        settings: of the walk and its corrector.
        denoiser: in place of the model's own.
        generator: source of randomness.
        on_step: told after each level.

    Source: Song et al. 2021, algorithm 1; there the corrector is unadjusted.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> sample_predictor_corrector(model, 4, settings=PredictorCorrectorSettings(walk=DDIMSettings(num_steps=5))).draws.shape
    torch.Size([4, 2])
    """
    settings = settings or PredictorCorrectorSettings()
    denoiser = model.denoise if denoiser is None else denoiser
    levels = settings.walk.walk(model)
    shape = (num_samples, *model.event_shape)
    x = normal_draws(shape, model, generator)
    rates: list[Tensor] = []
    for pair in zip(levels, levels[1:], strict=False):
        x = move(model, x, denoiser(x, pair[0]), pair, settings.walk.eta, generator)
        x, rate = correct(model, x, pair[1], settings, generator)
        rates.append(rate)
        if on_step is not None:
            on_step(StepRecord(pair[1], x, float(rate.mean())))
    return SampleResult(x, {"acceptance_rate": torch.stack(rates)})


def correct(
    model: EnergySequence,
    x: Tensor,
    level: float,
    settings: PredictorCorrectorSettings,
    generator: torch.Generator | None,
    *,
    project: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Corrector steps on one level, with scales from the states' own scores: (states, acceptance rate per chain).

    With ``project``, a linear projection of states, the target is the level's density on its image: what the projection
    overwrites has no say in accepting.
    """

    def log_density(state: Tensor) -> Tensor:
        return model.log_density(state if project is None else project(state), level)

    state = settings.kernel.init(x, log_density)
    gradient = state.gradient if project is None else model.score(x, level)
    state, rate, _ = take_steps(
        settings.kernel.with_scale(gradient.square().mean(0).rsqrt()),
        state,
        log_density,
        num_steps=settings.num_corrections,
        step_size=settings.step_size,
        generator=generator,
    )
    return (state.position if project is None else project(state.position)), rate
