"""The record of a target's tails."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from drl_density.records.brief import brief

FAST = -100.0
"""Exponent below which a tail counts as falling faster than any power of the distance."""


class Integrability(StrEnum):
    """Whether a target has a finite integral, as far as it was followed.

    >>> Integrability("improper") is Integrability.IMPROPER
    True
    """

    INTEGRABLE = "integrable"
    """The mass falls by a fixed factor or more with every doubling of the distance, wherever it was followed."""
    UNDECIDED = "undecided"
    """The mass falls more slowly than any power of the distance: the integral may be finite or not."""
    IMPROPER = "improper"
    """The mass does not fall with the distance: the integral is infinite."""


@dataclass(frozen=True)
class Tail:
    """How the mass of a target decays along one family of maps.

    Attributes:
        label: what is moved, in words.
        is_stretch: whether distances are doubled by each step; a step is a standard deviation of the driver elsewhere.
        exponents: growth of log mass between the places where it was measured, the furthest last, by the logarithm of the
            distance along a stretch, so that the mass beyond r goes as r to this power, and by the step elsewhere. Minus
            infinity where no mass is left.
        steps: steps from the bulk to the furthest place.
        missing: share of the mass that moved draws put further out than the draws themselves; 0 within chance.
        beyond: steps from the bulk beyond which that mass lies.
        is_cut: whether the numbers of the support ended before the mass was followed as far as on all reals.
    """

    label: str
    is_stretch: bool
    exponents: tuple[float, ...]
    steps: float
    missing: float
    beyond: float
    is_cut: bool = False

    @property
    def exponent(self) -> float:
        """Exponent at the furthest place."""
        return self.exponents[-1]


@dataclass(frozen=True)
class TailReport:
    """What is known about the tails of a target.

    Attributes:
        integrability: whether the integral is finite, as far as the target was followed.
        tails: decay along every family of maps.
        deciding: the tail that decided, the one of slowest decay.

    >>> tail = Tail("coordinate 0", True, (-1.0, -1.0), 170.0, 0.0, 0.0)
    >>> str(TailReport(Integrability.INTEGRABLE, (tail,), tail))
    'along coordinate 0, the slowest, mass beyond r falls as r^-1'
    """

    integrability: Integrability
    tails: tuple[Tail, ...]
    deciding: Tail

    __repr__ = brief

    @property
    def missing(self) -> float:
        """Largest share of the mass that the draws do not reach along one family of maps."""
        return max(tail.missing for tail in self.tails)

    @property
    def worst_reached(self) -> Tail:
        """The tail whose mass the draws miss most."""
        return max(self.tails, key=lambda tail: tail.missing)

    def __str__(self) -> str:
        tail = self.deciding
        if self.integrability is Integrability.IMPROPER:
            return f"along {tail.label} the mass does not fall, out to {_distance(tail)}"
        if self.integrability is Integrability.UNDECIDED:
            return (
                f"along {tail.label} the mass {_slowness(tail)}, out to {_distance(tail)}: "
                "it cannot be decided whether the integral is finite"
            )
        if tail.exponent < FAST or not tail.is_stretch:
            return f"faster than any power of the distance, out to {_distance(tail)}"
        return f"along {tail.label}, the slowest, mass beyond r falls as r^{tail.exponent:.3g}"


def _slowness(tail: Tail) -> str:
    return "hardly falls" if tail.is_cut else "falls more slowly than any power of the distance"


def _distance(tail: Tail) -> str:
    if tail.is_cut:
        return "the last numbers of the support"
    return f"{2.0**tail.steps:.0e} times the bulk" if tail.is_stretch else f"{tail.steps:.0f} standard deviations"
