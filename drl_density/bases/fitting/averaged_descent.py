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
        ending: why the descent ended: "steps", "patience", "time" or "divergence".
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
    begun, descent = time.monotonic(), _Descent(weights, plan)
    best, best_step, kept, ending = -math.inf, 0, None, "steps"
    progress, scored_at, best_at = 0.0, 0.0, 0.0
    while progress < 1 and ending == "steps":
        if not descent.step(loss, progress):
            ending = "divergence"
            break
        spent = (time.monotonic() - begun) / max_seconds
        progress = max(spent, descent.num_steps / plan.num_steps)
        # A time that ends the fit is followed by one more score: the last weights are often the best.
        if progress - scored_at < 1 / plan.num_scores and progress < 1:
            continue
        scored_at = progress
        with descent.averaged():
            found = score()
            if found > best:
                best, best_step, best_at = found, descent.num_steps, progress
                kept = [each.detach().clone() for each in weights]
        if on_score is not None:
            on_score(descent.num_steps, found)
        if progress >= 1:
            ending = "steps" if descent.num_steps >= plan.num_steps else "time"
        elif progress - best_at > plan.patience:
            ending = "patience"
    descent.finish(kept)
    if kept is None:
        raise NumericalError(
            f"{name} has no score: the loss or the score was not finite after {descent.num_steps} steps; lower the "
            "learning rate and look for extreme values"
        )
    return DescentRecord(descent.num_steps, best_step, ending, time.monotonic() - begun)


class _Descent:
    """Steps of AdamW on weights, and the exponential average of these weights."""

    def __init__(self, weights: Sequence[Tensor], plan: DescentPlan) -> None:
        self.plan, self.num_steps = plan, 0
        self.weights = [weight.requires_grad_() for weight in weights]
        self.averages = [weight.detach().clone() for weight in self.weights]
        self.optimizer = AdamW(self.weights, lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True)

    def step(self, loss_of: Callable[[], Tensor], progress: float) -> bool:
        """Take one step down a loss at ``progress`` in [0, 1) of the fit; return whether the loss was finite."""
        with torch.enable_grad():
            loss = loss_of()
            if not math.isfinite(float(loss.detach())):
                return False
            self.optimizer.zero_grad()
            loss.backward()
        plan = self.plan
        torch.nn.utils.clip_grad_norm_(self.weights, plan.max_gradient_norm)
        rate = plan.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        if self.num_steps < plan.num_warm_up:
            rate *= (self.num_steps + 1) / plan.num_warm_up
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        self.num_steps += 1
        decay = min(plan.averaging, self.num_steps / (self.num_steps + 10))
        with torch.no_grad():
            for average, weight in zip(self.averages, self.weights, strict=True):
                average.lerp_(weight, 1 - decay)
        return True

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Context in which the weights are the averaged ones, without gradients."""
        with torch.no_grad():
            current = [weight.detach().clone() for weight in self.weights]
            self._put(self.averages)
            yield
            self._put(current)

    def finish(self, values: list[Tensor] | None) -> None:
        """Give the weights their final values, if there are any; they need no gradients any more."""
        if values is not None:
            self._put(values)
        for weight in self.weights:
            weight.requires_grad_(False)
            weight.grad = None

    def _put(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self.weights, values, strict=True):
                weight.copy_(value)
