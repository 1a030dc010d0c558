"""Fits of autoregressive flows to tables of many rows, one at a time or several in a race."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.bases.fitting.flow_plan import FlowPlan
from drl_density.bases.flows import AutoregressiveFlow
from drl_density.descent import AdamW
from drl_density.errors import NumericalError
from drl_density.records.brief import brief

DROPOUT_PATIENCE = 0.1
"""Progress without a better score after which dropout begins."""

RACE_SHARE, MOST_RACE_SECONDS = 0.1, 8.0
"""Share of the time, and seconds, that each flow of a race gets before the best one gets the rest."""

LEAST_REST = 2.0
"""Seconds that a flow which fell behind needs to be continued, as a multiple of those that it had."""


@dataclass(frozen=True, eq=False)
class FittedFlow:
    """A fitted flow.

    Attributes:
        flow: the flow with the weights that scored best.
        log_densities: log density of every validation row, ``(m,)``, float64.
        num_steps: number of gradient steps that were taken.
        best_step: number of steps before the best score.
        ending: why the fit ended: "steps", "patience", "time", "divergence", or "race", in which another flow was ahead.
        seconds: seconds that the fit took.
    """

    flow: AutoregressiveFlow
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


@outside_inference_mode
def fit_flow(
    copies: Tensor,
    validation: Tensor,
    *,
    plan: FlowPlan,
    max_seconds: float = math.inf,
    on_score: Callable[[int, float], None] | None = None,
    generator: torch.Generator | None = None,
) -> FittedFlow:
    """Fit an autoregressive flow to rows by maximum likelihood, and keep the weights that score best on validation.

    Every pass over the rows takes one of their dequantised copies. Steps are those of AdamW, with a learning rate that falls
    to zero; the scored weights are an exponential average. Dropout costs a flow of sharp densities much. So it begins only
    where the score has stopped rising, from the weights that scored best. Equal seeds give equal flows, as long as the time
    does not end the fit.

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

    >>> from drl_density.bases import AutoregressiveFlowSettings
    >>> generator = torch.Generator().manual_seed(0)
    >>> rows = torch.randn(1, 400, 1, generator=generator).repeat(1, 1, 2)
    >>> plan = FlowPlan(AutoregressiveFlowSettings(2, num_transforms=2, width=16), num_steps=60)
    >>> fit = fit_flow(rows, rows[0, :100], plan=plan, generator=generator)
    >>> fit.ending, fit.log_likelihood > -2.3  # two standard normal columns alone: -2.84
    ('steps', True)
    """
    training = _Training(copies, validation, plan, on_score=on_score, generator=generator)
    training.limit(max_seconds)
    training.advance()
    return training.finish()


@outside_inference_mode
def race_flows(
    copies: Tensor,
    validation: Tensor,
    *,
    plans: Mapping[str, FlowPlan],
    seconds: float,
    is_timed: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[dict[str, FittedFlow], dict[str, str]]:
    """Fit several flows in a time that they share: the one that leads after a short race gets what is left.

    The race takes a tenth of the time for each flow, and 8 seconds at most. Which of two flows is the better one for a table
    shows that early. What the leader does not use goes to the next one, and so on.

    Args:
        copies: rows in model space ``(c, n, d)``, as for :func:`fit_flow`.
        validation: rows ``(m, d)`` to be scored.
        plans: sizes of the flows and of their fits by name, each with the steps that it would have alone.
        seconds: seconds that all of them may take.
        is_timed: whether these are seconds of the clock. Otherwise they are the expected ones of the plans' steps, and equal
            seeds give equal flows.
        generator: source of the initial weights, of the order of the rows and of dropout.

    Returns:
        The flows by name, and the reasons why others are missing.

    >>> from drl_density.bases import AutoregressiveFlowSettings
    >>> rows = torch.randn(1, 400, 2, generator=torch.Generator().manual_seed(0))
    >>> small = {kind: FlowPlan(AutoregressiveFlowSettings(2, 1, width=8, elementwise=kind), num_steps=20)
    ...          for kind in ("affine", "spline")}
    >>> flows, missing = race_flows(rows, rows[0, :100], plans=small, seconds=1.0)
    >>> sorted(flows), missing
    (['affine', 'spline'], {})
    """
    trainings = {name: _Training(copies, validation, plan, generator=generator) for name, plan in plans.items()}
    for training in trainings.values():
        training.limit(seconds if is_timed else math.inf)
        if len(trainings) > 1:
            training.advance(min(RACE_SHARE * seconds, MOST_RACE_SECONDS))
    for training in sorted(trainings.values(), key=lambda training: training.best, reverse=True):
        left = seconds - sum(other.spent for other in trainings.values())
        if left >= LEAST_REST * training.spent:
            training.limit(training.spent + left if is_timed else math.inf, planned=training.spent + left)
            training.advance()
    flows, missing = {}, {}
    for name, training in trainings.items():
        try:
            flows[name] = training.finish()
        except NumericalError as error:
            missing[name] = str(error)
    return flows, missing


class _Training:
    """A fit of a flow that can be paused.

    Attributes:
        flow: the flow; its weights are the latest ones until :meth:`finish`.
        best: best validation score so far, in nats a row.
        ending: why the fit ended; "race" until it has.
    """

    def __init__(
        self,
        copies: Tensor,
        validation: Tensor,
        plan: FlowPlan,
        *,
        on_score: Callable[[int, float], None] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        rows, scored = copies.float(), validation.float()
        sizes = (rows.shape[-1], scored.shape[-1])
        if rows.ndim != 3 or sizes != (plan.settings.num_features,) * 2 or not (rows.numel() and scored.numel()):
            raise ValueError(
                f"expected copies (c, n, {plan.settings.num_features}) and validation rows "
                f"(m, {plan.settings.num_features}), got {tuple(copies.shape)} and {tuple(validation.shape)}"
            )
        if not bool(rows.isfinite().all() & scored.isfinite().all()):
            raise ValueError("expected finite rows: complete missing values first")
        self.plan, self.on_score, self.generator, self.scored = plan, on_score, generator, scored
        self.flow = AutoregressiveFlow(plan.settings, generator=generator).to(rows.device)
        self.descent = _Descent(self.flow, plan)
        self.batches = _batches(rows, min(plan.batch_size, rows.shape[1]), generator)
        self.best, self.best_step, self.kept, self.ending = -math.inf, 0, None, "race"
        self.max_seconds, self.most_steps, self.clock = math.inf, plan.num_steps, 0.0
        self.scored_at = self.best_at = 0.0

    @property
    def spent(self) -> float:
        """Seconds so far: of the clock where it ends the fit, or else the expected ones of the steps."""
        return self.clock if math.isfinite(self.max_seconds) else self.descent.num_steps * self.plan.seconds_per_step

    @property
    def progress(self) -> float:
        """Share of the steps or of the time that is over, whichever is larger."""
        return max(self.clock / self.max_seconds, self.descent.num_steps / self.most_steps)

    def limit(self, seconds: float, *, planned: float = math.inf) -> None:
        """Set the seconds of the clock after which the fit ends, and expected seconds by which its steps are bounded."""
        self.max_seconds = seconds
        if math.isfinite(planned) and not math.isfinite(seconds):
            self.most_steps = max(1, min(self.plan.num_steps, int(planned / self.plan.seconds_per_step)))

    def advance(self, until: float = math.inf) -> None:
        """Train to the end, or until so many seconds are spent, and score the weights then."""
        begun = time.monotonic() - self.clock
        while self.ending == "race" and self.spent < until:
            if not self.descent.step(next(self.batches), self.progress, self.generator):
                self.ending = "divergence"
                break
            self.clock = time.monotonic() - begun
            # A time that ends the fit is followed by one more score: the last weights are often the best.
            if self.progress - self.scored_at < 1 / self.plan.num_scores and self.progress < 1 and self.spent < until:
                continue
            self._score()
            if self.progress >= 1:
                self.ending = "steps" if self.descent.num_steps >= self.most_steps else "time"
            elif self.progress - self.best_at > self.plan.patience:
                self.ending = "patience"
            elif self.progress - self.best_at > DROPOUT_PATIENCE and self.descent.dropout < self.plan.dropout:
                self.descent.restart(self.kept, dropout=self.plan.dropout)
                self.best_at = self.progress
        self.clock = time.monotonic() - begun

    def finish(self) -> FittedFlow:
        """The flow with the weights that scored best.

        Raises:
            NumericalError: no score.
        """
        num_steps = self.descent.num_steps
        if self.kept is None:
            raise NumericalError(
                f"the flow has no score: the loss or the score was not finite after {num_steps} steps; lower the learning "
                "rate and look for extreme values"
            )
        self.descent.finish(self.kept)
        with torch.no_grad():
            values = self.flow.log_prob(self.scored).double()
        return FittedFlow(self.flow, values, num_steps, self.best_step, self.ending, self.clock)

    def _score(self) -> None:
        """Score the averaged weights on validation, and keep them if they are the best so far."""
        self.scored_at = self.progress
        with self.descent.averaged():
            score = float(self.flow.log_prob(self.scored).double().mean())
            if score > self.best:
                self.best, self.best_step, self.best_at = score, self.descent.num_steps, self.progress
                self.kept = [each.clone() for each in self.flow.weights()]
        if self.on_score is not None:
            self.on_score(self.descent.num_steps, score)


class _Descent:
    """Steps of AdamW on the weights of a flow, and the exponential average of these weights."""

    def __init__(self, flow: AutoregressiveFlow, plan: FlowPlan) -> None:
        self.flow, self.plan, self.num_steps, self.dropout = flow, plan, 0, 0.0
        self.weights = [weight.requires_grad_() for weight in flow.weights()]
        self.averages = [weight.detach().clone() for weight in self.weights]
        self.optimizer = AdamW(self.weights, lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True)

    def step(self, rows: Tensor, progress: float, generator: torch.Generator | None) -> bool:
        """Take one step on ``rows`` at ``progress`` in [0, 1) of the fit; return whether the loss was finite."""
        with torch.enable_grad():
            loss = -self.flow.log_prob_under_dropout(rows, self.dropout, generator=generator).mean()
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

    def restart(self, values: list[Tensor] | None, *, dropout: float) -> None:
        """Continue from weights that scored well, where there are any, with dropout."""
        self.dropout = dropout
        if values is not None:
            self._put(values)
            self.averages = [value.clone() for value in values]

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
    """Batches ``(size, d)`` without end: every pass in a new order, over a fresh copy."""
    while True:
        copy = copies[int(torch.randint(len(copies), (), generator=generator))]
        order = torch.randperm(len(copy), generator=generator).to(copy.device)
        for start in range(0, len(order) - size + 1, size):
            yield copy[order[start : start + size]]
