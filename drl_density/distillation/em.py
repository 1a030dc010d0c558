r"""EM distillation of an energy sequence into a one-step generator.

The student's draws g(z) are states of level 0. With a and s of the step from level 0 to t, its noised states are

.. math:: x_t = a\, g(z) + s\, \epsilon.

The E-step corrects such pairs of x_t and z towards the teacher's :math:`q_t(x_t) p(z \mid x_t)`. It takes Langevin steps in
the coordinates (epsilon, z) with the gap :math:`\Delta = \nabla \log q_t - \nabla \log p_t`. The M-step regresses
:math:`a g(z)` onto the corrected states. Noise cancellation takes the injected noise out of the regression target and keeps
the drift: the same signal at far lower variance.

Source: Xie et al. 2024 (arXiv 2405.16852); the constants here are our own choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from drl_density.autograd import outside_inference_mode
from drl_density.descent import DescentRule, descend
from drl_density.devices import normal_draws
from drl_density.distillation.gaps import DenoisedGap, Gap, KnownGap, Score
from drl_density.distillation.generator import OneStepGenerator
from drl_density.model import EnergySequence
from drl_density.records.fields import (
    Chance,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_fields,
)
from drl_density.records.given import given_or_default
from drl_density.schedule import NoiseSchedule
from drl_density.shapes import per_row

BETAS = (0.0, 0.99)
"""Adam's decay rates for the student, the paper's: no momentum, as the gap changes with every step."""
GAP_BETAS = (0.5, 0.99)
"""Adam's decay rates for what learns the gap, with little momentum for the same reason."""


@dataclass(frozen=True)
class EMDistillationSettings:
    """Numbers of updates and steps, batch size and learning rates of EM distillation.

    Attributes:
        num_steps: number of updates of the student.
        batch_size: number of pairs in each step.
        num_corrections: Langevin steps K of the E-step; 1 with ``step_latent`` 0 is variational score distillation.
        step_noise: Langevin step size of epsilon.
        step_latent: Langevin step size of z.
        cancellation: "none", "accumulated" (noise of the Langevin steps), or "all" (the first epsilon too).
        learning_rate: first learning rate of the student's Adam, which falls to zero as a half cosine.
        score_steps: updates of what learns the gap before each update of the student. A gap that lags behind a fast student
            moves too much mass, and whole modes can be lost. A slow student needs only one.
        score_learning_rate: first learning rate of what learns the gap.
        first_score_steps: updates of what learns the gap before the first update of the student.
        lowest_level: lowest level that is trained at; those below have almost no noise.
        noise_power: power of the noise s that corrections are divided by, in squares: 2 weighs as the likelihood does.
        averaging: decay of the average of the student's weights, which the student has at the end; 0 keeps the last.
    """

    num_steps: NonNegativeInt = 100
    batch_size: PositiveInt = 256
    num_corrections: PositiveInt = 1
    step_noise: NonNegativeFloat = 0.16
    step_latent: NonNegativeFloat = 0.0
    cancellation: Literal["none", "accumulated", "all"] = "all"
    learning_rate: PositiveFloat = 2e-6
    score_steps: NonNegativeInt = 5
    score_learning_rate: PositiveFloat = 3e-4
    first_score_steps: NonNegativeInt = 300
    lowest_level: NonNegativeFloat = 0.25
    noise_power: NonNegativeFloat = 1.0
    averaging: Chance = 0.99

    def __post_init__(self) -> None:
        check_fields(self)


@outside_inference_mode
def distill_by_em(
    teacher: EnergySequence,
    student: OneStepGenerator,
    *,
    gap_network: nn.Module | None = None,
    student_score: Score | None = None,
    settings: EMDistillationSettings | None = None,
    generator: torch.Generator | None = None,
) -> list[float]:
    """Distils a sequence into a one-step generator of level 0 by EM; returns the mean squared correction of every step.

    The corrections shrink as the student learns. The gap between the teacher's scores and the student's is learned or
    known, see :mod:`drl_density.distillation.gaps`.

    Args:
        teacher: sequence whose scores are used; it is never sampled.
        student: generator to be trained in place.
        gap_network: network from states ``(n, *event)`` and log-SNRs ``(n,)`` to vectors that learns the gap, in place, such
            as a :class:`~drl_density.distillation.GapNetwork`.
        student_score: exact score of the noised student as a function of states and levels ``(n,)``, if it is known.

    Raises:
        ValueError: both or none of ``gap_network`` and ``student_score``.
        TrainingFailed: a regression of the student, or a loss of its scores, that is not a finite number.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> teacher = GaussianMixtureSequence.example().model
    >>> student = OneStepGenerator(torch.nn.Linear(2, 2, dtype=torch.float64), num_latents=2)
    >>> settings = EMDistillationSettings(num_steps=3, batch_size=8)
    >>> len(distill_by_em(teacher, student, student_score=lambda x, levels: -x, settings=settings))
    3
    """
    settings = given_or_default(settings, EMDistillationSettings)
    gap = _gap(teacher, student, gap_network, student_score, settings)
    for _ in range(settings.first_score_steps if settings.score_steps else 0):
        gap.learn(_levels(teacher.num_levels, settings, generator), generator)
    corrections: list[float] = []

    def loss_of() -> Tensor:
        for _ in range(settings.score_steps):
            gap.learn(_levels(teacher.num_levels, settings, generator), generator)
        levels = _levels(teacher.num_levels, settings, generator)
        pairs = correct_pairs(teacher.schedule, student, gap, levels, settings, generator)
        corrections.append(pairs.mean_drift)
        misfit = (pairs.target - pairs.alpha * student(pairs.latents)).square().flatten(1).sum(1)
        return (misfit * pairs.sigma.flatten().pow(-settings.noise_power)).mean()

    weights = list(student.parameters())
    averages = [weight.detach().clone() for weight in weights]

    def average(step: int, loss: float) -> None:
        """The average begins as that of all steps, and forgets its start at the rate of the decay."""
        decay = min(settings.averaging, (step + 1) / (step + 10))
        with torch.no_grad():
            for kept, weight in zip(averages, weights, strict=True):
                kept.lerp_(weight, 1 - decay)

    rule = DescentRule(settings.num_steps, settings.learning_rate, betas=BETAS, is_annealed=True)
    descend(weights, loss_of, rule, name="the student's regression", advice="lower the step sizes", on_step=average)
    if settings.averaging:
        with torch.no_grad():
            for kept, weight in zip(averages, weights, strict=True):
                weight.copy_(kept)
    return corrections


@dataclass(frozen=True)
class CorrectedPairs:
    """Result of one E-step.

    Attributes:
        latents: corrected latent codes z, ``(n, num_latents)``.
        target: what alpha g(z) is regressed onto, ``(n, *event)``.
        alpha: signal scale of every row's level, ``(n, 1, ..., 1)``.
        sigma: noise scale of every row's level, ``(n, 1, ..., 1)``.
        mean_drift: mean squared drift of the states, which falls as the student learns.
    """

    latents: Tensor
    target: Tensor
    alpha: Tensor
    sigma: Tensor
    mean_drift: float


def correct_pairs(
    schedule: NoiseSchedule,
    student: OneStepGenerator,
    gap: Gap,
    levels: Tensor,
    settings: EMDistillationSettings,
    generator: torch.Generator | None,
) -> CorrectedPairs:
    """Runs the E-step on fresh pairs of latent codes and noise, one for each of ``levels`` ``(n,)``."""
    latents = student.latents(len(levels), generator=generator)
    with torch.no_grad():
        like = student(latents)
    steps = schedule.step_between(torch.zeros_like(levels), levels)
    alpha, sigma = (per_row(value.to(like), like) for value in steps)
    noise = normal_draws(like.shape, like, generator)
    injected = noise.clone() if settings.cancellation == "all" else torch.zeros_like(noise)
    drift_total = torch.zeros_like(noise)
    for _ in range(settings.num_corrections):
        with torch.set_grad_enabled(settings.step_latent > 0):
            point = latents.detach().requires_grad_(settings.step_latent > 0)
            clean = student(point)
            delta = gap((alpha * clean + sigma * noise).detach(), levels).detach()
            if settings.step_latent:
                (pull,) = torch.autograd.grad((clean * (alpha * delta)).sum(), point)
                shake = normal_draws(latents.shape, latents, generator)
                latents = latents + settings.step_latent * (pull - latents) + math.sqrt(2 * settings.step_latent) * shake
        fresh = normal_draws(noise.shape, noise, generator)
        noise = noise + settings.step_noise * (sigma * delta - noise) + math.sqrt(2 * settings.step_noise) * fresh
        if settings.cancellation != "none":
            injected = (1 - settings.step_noise) * injected + math.sqrt(2 * settings.step_noise) * fresh
        drift_total = drift_total + settings.step_noise * sigma * delta
    with torch.no_grad():
        target = alpha * student(latents) + sigma * (noise - injected)
    return CorrectedPairs(latents.detach(), target.detach(), alpha, sigma, float(drift_total.square().mean()))


def _levels(num_levels: int, settings: EMDistillationSettings, generator: torch.Generator | None) -> Tensor:
    """One level for each pair, spread evenly from the lowest to T in random order, ``(batch_size,)``."""
    count = settings.batch_size
    inside = torch.rand(count, generator=generator, dtype=torch.float64)
    places = (torch.randperm(count, generator=generator) + inside) / count
    return settings.lowest_level + (num_levels - settings.lowest_level) * places


def _gap(
    teacher: EnergySequence,
    student: OneStepGenerator,
    network: nn.Module | None,
    student_score: Score | None,
    settings: EMDistillationSettings,
) -> Gap:
    """What the arguments say the gap is learned from."""
    if (network is None) == (student_score is None):
        raise ValueError("give either a gap_network that learns the gap, or the student's exact student_score")
    if student_score is not None:
        return KnownGap(teacher, student_score)
    assert network is not None  # one of the two was given
    num_steps = settings.first_score_steps + settings.num_steps * settings.score_steps
    rule = DescentRule(num_steps, settings.score_learning_rate, betas=GAP_BETAS, is_annealed=True)
    return DenoisedGap(teacher, network, student, rule)
