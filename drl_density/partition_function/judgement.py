"""The verdict on a sandwich: what must agree, and what follows when it does not."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from drl_density.errors import Verdict
from drl_density.weights import LogPartitionEstimate

ANNEALING = "annealed importance sampling"
FORWARD = "forward paths (mean weight)"
REVERSE = "reverse paths (mean inverse weight)"
LOWER = "lower bound (mean log weight, forward)"
BENNETT = "Bennett's ratio"
BENNETT_DATA = "Bennett's ratio, draws from data"
BENNETT_EARLY = "Bennett's ratio, draws mixed a quarter as long"
UPPER_NOISE = "upper bound (mean log weight, reverse from noise)"
UPPER_DATA = "upper bound (mean log weight, reverse from data)"
MULTISTATE = "multistate Bennett's ratio over the annealing densities"
INTEGRATION = "thermodynamic integration over the annealing densities"

LEAST_OVERLAP = 0.05
LEAST_ACCEPTANCE = 0.05
SLOW_CHAINS = 0.1
"""nats between draws begun at data and at noise from which on the verdict speaks of them."""

_TOLERANCES = {
    ANNEALING: (4.0, 0.02, 0.0),
    MULTISTATE: (4.0, 0.05, 0.0),
    BENNETT_EARLY: (3.0, 0.05, 0.0),
    BENNETT_DATA: (3.0, 0.02, SLOW_CHAINS),
    UPPER_DATA: (3.0, 0.02, SLOW_CHAINS),
}
"""How many joint standard errors, how many nats beyond them, and how many nats whatever the errors, may lie between."""


@dataclass(frozen=True)
class Agreement:
    """How an estimate stands to the point: nats between, their joint standard error, whether that explains the distance."""

    distance: float
    standard_error: float
    holds: bool


def agreement(name: str, estimate: tuple[float, float], point: tuple[float, float]) -> Agreement:
    """The (value, standard error) of the estimator ``name`` against the point's."""
    num_errors, slack, least = _TOLERANCES[name]
    distance, error = abs(estimate[0] - point[0]), math.hypot(estimate[1], point[1])
    return Agreement(distance, error, distance <= max(num_errors * error + slack, least))


def start_gaps(estimates: dict[str, tuple[float, float]], point: tuple[float, float]) -> list[tuple[float, Agreement]]:
    """(nats by which draws begun at data lie above those begun at noise, how they agree): of the point and of the bound.

    Empty where no draws began at data.
    """
    if BENNETT_DATA not in estimates:
        return []
    pairs = ((BENNETT_DATA, point), (UPPER_DATA, estimates[UPPER_NOISE]))
    return [(estimates[name][0] - other[0], agreement(name, estimates[name], other)) for name, other in pairs]


def judge_sandwich(
    estimates: dict[str, tuple[float, float]],
    point: tuple[float, float],
    overlap: float,
    annealing: LogPartitionEstimate,
    forward: Tensor,
    *,
    is_settled: bool,
    least_acceptance: float,
    drift: float = 0.0,
) -> tuple[Verdict, str]:
    """(verdict, advice).

    Args:
        estimates: (value, standard error) by the names above.
        point: Bennett's ratio with its statistical error; the drift is not in it, so that it cannot excuse a disagreement.
        overlap: of both directions.
        annealing: record of the annealing run.
        forward: log weights of all forward paths.
        is_settled: whether the last bases fitted leave log Z where it is.
        drift: what log Z moved with the last refit of the base, or as draws mixed, beyond the error of that, nats.
        least_acceptance: mean acceptance on the density where it is least.
    """
    value, error = point
    whole_error = math.hypot(error, drift)
    reasons: list[str] = []
    if overlap < 0.01 or overlap * len(forward) < 50:
        reasons.append(
            f"forward and reverse paths hardly overlap ({overlap:.2g}): use more levels, bridges or transitions"
        )
    upper_noise = estimates[UPPER_NOISE]
    gaps = start_gaps(estimates, point)
    far = [gap for gap, found in gaps if not found.holds]
    above, slow = max(far, default=0.0), -min(far, default=0.0)
    if above > 0:
        reasons.append(
            f"chains started at the data put log Z {above:.2g} nats above those started at noise: the data lie in a "
            "basin that no path from noise reaches; look at long chains from both, train longer, or add levels"
        )
    if reasons:
        return Verdict.UNKNOWN, "; ".join(reasons)
    found = agreement(ANNEALING, (annealing.log_z, estimates[ANNEALING][1]), point)
    if not found.holds:
        reasons.append(
            f"annealing and Bennett's ratio differ by {found.distance:.2g} nats, "
            f"{found.distance / found.standard_error:.1f} standard errors"
        )
    depth = value - float(forward.median())
    if depth > 5:
        reasons.append(
            f"half of the forward paths lie more than {depth:.2g} nats below log Z: many are lost, so parts of the target "
            "may never be reached"
        )
    if least_acceptance < LEAST_ACCEPTANCE:
        reasons.append(
            f"the kernel hardly accepts ({least_acceptance:.2g}) on some density: its particles did not move"
        )
    if not is_settled:
        reasons.append("log Z still moves from one fitted base to the next")
    early = estimates.get(BENNETT_EARLY)
    if early is not None and not agreement(BENNETT_EARLY, early, point).holds:
        reasons.append(f"draws that mixed a quarter as long put log Z {abs(early[0] - value):.2g} nats away")
    equilibrium = estimates[MULTISTATE]
    found = agreement(MULTISTATE, equilibrium, point)
    if not found.holds:
        reasons.append(
            f"equilibrium draws of all densities put log Z {found.distance:.2g} nats away: their chains mix slowly"
        )
    lower_end, upper_end = estimates[LOWER], upper_noise
    if lower_end[0] > upper_end[0] + 3 * math.hypot(lower_end[1], upper_end[1]):
        reasons.append("the lower bound lies above the upper one")
    if whole_error > 0.5:
        reasons.append(f"the standard error is {whole_error:.2g} nats")
    if reasons:
        return Verdict.UNRELIABLE, "; ".join(reasons) + ": use more particles, more transitions, or more levels"
    if whole_error > 0.1 or annealing.verdict is Verdict.UNRELIABLE or overlap < LEAST_OVERLAP:
        return Verdict.DOUBTFUL, f"standard error {whole_error:.2g}, overlap {overlap:.2g}: spend more particles"
    if drift > 0.05:
        return Verdict.DOUBTFUL, (
            f"log Z moved by {drift:.2g} nats as draws mixed, or with the last base fitted, and may move on: use more "
            "particles, mixing steps or rounds"
        )
    if slow > 0:
        return Verdict.DOUBTFUL, (
            f"chains started at the data put log Z {slow:.2g} nats below those started at noise: they have not yet spread "
            "over all of the model's mass, part of which lies off the data; the interval holds both"
        )
    weakest = max(estimates[ANNEALING][1], equilibrium[1])
    if weakest > 0.25:
        return Verdict.DOUBTFUL, (
            f"annealing and the multistate ratio agree with the point only within their errors, up to {weakest:.2g} nats: "
            "too weak a check; use more particles or transitions"
        )
    return Verdict.RELIABLE, (
        f"annealing, both path directions{' and both kinds of start' if gaps else ''} agree; overlap {overlap:.2f}"
    )
