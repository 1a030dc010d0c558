"""Gradient descent on the weights of a base, whose running average is scored on validation and kept at its best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from drl_density.descent import AdamW
from drl_density.errors import NumericalError


class DescentPlan(Protocol):
    """How weights are fitted; plans of bases have these fields beside their own."""

    @property
    def num_steps(self) -> int:
        """Number of gradient steps."""
        ...

    @property
    def learning_rate(self) -> float:
        """Learning rate after the warm-up, from which it falls to zero as a half cosine of the progress."""
        ...

    @property
    def num_warm_up(self) -> int:
        """Number of first steps in which the learning rate rises in proportion."""
        ...

    @property
    def weight_decay(self) -> float:
        """Decay of the weights, in units of the learning rate."""
        ...

    @property
    def averaging(self) -> float:
        """Decay of the exponential average of the weights."""
        ...

    @property
    def max_gradient_norm(self) -> float:
        """Norm to which larger gradients are scaled down."""
        ...

    @property
    def num_scores(self) -> int:
        """Number of validation scores, evenly over the progress."""
        ...

    @property
    def patience(self) -> float:
        """Progress without a better score after which the fit ends."""
        ...


class DescentRecord(NamedTuple):
    """How a descent went.

    Attributes:
        num_steps: number of gradient steps that were taken.
        best_step: number of steps before the best score, whose weights were kept.
        ending: why the descent ended: "steps", "patience", "time" or "divergence"; "pause" where it has not ended.
        seconds: seconds that it took.
    """

    num_steps: int
    best_step: int
    ending: str
    seconds: float


def descend_to_best_average(
    weights: Sequence[Tensor],
    loss: Callable[[], Tensor],
    score: Callable[[], float],
    plan: DescentPlan,
    *,
    max_seconds: float = math.inf,
    name: str = "the fit",
    on_score: Callable[[int, float], None] | None = None,
) -> DescentRecord:
    """Change weights by AdamW, and leave them at the exponential average that scored best.

    The learning rate falls to zero as a half cosine of the progress, which is the share of the steps or of the time that is
    over, whichever is larger. A loss that is not finite ends the descent with the best weights seen.

    Args:
        weights: tensors to be changed in place; they need no gradients before and after.
        loss: loss of a fresh batch, a scalar.
        score: score of the weights as they are, the larger the better; called without gradients.
        plan: steps, rates and patience.
        max_seconds: wall-clock seconds after which the descent ends, with one step at least.
        name: what an error message calls the density.
        on_score: called with the number of steps and the score after every score.

    Raises:
        NumericalError: a loss or a score that is not finite before the first finite score.

    >>> from drl_density.bases import PixelSettings
    >>> from drl_density.bases.fitting import PixelPlan
    >>> x, plan = torch.ones(1), PixelPlan(PixelSettings((1, 1, 1)), num_steps=300, learning_rate=0.1)
    >>> record = descend_to_best_average([x], lambda: (x**2).sum(), lambda: -float(x**2), plan)
    >>> record.ending, abs(float(x)) < 0.1
    ('steps', True)
    """
    descent = AveragedDescent(weights, loss, score, plan, on_score=on_score)
    descent.limit(max_seconds)
    descent.advance()
    return descent.finish(name)


class AveragedDescent:
    """A descent to the best average that can be paused, whose loss may change between the scores.

    Args:
        weights: tensors to be changed in place.
        loss: loss of a fresh batch, a scalar.
        score: score of the weights as they are, the larger the better; called without gradients.
        plan: steps, rates and patience.
        on_score: called with the number of steps and the score after every score.
        on_stall: called at a score that is no better, with the progress since the best one; where it returns True, the
            descent goes back to the best weights and has its whole patience again.

    Attributes:
        num_steps: number of steps so far.
        best: best score so far.
        best_step: number of steps before it.
        ending: why the descent ended; "pause" until it has.
        seconds: seconds of the clock so far.

    >>> from drl_density.bases import PixelSettings
    >>> from drl_density.bases.fitting import PixelPlan
    >>> x, plan = torch.ones(1), PixelPlan(PixelSettings((1, 1, 1)), num_steps=300, learning_rate=0.1)
    >>> descent = AveragedDescent([x], lambda: (x**2).sum(), lambda: -float(x**2), plan)
    >>> descent.advance(lambda: descent.num_steps >= 100)
    >>> descent.num_steps, descent.ending
    (100, 'pause')
    >>> descent.advance()
    >>> descent.finish("a parabola").ending
    'steps'
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        loss: Callable[[], Tensor],
        score: Callable[[], float],
        plan: DescentPlan,
        *,
        on_score: Callable[[int, float], None] | None = None,
        on_stall: Callable[[float], bool] | None = None,
    ) -> None:
        self._loss, self._score, self._plan, self._on_score, self._on_stall = loss, score, plan, on_score, on_stall
        self._weights = [weight.requires_grad_() for weight in weights]
        self._averages = [weight.detach().clone() for weight in self._weights]
        self._optimizer = AdamW(self._weights, lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True)
        self._max_seconds, self._most_steps = math.inf, plan.num_steps
        self._kept: list[Tensor] | None = None
        self._scored_at = self._best_at = 0.0
        self.num_steps, self.best, self.best_step, self.ending, self.seconds = 0, -math.inf, 0, "pause", 0.0

    @property
    def progress(self) -> float:
        """Share of the steps or of the time that is over, whichever is larger."""
        return max(self.seconds / self._max_seconds, self.num_steps / self._most_steps)

    def limit(self, max_seconds: float, *, most_steps: int | None = None) -> None:
        """Set the seconds of the clock after which the descent ends, and the steps; at least one is taken.

        Args:
            max_seconds: seconds of the clock in all, those that are over included.
            most_steps: number of steps in all; that of the plan when not given.
        """
        self._max_seconds = max_seconds
        if most_steps is not None:
            self._most_steps = max(1, min(self._plan.num_steps, most_steps))

    def advance(self, is_pause: Callable[[], bool] = lambda: False) -> None:
        """Descend to the end, or to a pause, and score the weights then.

        Args:
            is_pause: whether to pause before the next step.
        """
        begun = time.monotonic() - self.seconds
        while self.ending == "pause" and not is_pause():
            is_finite = self._step()
            self.seconds = time.monotonic() - begun
            if not is_finite:
                self.ending = "divergence"
                break
            # A time that ends the fit is followed by one more score: the last weights are often the best.
            is_due = self.progress - self._scored_at >= 1 / self._plan.num_scores or self.progress >= 1
            if is_due or is_pause():
                self._take_score()
        self.seconds = time.monotonic() - begun

    def finish(self, name: str) -> DescentRecord:
        """Leave the weights at the average that scored best; they need no gradients any more.

        Args:
            name: what an error message calls the density.

        Raises:
            NumericalError: no score.
        """
        if self._kept is not None:
            self._put(self._kept)
        for weight in self._weights:
            weight.requires_grad_(False)
            weight.grad = None
        if self._kept is None:
            raise NumericalError(
                f"{name} has no score: the loss or the score was not finite after {self.num_steps} steps; lower the "
                "learning rate and look for extreme values"
            )
        return DescentRecord(self.num_steps, self.best_step, self.ending, self.seconds)

    def _step(self) -> bool:
        """Take one step down the loss; return whether the loss was finite."""
        plan = self._plan
        with torch.enable_grad():
            loss = self._loss()
            if not math.isfinite(float(loss.detach())):
                return False
            self._optimizer.zero_grad()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self._weights, plan.max_gradient_norm)
        rate = plan.learning_rate * 0.5 * (1 + math.cos(math.pi * self.progress))
        if self.num_steps < plan.num_warm_up:
            rate *= (self.num_steps + 1) / plan.num_warm_up
        self._optimizer.param_groups[0]["lr"] = rate
        self._optimizer.step()
        self.num_steps += 1
        decay = min(plan.averaging, self.num_steps / (self.num_steps + 10))
        with torch.no_grad():
            for average, weight in zip(self._averages, self._weights, strict=True):
                average.lerp_(weight, 1 - decay)
        return True

    def _take_score(self) -> None:
        """Score the averaged weights, keep them if they are the best so far, and find out whether the descent ends."""
        progress = self._scored_at = self.progress
        with self._averaged():
            found = self._score()
            if found > self.best:
                self.best, self.best_step, self._best_at = found, self.num_steps, progress
                self._kept = [each.detach().clone() for each in self._weights]
        if self._on_score is not None:
            self._on_score(self.num_steps, found)
        stalled = progress - self._best_at
        if progress >= 1:
            self.ending = "steps" if self.num_steps >= self._most_steps else "time"
        elif stalled > self._plan.patience:
            self.ending = "patience"
        elif stalled > 0 and self._on_stall is not None and self._on_stall(stalled):
            if self._kept is not None:
                self._put(self._kept)
                self._averages = [value.clone() for value in self._kept]
            self._best_at = progress

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Context in which the weights are the averaged ones, without gradients."""
        with torch.no_grad():
            current = [weight.detach().clone() for weight in self._weights]
            self._put(self._averages)
            yield
            self._put(current)

    def _put(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self._weights, values, strict=True):
                weight.copy_(value)
