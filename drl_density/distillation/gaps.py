r"""The gap of EM distillation, :math:`\Delta_t = \nabla \log q_t - \nabla \log p_t`, and what learns it.

Here q_t is level t of the teacher, and p_t the student under the noise s between level 0 and level t. The gap is known where
both scores are. Otherwise a network learns it by denoising: of a noised draw :math:`x_t = a g(z) + s \epsilon` of the
student,

.. math:: s \Delta_t(x_t) = \mathrm{E}[\, s \nabla \log q_t(x_t) + \epsilon \mid x_t \,].

The paper learns the student's scores by a copy of the teacher. Here the network learns their difference from the teacher's,
so it starts at zero, needs no energy and so no second derivatives, and vanishes with the gap.

Source: Xie et al. 2024 (arXiv 2405.16852).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from drl_density.descent import Descent, DescentRule
from drl_density.devices import normal_draws
from drl_density.distillation.generator import OneStepGenerator, ResidualMap, ResidualSizes
from drl_density.model import EnergySequence
from drl_density.schedule import NoiseSchedule
from drl_density.shapes import per_row

Score = Callable[[Tensor, Tensor], Tensor]
"""Scores ``(n, *event)`` of states ``(n, *event)`` at levels ``(n,)``."""


class Gap(Protocol):
    """The gap between the teacher's scores and the student's."""

    def __call__(self, x: Tensor, levels: Tensor) -> Tensor:
        """Gaps of states ``x`` ``(n, *event)`` at ``levels`` ``(n,)``, in the shape of ``x``."""
        ...

    def learn(self, levels: Tensor, generator: torch.Generator | None) -> None:
        """Take one step towards the present student's gap, with noise of ``levels`` ``(n,)``."""
        ...


def noised(
    schedule: NoiseSchedule, x: Tensor, levels: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    """States of ``levels`` ``(n,)`` made from states ``x`` of level 0, with their noise and its scale per row."""
    alpha, sigma = (per_row(value.to(x), x) for value in schedule.step_between(torch.zeros_like(levels), levels))
    noise = normal_draws(x.shape, x, generator)
    return alpha * x + sigma * noise, noise, sigma


class KnownGap:
    """The gap where the student's scores are known.

    Args:
        teacher: sequence whose scores are used.
        student_score: exact scores of the noised student.
    """

    def __init__(self, teacher: EnergySequence, student_score: Score) -> None:
        self.teacher, self.student_score = teacher, student_score

    def __call__(self, x: Tensor, levels: Tensor) -> Tensor:
        return self.teacher.score(x, levels) - self.student_score(x, levels)

    def learn(self, levels: Tensor, generator: torch.Generator | None) -> None:
        """There is nothing to learn."""


class GapNetwork(nn.Module):
    """A residual network from states and log-SNRs to vectors, which starts at zero.

    Args:
        num_features: length d of the states.
        width: number of hidden units in every layer.
        num_blocks: number of residual blocks of two layers each.
        dtype: type of the parameters.
        generator: source of the initial weights.

    >>> GapNetwork(3)(torch.zeros(5, 3), torch.zeros(5)).shape
    torch.Size([5, 3])
    """

    level_frequencies: Tensor

    def __init__(
        self,
        num_features: int,
        *,
        width: int = 128,
        num_blocks: int = 2,
        dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        # Log-SNRs span 10 to 20 units: periods of 4 to 63 units resolve single levels, and the longest does not repeat.
        self.register_buffer("level_frequencies", torch.linspace(0.1, 1.5, 12, dtype=dtype))
        sizes = ResidualSizes(num_features + 25, num_features, width, num_blocks)
        self.trunk = ResidualMap(sizes, dtype=dtype, generator=generator)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Vectors ``(n, d)`` for states ``x`` ``(n, d)`` at ``log_snr`` ``(n,)``."""
        level = log_snr[:, None].to(x)
        phase = level * self.level_frequencies
        return self.trunk(torch.cat([x, level / 5, phase.cos(), phase.sin()], 1))


class DenoisedGap:
    """The gap where a network learns it from noised draws of the student.

    Args:
        teacher: sequence whose scores are used.
        network: function of states ``(n, *event)`` and their log-SNRs ``(n,)`` with values of the shape of the states, to be
            trained in place: the gap times the noise.
        student: generator whose draws it learns from.
        rule: descent of the network.
    """

    def __init__(self, teacher: EnergySequence, network: nn.Module, student: OneStepGenerator, rule: DescentRule) -> None:
        self.teacher, self.network, self.student = teacher, network, student
        self.descent = Descent(network.parameters(), rule, name="the loss of the student's scores")

    def __call__(self, x: Tensor, levels: Tensor) -> Tensor:
        schedule = self.teacher.schedule
        with torch.no_grad():
            scaled = self.network(x, schedule.log_snr_at(levels).to(x))
        return scaled / per_row(schedule.step_between(torch.zeros_like(levels), levels)[1].to(x), x)

    def learn(self, levels: Tensor, generator: torch.Generator | None) -> None:
        """Update the network once."""
        schedule = self.teacher.schedule
        clean = self.student.sample(len(levels), generator=generator)
        point, noise, sigma = noised(schedule, clean, levels, generator)
        target = sigma * self.teacher.score(point, levels) + noise
        self.network.train()
        with torch.enable_grad():
            misfit = self.network(point, schedule.log_snr_at(levels).to(point)) - target
            self.descent.step(misfit.square().flatten(1).sum(1).mean())
        self.network.eval()
