"""The start of a one-step generator: the map from noise to level 0 along the probability flow of its teacher.

The flow carries N(0, I) at level T to the teacher's draws, one point for each latent code. A student that has learned this
map begins with every mode covered, and distillation corrects what is left: the flow's steps, levels that contradict one
another, and bridges that a continuous map leaves between modes.

Source: Luhman and Luhman 2021 (arXiv 2101.02388), here with Heun's rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.descent import DescentRule, descend
from drl_density.devices import normal_draws
from drl_density.distillation.generator import OneStepGenerator
from drl_density.model import EnergySequence
from drl_density.records.fields import NonNegativeInt, PositiveFloat, PositiveInt, check_fields
from drl_density.records.given import given_or_default
from drl_density.samplers import FlowSettings, sample_flow

PAIRS_AT_ONCE = 4096
"""Pairs that are made at once, which bounds the memory."""


@dataclass(frozen=True)
class WarmStartSettings:
    """Sizes of the regression by which a student starts at the probability flow.

    Attributes:
        num_steps: number of updates of the student; 0 leaves it as it is.
        num_pairs: most latent codes with their ends of the flow; never more than the updates take.
        num_flow_steps: Heun steps of the flow, with two gradients of the teacher each.
        batch_size: number of pairs in each update.
        learning_rate: first learning rate of Adam, which falls to zero as a half cosine.
    """

    num_steps: NonNegativeInt = 1000
    num_pairs: PositiveInt = 8192
    num_flow_steps: PositiveInt = 16
    batch_size: PositiveInt = 256
    learning_rate: PositiveFloat = 2e-3

    def __post_init__(self) -> None:
        check_fields(self)


@outside_inference_mode
def follow_flow(
    teacher: EnergySequence,
    student: OneStepGenerator,
    *,
    settings: WarmStartSettings | None = None,
    generator: torch.Generator | None = None,
) -> list[float]:
    """Teaches a one-step generator the map of its teacher's probability flow; returns the loss of every step.

    Args:
        teacher: sequence whose flow is followed.
        student: generator with one latent for each coordinate, to be trained in place.

    Raises:
        ValueError: a student with another number of latents.
        TrainingFailed: a loss that is not finite.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> teacher = GaussianMixtureSequence.example().model
    >>> student = OneStepGenerator(torch.nn.Linear(2, 2, dtype=torch.float64), num_latents=2)
    >>> settings = WarmStartSettings(num_steps=3, num_pairs=16, num_flow_steps=2)
    >>> len(follow_flow(teacher, student, settings=settings))
    3
    """
    settings = given_or_default(settings, WarmStartSettings)
    dim = teacher.event_shape.numel()
    if student.num_latents != dim:
        raise ValueError(f"the flow maps as many latents as coordinates: expected {dim}, got {student.num_latents}")
    if not settings.num_steps:
        return []
    # In the student's own precision, which may be another than the teacher's.
    codes, ends = (part.to(next(student.parameters())) for part in _flow_pairs(teacher, settings, generator))

    def loss_of() -> Tensor:
        rows = torch.randint(len(codes), (settings.batch_size,), generator=generator).to(codes.device)
        return (student(codes[rows]) - ends[rows]).square().flatten(1).sum(1).mean()

    rule = DescentRule(settings.num_steps, settings.learning_rate, is_annealed=True)
    return descend(student.parameters(), loss_of, rule, name="the regression onto the flow")


def _flow_pairs(
    teacher: EnergySequence, settings: WarmStartSettings, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Latent codes ``(n, d)`` and their ends ``(n, *event)`` on level 0."""
    codes, ends = [], []
    num_pairs = min(settings.num_pairs, settings.num_steps * settings.batch_size)
    for first in range(0, num_pairs, PAIRS_AT_ONCE):
        count = min(PAIRS_AT_ONCE, num_pairs - first)
        noise = normal_draws((count, *teacher.event_shape), teacher, generator)
        flow = FlowSettings(settings.num_flow_steps)
        ends.append(sample_flow(teacher, count, settings=flow, noise=noise, generator=generator).draws.to(noise))
        codes.append(noise.flatten(1))
    return torch.cat(codes), torch.cat(ends)
