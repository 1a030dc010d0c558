"""The interval of log Z for any probability, from the points, bounds and doubts that it has to hold."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from drl_density.errors import Verdict
from drl_density.partition_function.bridge import ReplicatedBridge
from drl_density.records.intervals import student_quantile
from drl_density.weights import Estimate


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
        """Half width of the central interval, nats."""
        return math.hypot(self.bridge.half_width(probability), self.drift_width(probability))

    def drift_width(self, probability: float = 0.95) -> float:
        """Half width by the drift alone, nats; it has the degrees of freedom of the replicates."""
        return student_quantile(self.bridge.num_replicates - 1, probability) * self.drift

    def shifted(self, constant: float) -> Point:
        """The point of a target whose log density is ``constant`` nats higher everywhere."""
        return Point(dataclasses.replace(self.bridge, log_z=self.bridge.log_z + constant), self.drift)


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

    def shifted(self, constant: float) -> Bracket:
        """The bounds of a target whose log density is ``constant`` nats higher everywhere."""
        return Bracket(self.lower.shifted(constant), self.upper.shifted(constant))


@dataclass(frozen=True)
class Precision:
    """How narrow an interval is, against what was asked.

    Attributes:
        tolerance: half width of the 95 % interval that was asked for, nats.
        statistical: half width by the statistical error alone, nats; it falls with the root of the number of paths.
        drift: what the half width would be of the drift alone, nats; more paths do not narrow it.
        num_paths: paths in each direction.
        seconds: time that these paths took.

    >>> found = Precision(tolerance=0.05, statistical=0.1, drift=0.0, num_paths=1024, seconds=10.0)
    >>> found.is_reached, found.needed_paths, found.needed_seconds
    (False, 4096, 40.0)
    """

    tolerance: float
    statistical: float
    drift: float
    num_paths: int
    seconds: float

    @property
    def half_width(self) -> float:
        """Half width of the 95 % interval around the point, nats."""
        return math.hypot(self.statistical, self.drift)

    @property
    def is_reached(self) -> bool:
        """Whether the interval is as narrow as was asked."""
        return self.half_width <= self.tolerance

    @property
    def needed_paths(self) -> int:
        """Paths in each direction, about, with which the statistical error alone meets the tolerance; 0 without any path."""
        if not self.num_paths:
            return 0
        return math.ceil(self.num_paths * max(1.0, (self.statistical / self.tolerance) ** 2))

    @property
    def needed_seconds(self) -> float:
        """Time that so many paths would take, seconds; not known without any path."""
        if not self.num_paths:
            return math.nan
        return self.seconds * self.needed_paths / self.num_paths

    @property
    def shortfall(self) -> str | None:
        """Why the interval is wider than was asked, and what it would take; ``None`` where it is not."""
        if self.is_reached:
            return None
        wider = f"the half width is {self.half_width:.2g} nats where {self.tolerance:.2g} were asked"
        if self.drift > self.tolerance:
            return f"{wider}: log Z still moves by about {self.drift:.2g}, which more paths do not mend"
        return (
            f"{wider}: about {self.needed_paths} paths in each direction in place of {self.num_paths}, or "
            f"{self.needed_seconds:.0f} seconds, would do; use more num_particles or most_batches"
        )


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

    def shifted(self, constant: float) -> Margins:
        """The margins of a target whose log density is ``constant`` nats higher everywhere."""
        points = tuple(point.shifted(constant) for point in self.points)
        return dataclasses.replace(self, points=points, bracket=self.bracket.shifted(constant))
