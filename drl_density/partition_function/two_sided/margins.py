"""The interval of log Z for any probability, from the points, bounds and doubts that it has to hold."""

from __future__ import annotations

import math
from dataclasses import dataclass

from drl_density.errors import Verdict
from drl_density.partition_function.bridge import ReplicatedBridge
from drl_density.weights import Estimate, student_quantile


@dataclass(frozen=True)
class Point:
    """A point estimate of log Z with its two kinds of error.

    Attributes:
        bridge: Bennett's ratio of both directions, with its statistical error.
        drift: nats by which log Z still moved with the last base or with longer mixing, beyond the error of that move.

    >>> point = Point(ReplicatedBridge(1.0, jackknife_error=0.0, asymptotic_error=0.3, overlap=1.0, num_replicates=8), 0.4)
    >>> point.log_z, point.standard_error
    (1.0, 0.5)
    """

    bridge: ReplicatedBridge
    drift: float = 0.0

    @property
    def log_z(self) -> float:
        """Bennett's point estimate, nats."""
        return self.bridge.log_z

    @property
    def statistical(self) -> Estimate:
        """The point with its statistical error alone, so that the drift cannot excuse a disagreement."""
        return Estimate(self.bridge.log_z, self.bridge.standard_error)

    @property
    def standard_error(self) -> float:
        """Statistical error and drift together, nats."""
        return math.hypot(self.bridge.standard_error, self.drift)

    def half_width(self, probability: float = 0.95) -> float:
        """Half width of the central interval, nats; the drift has the degrees of freedom of the replicates."""
        if self.drift == 0:
            return self.bridge.half_width(probability)
        moved = student_quantile(self.bridge.num_replicates - 1, probability) * self.drift
        return math.hypot(self.bridge.half_width(probability), moved)


@dataclass(frozen=True)
class Bracket:
    """Stochastic bounds of log Z with their standard errors.

    Attributes:
        lower: mean log weight of the forward paths, of groups of them where the base was fitted; holds for any target.
        upper: mean log weight of the reverse paths; holds as far as their draws are draws of the target.
    """

    lower: Estimate
    upper: Estimate

    def ends(self, probability: float = 0.95) -> tuple[float, float]:
        """The bounds, each moved outwards by its standard error for the probability, nats."""
        return self.lower.interval(probability)[0], self.upper.interval(probability)[1]


@dataclass(frozen=True)
class Margins:
    """Everything that an interval of log Z has to hold.

    Attributes:
        points: the point estimate, then the one by draws that began at data where rows were given.
        bracket: bounds on both sides.
        starts_differ: whether draws that began at data and at noise differ beyond their errors.
    """

    points: tuple[Point, ...]
    bracket: Bracket
    starts_differ: bool

    def interval(self, verdict: Verdict, probability: float = 0.95) -> tuple[float, float]:
        """Ends of the interval, nats.

        The interval surrounds the point estimate; where the kinds of start differ it holds the other point's interval
        too. An unreliable one also holds the bracket, and an unknown or improper one is all numbers.
        """
        if verdict in (Verdict.UNKNOWN, Verdict.IMPROPER):
            return -math.inf, math.inf
        used = self.points if self.starts_differ else self.points[:1]
        widths = [(point.log_z, point.half_width(probability)) for point in used]
        ends = [log_z + sign * half_width for log_z, half_width in widths for sign in (-1, 1)]
        if verdict is Verdict.UNRELIABLE:
            ends += self.bracket.ends(probability)
        return min(ends), max(ends)
