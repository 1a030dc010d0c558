"""Settings of the stage that refines a contrast by recovery likelihood."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from drl_density.density.settings.objectives import AdjustedObjective
from drl_density.records.fields import Interval, PositiveFloat, PositiveInt, check_fields

__all__ = ["RecoverySettings"]


def _usual_objective() -> AdjustedObjective:
    """Half of the rows on the level that is reported; classification costs a pass of the base at every level."""
    return AdjustedObjective(clean_share=0.5, classification_share=0.25)


@dataclass(frozen=True)
class RecoverySettings:
    """A second stage after the contrast: recovery likelihood trains the same network from its best weights.

    The refined weights are kept only where they improve the validation log-likelihood by more than the paired standard
    error of the gain, log Z included. A step evaluates the base and its gradient, so it costs many steps of the contrast.

    Attributes:
        is_on: Whether there is a second stage.
        objective: Recovery likelihood with its own settings.
        learning_rate: Constant learning rate after a short warm-up.
        num_steps: Number of training steps at most.
        time_share: Share of the training time that the stage may take under a time limit.
        evaluate_every: Number of steps between evaluations.
        patience: Number of evaluations without a better score after which the stage ends early.

    Raises:
        ValueError: Counts below 1, a rate that is not positive, or a share outside (0, 1).

    >>> RecoverySettings(is_on=True).objective.clean_share
    0.5
    """

    is_on: bool = False
    objective: AdjustedObjective = field(default_factory=_usual_objective)
    learning_rate: PositiveFloat = 2e-5
    num_steps: PositiveInt = 200
    time_share: Annotated[float, Interval(0, 1, is_low_open=True, is_high_open=True)] = 0.25
    evaluate_every: PositiveInt = 25
    patience: PositiveInt = 4

    def __post_init__(self) -> None:
        check_fields(self)
