"""Gradient descent for small trainers: one loop with a schedule, gradient clipping and a check for finite losses.

Also the optimisers of all trainers, which leave torch's compiler unloaded.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from drl_density.errors import TrainingFailed

KEEP_EVERY = 50
"""Steps between two copies of the weights that a rollback can return to: our own choice, cheap for small networks."""


def _bare(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step of torch's optimisers without its guard against ``torch.compile`` and its hooks, of which we have none.

    Over few numbers both take much of the time of a step.
    """
    bare = torch.no_grad()(inspect.unwrap(step))
    bare.__dict__["hooked"] = True  # by which torch knows a step that needs no further wrapping
    return bare


class _Uncompiled(torch.optim.Optimizer):
    """The methods of torch's optimisers without their guards against ``torch.compile``.

    The guards load the whole compiler at the first use, two seconds of every process that trains. We compile networks
    only, never a step of an optimiser, so nothing is lost.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


class Adam(_Uncompiled, torch.optim.Adam):
    """``torch.optim.Adam``, to the bit, without loading torch's compiler.

    >>> x = torch.ones(1, requires_grad=True)
    >>> optimizer = Adam([x], lr=0.5)
    >>> x.square().sum().backward()
    >>> optimizer.step()
    >>> round(x.item(), 3)
    0.5
    """

    step = _bare(torch.optim.Adam.step)


class AdamW(_Uncompiled, torch.optim.AdamW):
    """``torch.optim.AdamW``, to the bit, without loading torch's compiler.

    >>> x = torch.ones(1, requires_grad=True)
    >>> optimizer = AdamW([x], lr=0.5, weight_decay=0.1)
    >>> x.square().sum().backward()
    >>> optimizer.step()
    >>> round(x.item(), 3)
    0.45
    """

    step = _bare(torch.optim.AdamW.step)


@dataclass(frozen=True)
class DescentRule:
    """How Adam descends.

    Attributes:
        num_steps: number of gradient steps.
        learning_rate: learning rate of the first step.
        betas: decay rates of Adam's two moments.
        is_annealed: whether the learning rate falls to zero as a half cosine.
        max_gradient_norm: gradients whose norm is larger are scaled down to it; None leaves them as they are.
        most_rollbacks: how often a loss that is not finite may be answered by a return to earlier weights, after which
            the learning rate is halved.
        must_be_finite: whether a loss that is not finite stops the descent; otherwise its step is taken.
    """

    num_steps: int
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    is_annealed: bool = False
    max_gradient_norm: float | None = None
    most_rollbacks: int = 0
    must_be_finite: bool = True

    def learning_rates(self) -> list[float]:
        """The learning rate of every step before any rollback.

        >>> [round(rate, 3) for rate in DescentRule(4, 1.0, is_annealed=True).learning_rates()]
        [1.0, 0.854, 0.5, 0.146]
        """
        if not self.is_annealed:
            return [self.learning_rate] * self.num_steps
        rates = [self.learning_rate]
        for step in range(1, self.num_steps):
            # The recursion of torch's CosineAnnealingLR, so that its numbers are reproduced to the last digit.
            now, before = (1 + math.cos(math.pi * place / self.num_steps) for place in (step, step - 1))
            rates.append(now / before * rates[-1])
        return rates


class Descent:
    """Adam on some parameters, one loss at a time, for trainers that take turns.

    Args:
        parameters: tensors to be changed in place.
        rule: learning rates, clipping and rollbacks.
        name: what the loss is called in an error message.
        advice: what an error message recommends.

    >>> x = torch.ones(1, requires_grad=True)
    >>> descent = Descent([x], DescentRule(num_steps=2, learning_rate=0.5))
    >>> descent.step((x**2).sum()), round(x.item(), 3)
    (1.0, 0.5)
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        rule: DescentRule,
        *,
        name: str = "the loss",
        advice: str = "lower the learning rate",
    ) -> None:
        self.parameters, self.rule, self.name, self.advice = list(parameters), rule, name, advice
        self.optimizer = Adam(self.parameters, lr=rule.learning_rate, betas=rule.betas)
        self.num_steps, self.num_rollbacks = 0, 0
        self._rates = rule.learning_rates()
        self._kept: tuple[list[Tensor], dict[str, Any]] | None = None

    def step(self, loss: Tensor) -> float | None:
        """Takes one step down ``loss``; returns its value, or None when the weights were rolled back instead.

        Raises:
            TrainingFailed: a loss that is not finite, once all rollbacks are used or before the first step.
        """
        value, rule = float(loss.detach()), self.rule
        if rule.must_be_finite and not math.isfinite(value):
            self._roll_back(value)
            return None
        if rule.most_rollbacks and self.num_steps % KEEP_EVERY == 0:
            weights = [parameter.detach().clone() for parameter in self.parameters]
            self._kept = weights, copy.deepcopy(self.optimizer.state_dict())
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        self._move()
        return value

    def move(self, gradients: Iterable[Tensor]) -> None:
        """Takes one step along gradients of the parameters in closed form, where no loss has a graph."""
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self._move()

    def _move(self) -> None:
        rule = self.rule
        if rule.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, rule.max_gradient_norm)
        self.optimizer.param_groups[0]["lr"] = self._rates[self.num_steps] * 0.5**self.num_rollbacks
        self.optimizer.step()
        self.num_steps += 1

    def _roll_back(self, value: float) -> None:
        if self._kept is None or self.num_rollbacks == self.rule.most_rollbacks:
            after = f", after {self.num_rollbacks} rollbacks with half the learning rate" if self.num_rollbacks else ""
            raise TrainingFailed(f"{self.name} at step {self.num_steps} is {value}{after}; {self.advice}")
        self.num_rollbacks += 1
        weights, state = self._kept
        with torch.no_grad():
            for parameter, earlier in zip(self.parameters, weights, strict=True):
                parameter.copy_(earlier)
        self.optimizer.load_state_dict(copy.deepcopy(state))


def descend(
    parameters: Iterable[Tensor],
    loss_of: Callable[[], Tensor],
    rule: DescentRule,
    *,
    name: str = "the loss",
    advice: str = "lower the learning rate",
    on_step: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Takes ``rule.num_steps`` steps of Adam; returns the loss before each of them.

    Args:
        parameters: tensors to be changed in place.
        loss_of: draws a batch and returns its loss, a scalar with a graph to the parameters.
        rule: learning rates, clipping and rollbacks.
        name: what the loss is called in an error message.
        advice: what an error message recommends.
        on_step: called after each step with its index and its loss, for a progress line.

    Raises:
        TrainingFailed: a loss that is not finite, once all rollbacks are used or before the first step.

    >>> x = torch.ones(1, requires_grad=True)
    >>> losses = descend([x], lambda: (x**2).sum(), DescentRule(num_steps=100, learning_rate=0.1))
    >>> losses[0], losses[-1] < 1e-3
    (1.0, True)
    """
    descent, losses = Descent(parameters, rule, name=name, advice=advice), []
    with torch.enable_grad():
        while len(losses) < rule.num_steps:
            value = descent.step(loss_of())
            if value is None:
                continue
            if on_step is not None:
                on_step(len(losses), value)
            losses.append(value)
    return losses
