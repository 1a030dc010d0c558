"""Fits of autoregressive flows to tables of many rows, one at a time or several in a race."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.bases.fitting.averaged_descent import AveragedDescent, DescentRecord
from drl_density.bases.fitting.flow_plan import LEAST_STEPS, FlowPlan
from drl_density.bases.flows import AutoregressiveFlow
from drl_density.errors import NumericalError
from drl_density.parallel import IsStopped, side_by_side
from drl_density.records.brief import brief

DROPOUT_PATIENCE = 0.1
"""Progress without a better score after which dropout begins, where the plan has any."""

RACE_SHARE, MOST_RACE_SECONDS = 0.1, 8.0
"""Share of the time, and seconds, that each flow of a race gets before the best one gets the rest."""

MOST_OF_A_KIND = 6
"""Flows of the leading kind at most: each costs time wherever their average is evaluated."""

TWIN_SHARE, TWIN_PATIENCE = 1.2, 0.3
"""Time of a further flow, as a multiple of that which a flow of its kind had before its best score, and its patience."""

LEAST_REST = 2.0
"""Seconds that a flow which fell behind needs to be continued, as a multiple of those that it had."""


@dataclass(frozen=True, eq=False)
class FittedFlow:
    """A fitted flow.

    Attributes:
        flow: the flow with the weights that scored best.
        log_densities: log density of every validation row, ``(m,)``, float64.
        record: steps, ending and seconds of the fit; the ending of a flow that fell behind in a race is "pause".
    """

    flow: AutoregressiveFlow
    log_densities: Tensor
    record: DescentRecord

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
    >>> fit.record.ending, fit.log_likelihood > -2.3  # two standard normal columns alone: -2.84
    ('steps', True)
    """
    training = _Training(copies, validation, plan, on_score=on_score, generator=generator)
    if math.isfinite(max_seconds):
        training.limit(max_seconds, is_timed=True)
    training.descent.advance()
    return training.finish()


@outside_inference_mode
def race_flows(
    copies: Tensor,
    validation: Tensor,
    *,
    plans: Mapping[str, FlowPlan],
    seconds: float,
    is_timed: bool = False,
    lanes: int = 1,
    generator: torch.Generator | None = None,
) -> tuple[dict[str, FittedFlow], dict[str, str]]:
    """Fit several flows in a time that they share: the kind that leads after a short race gets what is left.

    The race takes a tenth of the time for each flow, and 8 seconds at most. Which of two flows is the better one for a table
    shows that early.

    A flow that scores no better any more leaves time. It goes to further flows of the leader's kind from other initial
    weights, six in all, and then to the flows that fell behind. Averages of such flows score better than a single one. In
    several lanes they are fitted at the same time.

    Args:
        copies: rows in model space ``(c, n, d)``, as for :func:`fit_flow`.
        validation: rows ``(m, d)`` to be scored.
        plans: sizes of the flows and of their fits by name, each with the steps that it would have alone.
        seconds: seconds that all of them may take.
        is_timed: whether these are seconds of the clock. Otherwise they are the expected ones of the plans' steps, and equal
            seeds give equal flows.
        lanes: number of flows that are fitted at the same time, where the clock counts; 1 fits one after the other, with all
            of torch's threads.
        generator: source of the seeds of the flows.

    Returns:
        The flows by name, those beyond the first of a kind with a number, and the reasons why others are missing.

    >>> from drl_density.bases import AutoregressiveFlowSettings
    >>> rows = torch.randn(1, 400, 2, generator=torch.Generator().manual_seed(0))
    >>> small = {kind: FlowPlan(AutoregressiveFlowSettings(2, 1, width=8, elementwise=kind), num_steps=20)
    ...          for kind in ("affine", "spline")}
    >>> flows, missing = race_flows(rows, rows[0, :100], plans=small, seconds=1.0)
    >>> sorted(flows), missing
    (['affine', 'spline'], {})
    """

    rows, scored = copies.float(), validation.float()

    def new(plan: FlowPlan) -> _Training:
        return _Training(rows, scored, plan, generator=_own_generator(generator))

    racers = [new(plan) for plan in plans.values()]
    twins: list[_Training] = []
    lanes, begun = lanes if is_timed else 1, time.monotonic()

    def left() -> float:
        return seconds - (time.monotonic() - begun if is_timed else sum(each.spent for each in [*racers, *twins]))

    def rest(training: _Training) -> float:
        share, least = left(), LEAST_REST * training.spent
        if training in twins:
            least = LEAST_STEPS * training.plan.seconds_per_step
            needed = [each.spent_before_best for each in (order[0], *twins) if each.descent.ending == "patience"]
            if needed:  # as many flows as the time gives, none of which is trained for long beyond its best score
                rounds = math.ceil((len(twins) - twins.index(training)) / lanes)
                share /= max(1, min(rounds, round(share / (TWIN_SHARE * max(needed)))))
        if share < least:
            return 0.0
        training.limit(training.spent + share, is_timed=is_timed)
        return math.inf

    if len(racers) > 1:
        for training in racers:
            training.limit(seconds, is_timed=is_timed)
        most = min(RACE_SHARE * seconds, MOST_RACE_SECONDS)
        _train_in_turn(racers, lambda training: most, lanes=lanes)
    order = sorted(racers, key=lambda training: training.descent.best, reverse=True)
    trainings = dict(zip(plans, racers, strict=True))
    if order:
        leader = next(name for name, training in trainings.items() if training is order[0])
        plan = dataclasses.replace(order[0].plan, patience=TWIN_PATIENCE)
        twins += [new(plan) for _ in range(MOST_OF_A_KIND - 1)]
        _train_in_turn([order[0], *twins, *order[1:]], rest, lanes=lanes)
        # Some of them may have had no time.
        trained = [training for training in twins if training.descent.num_steps]
        trainings |= {f"{leader} {number}": training for number, training in enumerate(trained, 2)}
    flows, missing = {}, {}
    for name, training in trainings.items():
        try:
            flows[name] = training.finish()
        except NumericalError as error:
            missing[name] = str(error)
    return flows, missing


def _train_in_turn(trainings: Sequence[_Training], until: Callable[[_Training], float], *, lanes: int) -> None:
    """Train flows in their order; of several lanes each takes the next flow when it has ended one.

    Args:
        trainings: flows in the order in which they begin.
        until: called with a flow whose turn has come, for the seconds after which it pauses.
        lanes: number of flows that are trained at the same time; a single one uses all of torch's threads.
    """
    if lanes == 1:
        for training in trainings:
            training.advance(until(training))
        return
    waiting = deque(trainings)

    def take_turns(is_stopped: IsStopped) -> None:
        while not is_stopped():
            try:
                training = waiting.popleft()
            except IndexError:
                return
            training.advance(until(training), is_stopped=is_stopped)

    side_by_side([take_turns] * min(lanes, len(trainings)))


def _own_generator(generator: torch.Generator | None) -> torch.Generator | None:
    """A generator for one of several flows, so that none depends on when the others draw."""
    if generator is None:
        return None
    return torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))


class _Training:
    """A fit of a flow that can be paused.

    Attributes:
        plan: sizes of the flow and of its fit.
        flow: the flow; its weights are the latest ones until :meth:`finish`.
        descent: descent of its weights.
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
        self.plan, self._generator, self._scored = plan, generator, scored
        self._dropout, self._is_timed = 0.0, False
        self.flow = AutoregressiveFlow(plan.settings, generator=generator).to(rows.device)
        self._batches = _batches(rows, min(plan.batch_size, rows.shape[1]), generator)
        self.descent = AveragedDescent(
            list(self.flow.weights()), self._loss, self._score, plan, on_score=on_score, on_stall=self._begin_dropout
        )

    @property
    def spent(self) -> float:
        """Seconds so far: of the clock where it ends the fit, or else the expected ones of the steps."""
        return self.descent.seconds if self._is_timed else self.descent.num_steps * self.plan.seconds_per_step

    @property
    def spent_before_best(self) -> float:
        """The part of :attr:`spent` before the best score."""
        return self.spent * self.descent.best_step / max(1, self.descent.num_steps)

    def limit(self, seconds: float, *, is_timed: bool) -> None:
        """Set the seconds after which the fit ends, of the clock or those that the steps are expected to take."""
        self._is_timed = is_timed
        if is_timed:
            self.descent.limit(seconds)
        else:
            self.descent.limit(math.inf, most_steps=int(seconds / self.plan.seconds_per_step))

    def advance(self, until: float = math.inf, *, is_stopped: IsStopped = lambda: False) -> None:
        """Train to the end, or until so many seconds are spent, and score the weights then."""
        self.descent.advance(lambda: self.spent >= until or is_stopped())

    def finish(self) -> FittedFlow:
        """The flow with the weights that scored best.

        Raises:
            NumericalError: no score.
        """
        record = self.descent.finish("the flow")
        with torch.no_grad():
            values = self.flow.log_prob(self._scored).double()
        return FittedFlow(self.flow, values, record)

    def _loss(self) -> Tensor:
        rows = next(self._batches)
        return -self.flow.log_prob_under_dropout(rows, self._dropout, generator=self._generator).mean()

    def _score(self) -> float:
        return float(self.flow.log_prob(self._scored).double().mean())

    def _begin_dropout(self, stalled: float) -> bool:
        """Begin dropout where the score has not risen for a while; return whether it begins now."""
        begins = stalled > DROPOUT_PATIENCE and self._dropout < self.plan.dropout
        if begins:
            self._dropout = self.plan.dropout
        return begins


def _batches(copies: Tensor, size: int, generator: torch.Generator | None) -> Iterator[Tensor]:
    """Batches ``(size, d)`` without end: every pass in a new order, over a fresh copy."""
    while True:
        copy = copies[int(torch.randint(len(copies), (), generator=generator))]
        order = torch.randperm(len(copy), generator=generator).to(copy.device)
        for start in range(0, len(order) - size + 1, size):
            yield copy[order[start : start + size]]
