"""Decay up to the place where the numbers of a support end."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from drl_density.mcmc import LogDensity
from drl_density.partition_function.tails.moves import Move, Stretch, gains
from drl_density.partition_function.tails.report import Tail

Hold = Callable[[Tensor], Tensor]
"""Whether the values of a log density at rows ``(n, d)`` are those of the target, ``(n,)``."""
NUM_HALVINGS = 16
"""Halvings by which the last step of every row is found, to 0.003 doublings."""
LAST_STEPS = 3
"""Steps before the last one, from each of which to the next the decay is measured."""


def follow_to_the_end(move: Move, log_density: LogDensity, hold: Hold, bulk: Tensor, num_rows: int) -> Tail:
    """Follow the mass of the bulk to the last numbers of the support, and extrapolate the mass beyond.

    Every row is moved as far as the values are still those of the target. The decay there is the mean over the rows,
    weighted by their mass, so that the slowest rows decide. Beyond, the mass is taken to fall by the same power.

    Args:
        move: family of maps.
        log_density: unnormalised log density of rows ``(n, d)``.
        hold: whether its values are those of the target.
        bulk: rows of the bulk ``(n, d)``.
        num_rows: number of all draws, of which the bulk is a part.
    """
    unit = math.log(2) if isinstance(move, Stretch) else 1.0
    bulk = bulk[hold(bulk)]
    if not len(bulk):  # the draws themselves lie beyond, and nothing is known about the decay
        return Tail(move.label, isinstance(move, Stretch), (0.0, 0.0), 0.0, 0.0, 0.0, is_cut=True)
    last = _last_steps(move, hold, bulk)
    places = [last - back for back in range(LAST_STEPS, -1, -1)]
    masses = torch.stack([gains(move, log_density, bulk, place) for place in places])
    totals = masses.logsumexp(1)
    exponents = []
    for before, after, total in zip(masses, masses[1:], totals[1:], strict=False):
        is_left = after > -math.inf
        if not bool(is_left.any()):
            exponents.append(-math.inf)
            continue
        weights = (after - total).exp()[is_left]
        exponents.append(float((weights * (after - before)[is_left]).sum() / unit))
    exponent = exponents[-1]
    furthest = float(last.median())
    # Where the mass does not fall, integrability is the question, and no mass can be extrapolated. Mass beyond is measured
    # by that of the draws, and may exceed it where they hold little: all of the mass is then missing.
    missing = 0.0 if exponent >= 0 else min(1.0, float((totals[-1] + _rest(exponent * unit)).exp()) / num_rows)
    return Tail(move.label, isinstance(move, Stretch), tuple(exponents), furthest, missing, furthest, is_cut=True)


def _rest(growth: float) -> float:
    """Log of the sum of a falling geometric series without its first term, by the log of its ratio."""
    return -math.inf if growth == -math.inf else growth - math.log(-math.expm1(growth))


def _last_steps(move: Move, hold: Hold, bulk: Tensor) -> Tensor:
    """Largest number of steps of each row after which its value is still that of the target, ``(n,)``."""
    low, high = torch.zeros(len(bulk), dtype=bulk.dtype), torch.full((len(bulk),), move.far_steps[-1], dtype=bulk.dtype)
    for _ in range(NUM_HALVINGS):
        middle = 0.5 * (low + high)
        is_held = hold(move.moved(bulk, middle)[0])
        low, high = torch.where(is_held, middle, low), torch.where(is_held, high, middle)
    return low
