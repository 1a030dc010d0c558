"""Step-size adaptation: sees acceptance rates, never a kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class DualAveragingState(NamedTuple):
    """Running sums of dual averaging, one entry per adapted step size.

    Attributes:
        log_step: log of the step size to use now.
        log_average: log of the averaged step size, used once frozen.
        error: running mean of target less acceptance.
        anchor: the value steps are drawn towards.
        count: updates so far.
    """

    log_step: Tensor
    log_average: Tensor
    error: Tensor
    anchor: Tensor
    count: int


@dataclass(frozen=True)
class DualAveraging:
    """Nesterov's dual averaging of log step sizes towards a target acceptance rate.

    Attributes:
        target: acceptance rate aimed at.
        strength: gamma, how strongly early steps are held to the anchor.
        delay: t_0, damps the first updates.
        decay: kappa, the exponent of averaging.

    Source: Hoffman and Gelman 2014, section 3.2.

    >>> adaptation = DualAveraging(0.574)
    >>> state = adaptation.init(torch.tensor(0.1))
    >>> float(adaptation.step_size(adaptation.update(state, torch.tensor(1.0)))) > 0.1
    True
    """

    target: float
    strength: float = 0.05
    delay: float = 10.0
    decay: float = 0.75

    def init(self, step_size: float | Tensor) -> DualAveragingState:
        """Start at ``step_size``, any shape."""
        log_step = torch.as_tensor(step_size, dtype=torch.float64).log()
        zeros = torch.zeros_like(log_step)
        return DualAveragingState(log_step, log_step, zeros, log_step + math.log(2.0), 0)

    def update(self, state: DualAveragingState, acceptance: Tensor) -> DualAveragingState:
        """Take in one acceptance rate per step size.

        Args:
            state: before.
            acceptance: mean acceptance since, of the shape of the step size.
        """
        count = state.count + 1
        share = 1 / (count + self.delay)
        error = (1 - share) * state.error + share * (self.target - acceptance.to(state.error))
        log_step = state.anchor - math.sqrt(count) / self.strength * error
        weight = count**-self.decay
        log_average = weight * log_step + (1 - weight) * state.log_average
        return DualAveragingState(log_step, log_average, error, state.anchor, count)

    def step_size(self, state: DualAveragingState) -> Tensor:
        """The step size to use while adapting.

        Args:
            state: as it stands.
        """
        return state.log_step.exp()

    def final(self, state: DualAveragingState) -> Tensor:
        """The averaged step size, to be frozen.

        Args:
            state: after the last update.
        """
        return state.log_average.exp()
