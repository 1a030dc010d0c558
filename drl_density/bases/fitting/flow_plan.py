"""Sizes of autoregressive flows and of their fits, by rows, columns and time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from drl_density.bases.flows import AutoregressiveFlowSettings, Elementwise
from drl_density.records.fields import (
    Chance,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Share,
    check_fields,
)

LEAST_ROWS = 3000
"""Rows below which no flow is begun: on every smaller table that was tried, bagged mixtures score better."""

LEAST_STEPS, MOST_STEPS, MOST_EPOCHS = 800, 10_000, 500
"""Steps without which a flow is far behind mixtures, and steps and epochs after which no score rose in our trials."""

SHAPES = ((5, 128), (3, 64))
"""Numbers of transformations and hidden units that are tried, the largest first."""

LEARNING_RATES: dict[Elementwise, float] = {"spline": 6e-3, "affine": 5e-3, "both": 6e-3}
"""Learning rates of the first step. In 20 to 25 s of one core, rates of 2e-3 and 3e-3 scored 1.2 nats a row lower for affine
maps on 3,775 rows, and 0.15 nats lower for splines on 13,314 rows."""

SECONDS_PER_TRANSFORM: dict[Elementwise, float] = {"spline": 6.4e-6, "affine": 2e-6, "both": 7e-6}
SECONDS_PER_PRODUCT, SECONDS_PER_ENTRY = 1.1e-10, 7e-9
"""Seconds of one core in a gradient step: for a row and transformation, for a multiply-add of the networks, and for a
parameter of a column's map. They were measured on 512 rows of 5 to 50 columns, on a machine that was shared."""


@dataclass(frozen=True)
class FlowPlan:
    """Sizes of a flow and of its fit.

    Attributes:
        settings: sizes of the flow.
        num_steps: number of gradient steps.
        batch_size: number of rows in a step.
        learning_rate: learning rate of the first step, from which it falls to zero as a half cosine of the progress. That
            is the share of the steps or of the time that is over, whichever is larger.
        num_warm_up: number of first steps in which the learning rate rises in proportion.
        dropout: share of the hidden units that is left out in a step, once the validation score has stopped rising.
        weight_decay: decay of the weights, in units of the learning rate.
        averaging: decay of the exponential average of the weights, which is scored and kept.
        max_gradient_norm: gradients whose norm is larger are scaled down to it.
        num_scores: number of validation scores, evenly over the progress.
        patience: progress without a better score after which the fit ends.
    """

    settings: AutoregressiveFlowSettings
    num_steps: PositiveInt = 2000
    batch_size: PositiveInt = 512
    learning_rate: PositiveFloat = 3e-3
    num_warm_up: NonNegativeInt = 0
    dropout: Chance = 0.0
    weight_decay: NonNegativeFloat = 0.0
    averaging: Chance = 0.99
    max_gradient_norm: PositiveFloat = 5.0
    num_scores: PositiveInt = 20
    patience: Share = 0.15

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def seconds(self) -> float:
        """Expected seconds of one core."""
        return self.num_steps * self.seconds_per_step

    @property
    def seconds_per_step(self) -> float:
        """Expected seconds of one core that a gradient step takes."""
        return _seconds_per_step(self.settings, self.batch_size)


class Affordability(NamedTuple):
    """The flow that a table and a time allow.

    Attributes:
        plan: sizes of the flow and of its fit; None where no flow should be begun.
        reason: the plan in words, or what stands against a flow.
    """

    plan: FlowPlan | None
    reason: str


def affordable_flow(
    num_rows: int,
    num_columns: int,
    seconds: float,
    *,
    elementwise: Elementwise = "spline",
    is_timed: bool = False,
) -> Affordability:
    """Choose the sizes of a flow by rows, columns and time, or find that none should be begun.

    The largest shape of which 800 steps fit the time is taken. It gets as many steps as fit, up to 10,000 and up to 500
    passes over the rows. The time of a step follows from the sizes by a measured rule, so that the same table gets the same
    plan on every machine. Where the clock ends the fit, a quicker machine takes more steps in the same time.

    Args:
        num_rows: number of rows to fit to.
        num_columns: number of columns d.
        seconds: seconds of one core that the fit may take.
        elementwise: map of each column in a transformation.
        is_timed: whether the clock ends the fit after these seconds, so that the plan holds the most steps that any time
            gives.

    >>> affordable_flow(500, 10, 60.0).reason
    '500 rows are fewer than 3,000'
    >>> affordable_flow(13000, 10, 60.0).plan.settings.width
    128
    """
    if num_rows < LEAST_ROWS:
        return Affordability(None, f"{num_rows:,} rows are fewer than {LEAST_ROWS:,}")
    if num_columns < 2:
        return Affordability(None, "a single column needs none beside its own transform")
    needed = math.inf
    for num_transforms, width in SHAPES:
        sizes = AutoregressiveFlowSettings(
            num_columns, num_transforms=num_transforms, width=width, elementwise=elementwise
        )
        plan = FlowPlan(sizes)
        cost = _seconds_per_step(sizes, plan.batch_size)
        needed = LEAST_STEPS * cost
        if needed <= seconds:
            most = min(MOST_STEPS, max(LEAST_STEPS, MOST_EPOCHS * num_rows // plan.batch_size))
            affordable = min(most, int(seconds / cost))
            num_steps = most if is_timed else affordable
            steps = f"at most {num_steps:,} steps" if is_timed else f"{num_steps:,} steps"
            words = f"{num_transforms} transformations of width {width}, {steps}, {min(seconds, num_steps * cost):.0f} s"
            return Affordability(FlowPlan(sizes, num_steps, learning_rate=LEARNING_RATES[elementwise]), words)
    return Affordability(
        None, f"the smallest takes {needed:.0f} s of one core, and {seconds:.0f} s are allowed"
    )


def _seconds_per_step(settings: AutoregressiveFlowSettings, batch_size: int) -> float:
    num_features, width = settings.num_features, settings.width
    entries = num_features * settings.num_parameters
    products = width * (num_features + width + entries)
    each = SECONDS_PER_TRANSFORM[settings.elementwise] + products * SECONDS_PER_PRODUCT + entries * SECONDS_PER_ENTRY
    return settings.num_transforms * batch_size * each
