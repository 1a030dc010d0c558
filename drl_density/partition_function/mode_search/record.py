"""What a search for modes has found, and how far it would have seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.partition_function.mode_search.shape import Shape
from drl_density.records.brief import brief

LARGEST_UNSEEN, LARGEST_KNOWN_UNSEEN = 0.02, 0.1
"""Unseen shares above which log Z is doubtful, and unknown."""
LEAST_HEAVY = 1e-3
"""Share of the mass below which a mode that was seen once says nothing about modes worth finding."""


@dataclass(frozen=True, eq=False)
class Mode:
    """A mode of a target.

    Attributes:
        shape: place and widths of its highest point.
        hits: random starts that lead to it, by a climb or by their gradient alone.
        pilots: pilot runs with particles in it.
        given: climbs from rows of data, from hints and from points around known modes that ended in it.
        mass: share of the target's mass in [0, 1], by importance sampling from all modes or by Laplace's approximation,
            whichever is larger.
        least_mass: the smaller of the two.
    """

    shape: Shape
    hits: int
    pilots: int
    given: int
    mass: float
    least_mass: float

    __repr__ = brief

    @property
    def location(self) -> Tensor:
        """The highest point ``(d,)``."""
        return self.shape.center


@dataclass(frozen=True)
class Power:
    """How often modes that were planted in the target were found by the same search.

    Attributes:
        mass: share of the mass of a planted mode.
        width: geometric mean of its standard deviations, in units of the flat coordinates.
        radius: distance from the centre of the search within which modes were planted.
        num_found: planted modes that were found.
        num_planted: modes that were planted, one at a time.
        is_copy: whether the planted modes are copies of the one mode that was found, tails and all; else Gaussians.
    """

    mass: float
    width: float
    radius: float
    num_found: int
    num_planted: int
    is_copy: bool = False

    @property
    def share(self) -> float:
        """Share of the planted modes that were found.

        >>> Power(0.2, 1.0, 64.0, 19, 20).share
        0.95
        """
        return self.num_found / self.num_planted


@dataclass(frozen=True, eq=False)
class ModeSearch:
    """Modes of a target, the searches that found them, and how far the search would have seen.

    Attributes:
        modes: modes by falling mass.
        num_searches: random starts, each an independent search.
        num_pilots: pilot runs that reached the target; 0 where the modes account for it at every random start.
        num_lost: starts where the density is zero or not a number, or that climbed to a mode too narrow for float64.
        radius: distance from the centre of the search within which half of the widest starts lie.
        efficiency: effective share of draws from the components at the modes.
        num_evaluations: evaluations of the log density, with its gradient or without.
        has_gradient: whether modes were climbed to; without a gradient only pilot runs search.
        power: how often planted modes were found, the case that a verdict demands first; empty where it was not measured.
        visits: share of the final draws nearest to each mode; empty before there are any.
    """

    modes: tuple[Mode, ...]
    num_searches: int
    num_pilots: int
    num_lost: int
    radius: float
    efficiency: float
    num_evaluations: int
    has_gradient: bool = True
    power: tuple[Power, ...] = ()
    visits: tuple[float, ...] = ()

    __repr__ = brief

    @property
    def unseen(self) -> float:
        """Estimated share of modes that no search has seen, in [0, 1].

        It is the larger of two. One is Good and Turing's probability that a random start that leads to a mode of at least
        0.1 % of the mass leads to an unknown one. The other is the mass of modes that a single search has seen, a start or a
        pilot run: as much may lie in others that none has seen.
        """
        heavy = [mode for mode in self.modes if mode.mass >= LEAST_HEAVY]
        lucky = sum(mode.mass for mode in heavy if mode.hits + mode.pilots < 2 and not mode.given)
        return max(lucky, self.unseen_by_starts)

    @property
    def unseen_by_starts(self) -> float:
        """Good and Turing's part of the unseen share: the probability that the next random start finds an unknown mode."""
        return unseen_share([mode.hits for mode in self.modes if mode.mass >= LEAST_HEAVY and mode.hits])

    @property
    def is_hopeless(self) -> bool:
        """Whether so much is unseen that log Z is unknown, whatever a run would show."""
        return self.has_gradient and self.unseen > LARGEST_KNOWN_UNSEEN

    def visited_by(self, draws: Tensor) -> ModeSearch:
        """The same search, with the share of draws ``(n, d)`` nearest to each mode."""
        if not self.modes:
            return self
        labels = nearest_shapes([mode.shape for mode in self.modes], draws)
        counts = torch.bincount(labels, minlength=len(self.modes)).double() / len(draws)
        return dataclasses.replace(self, visits=tuple(counts.tolist()))


def nearest_shapes(shapes: Sequence[Shape], x: Tensor) -> Tensor:
    """Index of the shape whose Gaussian is highest at each row ``(n, d)``, ``(n,)``."""
    return torch.stack([shape.log_density(x.double()) for shape in shapes]).argmax(0)


def unseen_share(hits: Sequence[int]) -> float:
    """Estimated probability that the next search ends in a mode that no search has found.

    It is the share of modes found once, with one more search supposed to have found such a mode. Few searches therefore
    never give a small share: without any it is 1, and 49 that all agree give 2 %.

    Args:
        hits: number of independent searches that ended in each mode that was found.

    Source: Good 1953 (the share without the supposed search).

    >>> unseen_share([97, 1, 1]), unseen_share([49]), unseen_share([])
    (0.03, 0.02, 1.0)
    """
    return (sum(count == 1 for count in hits) + 1) / (sum(hits) + 1)
