"""Climbs from many starts at once: L-BFGS whose rows are independent and share every evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.mcmc import LogDensity, value_and_gradient

MEMORY = 8
"""Pairs of steps and gradient changes that approximate the curvature; 5 to 10 in Liu and Nocedal 1989."""
SUFFICIENT = 1e-4
"""Share of the first-order gain that a step has to bring. Source: Nocedal and Wright 2006, section 3.1."""
SHORTEST, MOST_RESETS = 1e-8, 3
"""Share of a full step below which a row forgets its curvature, and how often it does so before it rests on a kink."""
LEAST_GAIN, SMALL_GAIN, MOST_SMALL = 1e-9, 1e-7, 12
"""Expected gain in nats at which a row rests; gain of a step, and number of such steps in turn, after which it rests too."""
MOST_ROWS = 8192
"""Largest number of rows evaluated at once."""
NUDGE, MOST_FALL = 64 * torch.finfo(torch.float64).eps, 8.0
"""Relative change of all coordinates of an end, and nats by which the log density may fall from it: where it falls by more,
float64 holds too few points of the mode for its width to be measured."""

RowDensity = Callable[[Tensor, Tensor], Tensor]
"""``log_density(positions, rows)``: log density ``(n,)`` of positions ``(n, d)``, each row under a target of its own."""
IsDone = Callable[[Tensor, Tensor], Tensor]
"""``is_done(positions, rows)``: which rows, given by position ``(n, d)`` and index ``(n,)``, need no more steps."""


@dataclass(frozen=True)
class Climb:
    """Where climbs ended.

    Attributes:
        position: end points ``(n, d)``, float64.
        value: log density there ``(n,)``; minus infinity for rows that began where the density is zero or not a number.
        is_at_rest: whether a row rests at an optimum, or was stopped by ``is_done`` ``(n,)``.
    """

    position: Tensor
    value: Tensor
    is_at_rest: Tensor


def climb(log_density: LogDensity, starts: Tensor, *, scale: Tensor | float = 1.0, most_steps: int = 300) -> Climb:
    """Climb one log density from every start, see :func:`climb_rows`.

    Args:
        log_density: maps rows ``(n, d)`` to ``(n,)``.

    >>> end = climb(lambda x: -0.5 * (x - 3).square().sum(-1), torch.zeros(4, 2))
    >>> bool((end.position - 3).abs().max() < 1e-6), bool(end.is_at_rest.all())
    (True, True)
    """
    return climb_rows(lambda x, _: log_density(x), starts, scale=scale, most_steps=most_steps)


def climb_rows(
    log_density: RowDensity,
    starts: Tensor,
    *,
    scale: Tensor | float = 1.0,
    most_steps: int = 300,
    is_done: IsDone | None = None,
) -> Climb:
    """Climb from every start by L-BFGS, each row under a log density of its own.

    Every evaluation serves one trial step of each row that still climbs. A row whose trial gains enough takes a new
    direction, and any other row shortens its step, so that no row waits for another's line search.

    Args:
        log_density: log densities of positions by row.
        starts: starts ``(n, d)``.
        scale: length of the first step, a number or one per row ``(n,)``.
        most_steps: largest number of trial steps of a row.
        is_done: stops rows before they rest.

    Source: Liu and Nocedal 1989 (L-BFGS).
    """
    state = _Rows(log_density, starts.detach().double(), scale)
    for _ in range(most_steps):
        (active,) = state.is_active.nonzero(as_tuple=True)
        if not len(active):
            break
        taken = state.try_steps(active)
        if is_done is not None and len(taken):
            state.is_active[taken[is_done(state.position[taken], taken)]] = False
    return Climb(state.position, state.value, ~state.is_active & state.value.isfinite())

def resolved(log_density: LogDensity, ends: Climb) -> Climb:
    """Ends of climbs, with the value minus infinity where the mode is narrower than float64 resolves.

    Along the neck of a hierarchical model the density grows without bound while its mass falls. A climb stops there only
    where the numbers end.

    >>> def spike(x):
    ...     return -0.5 * ((x - 1) / 1e-16).square().sum(-1)
    >>> x = torch.ones(1, 2).double()
    >>> resolved(spike, Climb(x, spike(x), torch.ones(1).bool())).value.item()
    -inf
    """
    turns = torch.ones_like(ends.position[0])
    turns[1::2] = -1
    lowest = torch.full_like(ends.value, torch.inf)
    with torch.no_grad():
        for sign in (1, -1):
            values = log_density(ends.position * (1 + sign * NUDGE * turns)).double()
            lowest = torch.minimum(lowest, ends.value - torch.where(values.isnan(), -torch.inf, values))
    is_lost = ends.value.isfinite() & (lowest > MOST_FALL)
    return Climb(ends.position, torch.where(is_lost, -torch.inf, ends.value), ends.is_at_rest & ~is_lost)


class _Rows:
    """Positions, directions and remembered curvature of all rows."""

    def __init__(self, log_density: RowDensity, starts: Tensor, scale: Tensor | float) -> None:
        count, dim = starts.shape
        everyone = torch.arange(count)
        self.log_density, self.position = log_density, starts.clone()
        self.value, self.gradient = self._evaluate(self.position, everyone)
        self.is_active = self.value.isfinite() & (self.gradient != 0).any(1)
        self.steps = torch.zeros(count, MEMORY, dim, dtype=torch.float64)
        self.changes = torch.zeros_like(self.steps)
        self.inverse = torch.zeros(count, MEMORY, dtype=torch.float64)  # 1 / (step . change), 0 where nothing is kept
        self.direction = torch.zeros_like(self.position)
        self.length = torch.ones(count, dtype=torch.float64)
        self.resets, self.small = torch.zeros(count, dtype=torch.long), torch.zeros(count, dtype=torch.long)
        self._go_steepest(everyone, torch.as_tensor(scale).double().expand(count))

    def try_steps(self, rows: Tensor) -> Tensor:
        """Evaluate one trial step of each of the rows; the rows that took it."""
        step = self.length[rows, None] * self.direction[rows]
        value, gradient = self._evaluate(self.position[rows] + step, rows)
        first_order = (self.gradient[rows] * step).sum(1)
        gain = value - self.value[rows]
        is_enough = gain >= SUFFICIENT * first_order - 1e-15 * self.value[rows].abs()
        if not is_enough.all():
            self._shorten(rows[~is_enough], gain[~is_enough], first_order[~is_enough])
        taken = rows[is_enough]
        if len(taken):
            self._take(taken, step[is_enough], value[is_enough], gradient[is_enough])
        return taken

    def _evaluate(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        parts = []
        for chosen in torch.arange(len(x)).split(MOST_ROWS):
            own = rows[chosen]
            parts.append(value_and_gradient(lambda point, own=own: self.log_density(point, own), x[chosen]))
        value = torch.cat([part[0] for part in parts]).double()
        gradient = torch.cat([part[1] for part in parts]).double()
        is_lost = ~value.isfinite() | ~gradient.isfinite().all(1)
        return value.masked_fill(is_lost, -torch.inf), gradient.masked_fill(is_lost[:, None], 0.0)

    def _shorten(self, rows: Tensor, gain: Tensor, first_order: Tensor) -> None:
        """Shorten steps by the parabola through value, slope and trial; forget the curvature after too many trials."""
        ratio = 0.5 * first_order / (first_order - gain)  # 0 where the trial left the support
        # Where the parabola fits badly, it would leave the step nearly as it is, or nearly 0.
        # Source: Nocedal and Wright 2006, section 3.5.
        ratio = ratio.clamp(0.1, 0.5)
        self.length[rows] *= ratio
        stuck = rows[self.length[rows] < SHORTEST]
        if not len(stuck):
            return
        self.resets[stuck] += 1
        self.is_active[stuck[self.resets[stuck] > MOST_RESETS]] = False
        again = stuck[self.is_active[stuck]]
        self._go_steepest(again, self.length[again] * self.direction[again].norm(dim=1) * 1e3)

    def _take(self, rows: Tensor, step: Tensor, value: Tensor, gradient: Tensor) -> None:
        """Move rows and give them a new direction."""
        change = self.gradient[rows] - gradient  # positive along the step where the log density is concave
        curvature = (step * change).sum(1)
        is_small = value - self.value[rows] < SMALL_GAIN
        self.small[rows] = torch.where(is_small, self.small[rows] + 1, 0)
        self.position[rows] += step
        self.value[rows], self.gradient[rows] = value, gradient
        is_concave = curvature > 1e-10 * step.norm(dim=1) * change.norm(dim=1)
        self._remember(rows[is_concave], step[is_concave], change[is_concave], curvature[is_concave])
        # Where the log density is not concave, as in heavy tails and between modes, steps grow along the gradient.
        self._go_steepest(rows[~is_concave], 3 * step[~is_concave].norm(dim=1))
        self.is_active[rows[(gradient == 0).all(1) | (self.small[rows] >= MOST_SMALL)]] = False

    def _remember(self, rows: Tensor, step: Tensor, change: Tensor, curvature: Tensor) -> None:
        """Add a pair to the memory and take the direction of L-BFGS."""
        for kept, new in ((self.steps, step), (self.changes, change), (self.inverse, 1 / curvature)):
            kept[rows] = torch.cat([kept[rows, 1:], new[:, None]], 1)
        steps, changes, inverse = self.steps[rows], self.changes[rows], self.inverse[rows]
        direction, factors = self.gradient[rows].clone(), []
        for index in reversed(range(MEMORY)):
            factor = inverse[:, index] * (steps[:, index] * direction).sum(1)
            factors.append(factor)
            direction -= factor[:, None] * changes[:, index]
        direction *= (curvature / change.square().sum(1))[:, None]
        for index, factor in enumerate(reversed(factors)):
            back = inverse[:, index] * (changes[:, index] * direction).sum(1)
            direction += (factor - back)[:, None] * steps[:, index]
        expected = (self.gradient[rows] * direction).sum(1)
        self.direction[rows], self.length[rows] = direction, 1.0
        is_over = expected < LEAST_GAIN * (1 + 1e-6 * self.value[rows].abs())
        self.is_active[rows[is_over]] = False

    def _go_steepest(self, rows: Tensor, lengths: Tensor) -> None:
        """Forget the curvature and step along the gradient."""
        gradient = self.gradient[rows]
        self.inverse[rows] = 0.0
        # A lost row has the gradient 0: the floor leaves its direction 0 in place of 0 / 0.
        self.direction[rows] = gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1e-300) * lengths[:, None]
        self.length[rows] = 1.0
