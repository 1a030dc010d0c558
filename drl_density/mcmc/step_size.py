"""Step-size adaptation: two rules that see acceptance rates only, and the tuner that applies either to running chains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from drl_density.mcmc.kernel import StepSize
from drl_density.records.fields import Interval, NonNegativeFloat, PositiveFloat, Share, check_fields

State = TypeVar("State")


class StepSizeRule(Protocol[State]):
    """Maps acceptance rates to step sizes; pure functions of a state that the caller holds."""

    def init(self, step_size: StepSize) -> State:
        """Start at ``step_size``, a number or a tensor of any shape."""
        ...

    def update(self, state: State, acceptance: Tensor) -> State:
        """Take in one acceptance rate per step size.

        Args:
            state: result of ``init`` or of the last update.
            acceptance: acceptance rates of the last transition, in the shape of the step size.
        """
        ...

    def step_size(self, state: State) -> StepSize:
        """The step size to use while adapting, given the current ``state``."""
        ...

    def final(self, state: State) -> StepSize:
        """The step size to keep once adaptation ends, given the last ``state``."""
        ...


class DualAveragingState(NamedTuple):
    """Running sums of dual averaging, one entry per adapted step size.

    Attributes:
        log_step: logarithm of the current step size.
        log_average: logarithm of the averaged step size, used once adaptation ends.
        error: running mean of the target less the acceptance rate.
        anchor: logarithm of the step size that early steps are pulled towards.
        num_updates: number of updates so far.
    """

    log_step: Tensor
    log_average: Tensor
    error: Tensor
    anchor: Tensor
    num_updates: int


@dataclass(frozen=True)
class DualAveraging:
    """Nesterov's dual averaging of log step sizes towards a target acceptance rate.

    Suited to long warm-ups of one density: the averaged step size at the end has little noise.

    Attributes:
        target: acceptance rate to reach.
        strength: gamma; a large value keeps early steps close to the anchor.
        delay: t_0, which damps the first updates.
        decay: kappa, the exponent of the averaging weights.

    Source: Hoffman and Gelman 2014, section 3.2, which also gives the defaults and the anchor.

    >>> adaptation = DualAveraging(0.574)
    >>> state = adaptation.init(torch.tensor(0.1))
    >>> float(adaptation.step_size(adaptation.update(state, torch.tensor(1.0)))) > 0.1
    True
    """

    target: Annotated[float, Interval(0, 1, is_low_open=True, is_high_open=True)]
    strength: PositiveFloat = 0.05
    delay: NonNegativeFloat = 10.0
    decay: Share = 0.75

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, step_size: StepSize) -> DualAveragingState:
        """Start at ``step_size``, a number or a tensor of any shape."""
        log_step = torch.as_tensor(step_size, dtype=torch.float64).log()
        zeros = torch.zeros_like(log_step)
        # The anchor lies above the start (the paper's is ten times it), since steps that are too small waste more than
        # steps that are too large; twice the start suits starts that are already of the right order.
        return DualAveragingState(log_step, log_step, zeros, log_step + math.log(2.0), 0)

    def update(self, state: DualAveragingState, acceptance: Tensor) -> DualAveragingState:
        """Take in one acceptance rate per step size.

        Args:
            state: result of ``init`` or of the last update.
            acceptance: acceptance rates of the last transition, in the shape of the step size.
        """
        count = state.num_updates + 1
        share = 1 / (count + self.delay)
        error = (1 - share) * state.error + share * (self.target - acceptance.to(state.error))
        log_step = state.anchor - math.sqrt(count) / self.strength * error
        weight = count**-self.decay
        log_average = weight * log_step + (1 - weight) * state.log_average
        return DualAveragingState(log_step, log_average, error, state.anchor, count)

    def step_size(self, state: DualAveragingState) -> Tensor:
        """The step size to use while adapting.

        Args:
            state: result of ``init`` or of the last update.
        """
        return state.log_step.exp()

    def final(self, state: DualAveragingState) -> Tensor:
        """The averaged step size, to be kept once adaptation ends.

        Args:
            state: result of the last update.
        """
        return state.log_average.exp()


class RobbinsMonroState(NamedTuple):
    """State of a Robbins-Monro iteration.

    Attributes:
        step_size: current step size, a number or a tensor of any shape.
        num_updates: number of updates so far.
    """

    step_size: StepSize
    num_updates: int


@dataclass(frozen=True)
class RobbinsMonro:
    r"""Robbins-Monro iteration of the log step size towards a target acceptance rate.

    .. math:: \log\epsilon_{i+1} = \log\epsilon_i + \frac{g}{1 + c\,i}\,(a_i - a^*)

    with acceptance rate :math:`a_i`, target :math:`a^*`, gain g and decay c. Suited to a few steps on each of many related
    densities, where the step size of one is a good start on the next. With c = 0 it keeps following a drifting density.
    A rate that is not a number, such as the mean over no chains, leaves its step size as it is.

    Attributes:
        target: acceptance rate to reach.
        gain: g, the change of the log step size per unit of excess acceptance at the first update.
        decay: c, how fast the gain falls with the updates; 0 keeps it constant.

    Source: Robbins and Monro 1951; Andrieu and Thoms 2008, section 4.2.2, for acceptance rates.

    >>> rule = RobbinsMonro(0.5, gain=0.1)
    >>> rule.step_size(rule.update(rule.init(2.0), torch.tensor(0.5)))
    2.0
    """

    target: Annotated[float, Interval(0, 1, is_low_open=True, is_high_open=True)]
    gain: PositiveFloat = 1.0
    decay: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, step_size: StepSize) -> RobbinsMonroState:
        """Start at ``step_size``, a number or a tensor of any shape."""
        return RobbinsMonroState(step_size, 0)

    def update(self, state: RobbinsMonroState, acceptance: Tensor) -> RobbinsMonroState:
        """Take in one acceptance rate per step size.

        Args:
            state: result of ``init`` or of the last update.
            acceptance: acceptance rates of the last transition, in the shape of the step size.
        """
        damping = 1 + self.decay * state.num_updates
        if isinstance(state.step_size, Tensor):
            error = torch.where(acceptance.isnan(), 0.0, acceptance - self.target)
            step_size = state.step_size * torch.exp(self.gain * error / damping)
        else:
            error = float(acceptance) - self.target
            step_size = state.step_size * math.exp(0.0 if math.isnan(error) else self.gain * error / damping)
        return RobbinsMonroState(step_size, state.num_updates + 1)

    def step_size(self, state: RobbinsMonroState) -> StepSize:
        """The step size to use while adapting.

        Args:
            state: result of ``init`` or of the last update.
        """
        return state.step_size

    def final(self, state: RobbinsMonroState) -> StepSize:
        """The last step size, to be kept once adaptation ends.

        Args:
            state: result of the last update.
        """
        return state.step_size


class Tuner:
    """Step size of running chains: follows a rule until it is frozen.

    Chains may be divided into groups, each with a step size of its own; otherwise they share one, or have one each.

    Args:
        rule: how to adapt; None keeps the step size.
        step_size: where to start, a number, or one per group or chain.
        groups: group index of each chain ``(chains,)``, or how many blocks of equal size the chains fall into, in order.

    Attributes:
        current: the step size now, of the shape in which it was given, or one per group.

    >>> tuner = Tuner(RobbinsMonro(0.5), 0.1)
    >>> tuner.update(torch.ones(8))
    >>> round(tuner.current / 0.1, 3)
    1.649
    """

    def __init__(
        self, rule: StepSizeRule[Any] | None, step_size: StepSize, *, groups: Tensor | int | None = None
    ) -> None:
        self._rule, self._groups, self.current = rule, groups, step_size
        self._state: Any = None
        if rule is not None:
            start = step_size
            if groups is not None and torch.as_tensor(step_size).ndim == 0:
                count = groups if isinstance(groups, int) else int(groups.max()) + 1
                start = torch.as_tensor(step_size, dtype=torch.float64).expand(count)
            self._state = rule.init(start)
            self.current = rule.step_size(self._state)

    def step_sizes(self, num_chains: int) -> StepSize:
        """The step size as kernels take it: a number, or one per chain ``(num_chains,)``.

        Args:
            num_chains: number of chains that run.
        """
        current = self.current
        if self._groups is None or not isinstance(current, Tensor) or not current.ndim:
            return current
        if isinstance(self._groups, int):
            return current.repeat_interleave(num_chains // self._groups)
        return current[self._groups]

    def update(self, acceptance: Tensor) -> None:
        """Adapt to the ``acceptance`` probabilities of one transition, ``(chains,)``."""
        if self._rule is not None:
            self._state = self._rule.update(self._state, self._rates(acceptance))
            self.current = self._rule.step_size(self._state)

    def freeze(self) -> None:
        """End adaptation at the rule's final step size."""
        if self._rule is not None:
            self.current = self._rule.final(self._state)
            self._rule = None

    def _rates(self, acceptance: Tensor) -> Tensor:
        """Mean acceptance for each step size, on the CPU."""
        if isinstance(self._groups, int):
            return acceptance.reshape(self._groups, -1).mean(1).double().cpu()
        acceptance = acceptance.cpu()
        if self._groups is not None:
            counts = torch.bincount(self._groups, minlength=len(torch.as_tensor(self.current)))
            totals = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, self._groups, acceptance.double())
            return totals / counts
        is_per_chain = isinstance(self.current, Tensor) and self.current.ndim > 0
        return acceptance if is_per_chain else acceptance.mean()
