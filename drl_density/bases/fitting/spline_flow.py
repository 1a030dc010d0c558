"""Fits of spline flows to tables of many rows, of sizes that the time allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.bases.spline_flow import SplineFlow, SplineFlowSettings
from drl_density.descent import AdamW
from drl_density.errors import NumericalError
from drl_density.records.brief import brief
from drl_density.records.fields import Chance, NonNegativeFloat, PositiveFloat, PositiveInt, Share, check_fields

LEAST_ROWS = 3000
"""Rows below which no flow is begun: on every smaller table that was tried, bagged mixtures score better."""

LEAST_STEPS, MOST_STEPS, MOST_EPOCHS = 800, 10_000, 500
"""Steps without which a flow is far behind mixtures, and steps and epochs after which no score rose in our trials."""

FEW_PASSES = 20
"""Passes over the rows up to which a flow has no dropout. In 11 passes over 34,368 rows a flow without it scored 0.17 nats
better on validation; more passes were fitted with dropout in our trials."""

SHAPES = ((5, 128), (3, 64))
"""Numbers of transformations and hidden units that are tried, the largest first."""

SECONDS_PER_TRANSFORM, SECONDS_PER_PRODUCT, SECONDS_PER_ENTRY = 6.4e-6, 1.1e-10, 7e-9
"""Seconds of one core in a gradient step: for a row and transformation, for a multiply-add of the networks, and for a
parameter of a spline. They were measured on 512 rows of 5 to 50 columns, on a machine that was shared."""


@dataclass(frozen=True)
class FlowPlan:
    """Sizes of a flow and of its fit.

    Attributes:
        settings: sizes of the flow.
        num_steps: number of gradient steps.
        batch_size: number of rows in a step.
        learning_rate: learning rate of the first step, from which it falls to zero as a half cosine of the progress. That
            is the share of the steps or of the time that is over, whichever is larger.
        dropout: share of the hidden units that is left out in a step.
        weight_decay: decay of the weights, in units of the learning rate.
        averaging: decay of the exponential average of the weights, which is scored and kept.
        max_gradient_norm: gradients whose norm is larger are scaled down to it.
        num_scores: number of validation scores, evenly over the progress.
        patience: progress without a better score after which the fit ends.
    """

    settings: SplineFlowSettings
    num_steps: PositiveInt = 2000
    batch_size: PositiveInt = 512
    learning_rate: PositiveFloat = 3e-3
    dropout: Chance = 0.1
    weight_decay: NonNegativeFloat = 0.0
    averaging: Chance = 0.99
    max_gradient_norm: PositiveFloat = 5.0
    num_scores: PositiveInt = 20
    patience: Share = 0.3

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def seconds(self) -> float:
        """Expected seconds of one core."""
        return self.num_steps * _seconds_per_step(self.settings, self.batch_size)


class Affordability(NamedTuple):
    """The flow that a table and a time allow.

    Attributes:
        plan: sizes of the flow and of its fit; None where no flow should be begun.
        reason: the plan in words, or what stands against a flow.
    """

    plan: FlowPlan | None
    reason: str


@dataclass(frozen=True, eq=False)
class FittedFlow:
    """A fitted flow.

    Attributes:
        flow: the flow with the weights that scored best.
        log_densities: log density of every validation row, ``(m,)``, float64.
        num_steps: number of gradient steps that were taken.
        best_step: number of steps before the best score.
        ending: why the fit ended: "steps", "patience", "time" or "divergence".
        seconds: seconds that the fit took.
    """

    flow: SplineFlow
    log_densities: Tensor
    num_steps: int
    best_step: int
    ending: str
    seconds: float

    __repr__ = brief

    @property
    def log_likelihood(self) -> float:
        """Mean log density of the validation rows, in nats a row."""
        return float(self.log_densities.mean())


def affordable_flow(num_rows: int, num_columns: int, seconds: float, *, is_timed: bool = False) -> Affordability:
    """Choose the sizes of a flow by rows, columns and time, or find that none should be begun.

    The largest shape of which 800 steps fit the time is taken. It gets as many steps as fit, up to 10,000 and up to 500
    passes over the rows. The time of a step follows from the sizes by a measured rule, so that the same table gets the same
    plan on every machine. Where the clock ends the fit, a quicker machine takes more steps in the same time. A flow that
    sees each row only a few times has no dropout.

    Args:
        num_rows: number of rows to fit to.
        num_columns: number of columns d.
        seconds: seconds of one core that the fit may take.
        is_timed: whether the clock ends the fit after these seconds, so that the plan holds the most steps that any time
            gives.

    >>> affordable_flow(500, 10, 60.0).reason
    'no flow: 500 rows are fewer than 3,000'
    >>> affordable_flow(13000, 10, 60.0).plan.settings.width
    128
    """
    if num_rows < LEAST_ROWS:
        return Affordability(None, f"no flow: {num_rows:,} rows are fewer than {LEAST_ROWS:,}")
    if num_columns < 2:
        return Affordability(None, "no flow: a single column needs none beside its own transform")
    needed = math.inf
    for num_transforms, width in SHAPES:
        sizes = SplineFlowSettings(num_columns, num_transforms=num_transforms, width=width)
        plan = FlowPlan(sizes)
        cost = _seconds_per_step(sizes, plan.batch_size)
        needed = LEAST_STEPS * cost
        if needed <= seconds:
            most = min(MOST_STEPS, max(LEAST_STEPS, MOST_EPOCHS * num_rows // plan.batch_size))
            affordable = min(most, int(seconds / cost))
            num_steps = most if is_timed else affordable
            dropout = plan.dropout if affordable * plan.batch_size > FEW_PASSES * num_rows else 0.0
            steps = f"at most {num_steps:,} steps" if is_timed else f"{num_steps:,} steps"
            words = f"{num_transforms} transformations of width {width}, {steps}, {min(seconds, num_steps * cost):.0f} s"
            return Affordability(FlowPlan(sizes, num_steps, dropout=dropout), words)
    return Affordability(
        None, f"no flow: the smallest takes {needed:.0f} s of one core, and {seconds:.0f} s are allowed"
    )


def _seconds_per_step(settings: SplineFlowSettings, batch_size: int) -> float:
    num_features, width = settings.num_features, settings.width
    entries = num_features * (3 * settings.num_bins - 1)
    products = width * (num_features + width + entries)
    each = SECONDS_PER_TRANSFORM + products * SECONDS_PER_PRODUCT + entries * SECONDS_PER_ENTRY
    return settings.num_transforms * batch_size * each


@outside_inference_mode
def fit_spline_flow(
    copies: Tensor,
    validation: Tensor,
    *,
    plan: FlowPlan,
    max_seconds: float = math.inf,
    on_score: Callable[[int, float], None] | None = None,
    generator: torch.Generator | None = None,
) -> FittedFlow:
    """Fit a spline flow to rows by maximum likelihood, and keep the weights that score best on validation.

    Every pass over the rows takes one of their dequantised copies. Steps are those of AdamW, with dropout in the networks
    and a learning rate that falls to zero; the scored weights are an exponential average. Equal seeds give equal flows, as
    long as the time does not end the fit.

    Args:
        copies: rows in model space ``(c, n, d)``, in c copies that differ by dequantisation noise, without missing values.
        validation: rows ``(m, d)`` to be scored.
        plan: sizes of the flow and of its fit, such as those of :func:`affordable_flow`.
        max_seconds: wall-clock seconds after which the fit ends, with one step at least; the learning rate falls in time
            with them.
        on_score: called with the number of steps and the score after every validation score.
        generator: source of the initial weights, of the order of the rows and of dropout.

    Returns:
        The flow, on the device of ``copies``. A fit whose loss is not a finite number ends with the best weights seen.

    Raises:
        ValueError: rows of another length than the plan's, values that are not finite, or no rows.
        NumericalError: a loss that is not finite before the first finite score.

    Source: Durkan et al. 2019, "Neural spline flows"; Srivastava et al. 2014, "Dropout".

    >>> generator = torch.Generator().manual_seed(0)
    >>> rows = torch.randn(1, 400, 1, generator=generator).repeat(1, 1, 2)
    >>> plan = FlowPlan(SplineFlowSettings(2, num_transforms=2, width=16), num_steps=60)
    >>> fit = fit_spline_flow(rows, rows[0, :100], plan=plan, generator=generator)
    >>> fit.ending, fit.log_likelihood > -2.3  # two standard normal columns alone: -2.84
    ('steps', True)
    """
    rows, scored = copies.float(), validation.float()
    sizes = (rows.shape[-1], scored.shape[-1])
    if rows.ndim != 3 or sizes != (plan.settings.num_features,) * 2 or not (rows.numel() and scored.numel()):
        raise ValueError(
            f"expected copies (c, n, {plan.settings.num_features}) and validation rows (m, {plan.settings.num_features}), "
            f"got {tuple(copies.shape)} and {tuple(validation.shape)}"
        )
    if not bool(rows.isfinite().all() & scored.isfinite().all()):
        raise ValueError("expected finite rows: complete missing values first")
    begun = time.monotonic()
    flow = SplineFlow(plan.settings, generator=generator).to(rows.device)
    descent = _Descent(flow, plan)
    batches = _batches(rows, min(plan.batch_size, rows.shape[1]), generator)
    best, best_step, kept, ending = -math.inf, 0, None, "steps"
    progress, scored_at, best_at = 0.0, 0.0, 0.0
    while progress < 1 and ending == "steps":
        if not descent.step(next(batches), progress, generator):
            ending = "divergence"
            break
        spent = (time.monotonic() - begun) / max_seconds
        progress = max(spent, descent.num_steps / plan.num_steps)
        # A time that ends the fit is followed by one more score: the last weights are often the best.
        if progress - scored_at < 1 / plan.num_scores and progress < 1:
            continue
        scored_at = progress
        with descent.averaged():
            score = float(flow.log_prob(scored).double().mean())
            if score > best:
                best, best_step, best_at = score, descent.num_steps, progress
                kept = [each.clone() for each in flow.weights()]
        if on_score is not None:
            on_score(descent.num_steps, score)
        if progress >= 1:
            ending = "steps" if descent.num_steps >= plan.num_steps else "time"
        elif progress - best_at > plan.patience:
            ending = "patience"
    if kept is None:
        raise NumericalError(
            f"the flow has no score: the loss or the score was not finite after {descent.num_steps} steps; lower the "
            "learning rate and look for extreme values"
        )
    descent.finish(kept)
    with torch.no_grad():
        values = flow.log_prob(scored).double()
    return FittedFlow(flow, values, descent.num_steps, best_step, ending, time.monotonic() - begun)


class _Descent:
    """Steps of AdamW on the weights of a flow, and the exponential average of these weights."""

    def __init__(self, flow: SplineFlow, plan: FlowPlan) -> None:
        self.flow, self.plan, self.num_steps = flow, plan, 0
        self.weights = [weight.requires_grad_() for weight in flow.weights()]
        self.averages = [weight.detach().clone() for weight in self.weights]
        self.optimizer = AdamW(self.weights, lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True)

    def step(self, rows: Tensor, progress: float, generator: torch.Generator | None) -> bool:
        """Take one step on ``rows`` at ``progress`` in [0, 1) of the fit; return whether the loss was finite."""
        with torch.enable_grad():
            loss = -self.flow.log_prob_under_dropout(rows, self.plan.dropout, generator=generator).mean()
            if not math.isfinite(float(loss.detach())):
                return False
            self.optimizer.zero_grad()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, self.plan.max_gradient_norm)
        self.optimizer.param_groups[0]["lr"] = self.plan.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        self.optimizer.step()
        self.num_steps += 1
        decay = min(self.plan.averaging, self.num_steps / (self.num_steps + 10))
        with torch.no_grad():
            for average, weight in zip(self.averages, self.weights, strict=True):
                average.lerp_(weight, 1 - decay)
        return True

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Context in which the flow has the averaged weights, without gradients."""
        with torch.no_grad():
            current = [weight.detach().clone() for weight in self.weights]
            self._put(self.averages)
            yield
            self._put(current)

    def finish(self, values: list[Tensor]) -> None:
        """Give the flow its final weights, which need no gradients any more."""
        self._put(values)
        for weight in self.weights:
            weight.requires_grad_(False)
            weight.grad = None

    def _put(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self.weights, values, strict=True):
                weight.copy_(value)


def _batches(copies: Tensor, size: int, generator: torch.Generator | None) -> Iterator[Tensor]:
    """Batches ``(size, d)`` without end: every pass in a new order, over a copy drawn anew."""
    while True:
        copy = copies[int(torch.randint(len(copies), (), generator=generator))]
        order = torch.randperm(len(copy), generator=generator).to(copy.device)
        for start in range(0, len(order) - size + 1, size):
            yield copy[order[start : start + size]]
