r"""EM distillation of an energy sequence into a one-step generator.

The E-step corrects (x_t, z) of the noised student towards the teacher's :math:`q_t(x_t) p(z \mid x_t)` by Langevin steps in
the coordinates (epsilon, z) with :math:`\Delta = \nabla \log q_t - \nabla \log p_t`; the M-step regresses
:math:`\alpha_t g(z)` onto the corrected states. Noise cancellation takes the injected noise out of the regression target and
keeps the drift: the same signal at far lower variance.

Source: Xie et al. 2024 (arXiv 2405.16852); the constants here are our own choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.descent import Descent, DescentRule, descend
from drl_density.devices import normal_draws
from drl_density.distillation.generator import OneStepGenerator
from drl_density.model import EnergySequence
from drl_density.records.fields import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, check_fields
from drl_density.shapes import per_row

Score = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class EMDistillationSettings:
    """Sizes of EM distillation.

    Attributes:
        num_steps: number of updates of the student.
        batch_size: number of pairs in each step.
        num_corrections: Langevin steps K of the E-step; 1 with ``step_latent`` 0 is variational score distillation.
        step_noise: Langevin step size of epsilon.
        step_latent: Langevin step size of z.
        cancellation: "none", "accumulated" (noise of the Langevin steps), or "all" (the first epsilon too).
        learning_rate: learning rate of the student's Adam.
        score_steps: updates of a learned score network before each update of the student.
        score_learning_rate: learning rate of the score network's Adam.
        lowest_level: lowest level that is trained at; those below have almost no noise.
    """

    num_steps: PositiveInt = 2000
    batch_size: PositiveInt = 256
    num_corrections: PositiveInt = 8
    step_noise: NonNegativeFloat = 0.16
    step_latent: NonNegativeFloat = 0.01
    cancellation: Literal["none", "accumulated", "all"] = "all"
    learning_rate: PositiveFloat = 1e-3
    score_steps: NonNegativeInt = 1
    score_learning_rate: PositiveFloat = 1e-3
    lowest_level: NonNegativeFloat = 1.0

    def __post_init__(self) -> None:
        check_fields(self)


@outside_inference_mode
def distill_by_em(
    teacher: EnergySequence,
    student: OneStepGenerator,
    *,
    score_network: EnergySequence | None = None,
    student_score: Score | None = None,
    settings: EMDistillationSettings | None = None,
    generator: torch.Generator | None = None,
) -> list[float]:
    """Distils a sequence into a one-step generator by EM; returns the mean squared correction of every step.

    The corrections shrink as the student learns.

    Args:
        teacher: sequence whose scores are used; it is never sampled.
        student: generator to be trained in place.
        score_network: sequence with the same schedule that learns the student's scores by denoising, in place.
        student_score: exact score of the noised student as a function of states and level, if it is known.

    Raises:
        ValueError: both or none of ``score_network`` and ``student_score``.
        TrainingFailed: a regression of the student, or a loss of its scores, that is not a finite number.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> teacher = GaussianMixtureSequence.example().model
    >>> student = OneStepGenerator(torch.nn.Linear(2, 2, dtype=torch.float64), num_latents=2)
    >>> settings = EMDistillationSettings(num_steps=3, batch_size=8, num_corrections=1)
    >>> len(distill_by_em(teacher, student, student_score=lambda x, level: -x, settings=settings))
    3
    """
    settings = settings or EMDistillationSettings()
    if (score_network is None) == (student_score is None):
        raise ValueError("give either a score_network to learn the student's scores with, or their exact student_score")
    learner = None if score_network is None else _ScoreLearner(score_network, student, settings)
    score = student_score if score_network is None else score_network.score
    assert score is not None  # one of the two was given
    corrections: list[float] = []

    def loss_of() -> Tensor:
        if learner is not None:
            for _ in range(settings.score_steps):
                learner.step(generator)
        span = teacher.num_levels - settings.lowest_level
        level = settings.lowest_level + span * float(torch.rand((), generator=generator))
        pairs = correct_pairs(teacher, student, score, level, settings, generator)
        corrections.append(pairs.mean_drift)
        alpha = float(teacher.schedule.alpha_at(level))
        return (pairs.target - alpha * student(pairs.latents)).square().flatten(1).sum(1).mean()

    rule = DescentRule(settings.num_steps, settings.learning_rate, betas=(0.0, 0.99))
    descend(student.parameters(), loss_of, rule, name="the student's regression", advice="lower the step sizes")
    return corrections


@dataclass(frozen=True)
class CorrectedPairs:
    """Result of one E-step.

    Attributes:
        latents: corrected latent codes z, ``(n, num_latents)``.
        target: what alpha g(z) is regressed onto, ``(n, *event)``.
        mean_drift: mean squared drift of the states, which falls as the student learns.
    """

    latents: Tensor
    target: Tensor
    mean_drift: float


def correct_pairs(
    teacher: EnergySequence,
    student: OneStepGenerator,
    student_score: Score,
    level: float,
    settings: EMDistillationSettings,
    generator: torch.Generator | None,
) -> CorrectedPairs:
    """Runs the E-step on fresh pairs of latent codes and noise."""
    alpha, sigma = (float(value(level)) for value in (teacher.schedule.alpha_at, teacher.schedule.sigma_at))
    latents = student.latents(settings.batch_size, generator=generator)
    with torch.no_grad():
        like = student(latents)
    noise = normal_draws(like.shape, like, generator)
    injected = noise.clone() if settings.cancellation == "all" else torch.zeros_like(noise)
    drift_total = torch.zeros_like(noise)
    for _ in range(settings.num_corrections):
        with torch.enable_grad():
            point = latents.detach().requires_grad_(True)
            clean = student(point)
            state = (alpha * clean + sigma * noise).detach()
            gap = teacher.score(state, level) - student_score(state, level)
            (pull,) = torch.autograd.grad((clean * (alpha * gap.detach())).sum(), point)
        fresh = normal_draws(noise.shape, noise, generator)
        drift = settings.step_noise * (sigma * gap - noise)
        noise = noise + drift + math.sqrt(2 * settings.step_noise) * fresh
        if settings.cancellation != "none":
            injected = (1 - settings.step_noise) * injected + math.sqrt(2 * settings.step_noise) * fresh
        drift_total = drift_total + settings.step_noise * sigma * gap
        if settings.step_latent:
            shake = normal_draws(latents.shape, latents, generator)
            latents = latents + settings.step_latent * (pull - latents) + math.sqrt(2 * settings.step_latent) * shake
    with torch.no_grad():
        target = alpha * student(latents) + sigma * (noise - injected)
    return CorrectedPairs(latents.detach(), target.detach(), float(drift_total.square().mean()))


class _ScoreLearner:
    """Learns the student's scores by denoising score matching on its draws."""

    def __init__(self, network: EnergySequence, student: OneStepGenerator, settings: EMDistillationSettings) -> None:
        self.network, self.student, self.settings = network, student, settings
        rule = DescentRule(settings.num_steps * settings.score_steps, settings.score_learning_rate)
        self.descent = Descent(network.parameters(), rule, name="the loss of the student's scores")

    def step(self, generator: torch.Generator | None) -> None:
        """Updates the score network once."""
        network, settings = self.network, self.settings
        clean = self.student.sample(settings.batch_size, generator=generator)
        levels = network.num_levels * torch.rand(len(clean), generator=generator, dtype=torch.float64)
        alpha, sigma = (
            per_row(v(levels).to(clean), clean) for v in (network.schedule.alpha_at, network.schedule.sigma_at)
        )
        noise = normal_draws(clean.shape, clean, generator)
        network.train()
        with torch.enable_grad():
            point = (alpha * clean + sigma * noise).requires_grad_(True)
            (score,) = torch.autograd.grad(network.log_density(point, levels).sum(), point, create_graph=True)
            loss = (sigma * score + noise).square().flatten(1).sum(1).mean()
        self.descent.step(loss)
        network.eval()
