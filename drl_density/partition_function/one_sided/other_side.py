r"""The other side of an estimate from weights of one direction: walks back from draws of the target.

Weighted particles that have never reached a part of the target carry even weights and agree with each other. What they lack
shows elsewhere. Particles resampled by their weights are moved on by adjusted chains, which leave the target unchanged.

- If the weighted particles stand for the target, the chains keep the distribution of its log density and of every
  coordinate: a paired rank test. In a funnel the chains enter the neck and the mouth, and both distributions move.
- Walks back from the moved draws have the log weights of the other direction. For draws of the target
  :math:`E[\log w] \ge \log Z`, and Bennett's ratio of both directions is consistent. Its difference from the estimate shows
  mass that the weights have not counted.
- Walks back whose log weight exceeds that of every walk to the target: their share is that of Z which no weight has
  counted, as where a target has heavier tails than the walks' ends. The weights that occurred show no sign of it.
- Modes that no particle has entered leave no trace in either. They are searched for, see
  :mod:`~drl_density.partition_function.one_sided.unvisited`.

Sources: Grosse, Ghahramani and Adams 2015 (bidirectional Monte Carlo); Bennett 1976; Gilks and Berzuini 2001 (moves after
resampling).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from drl_density.diagnostics import rank_drift_test
from drl_density.mcmc import ChainState, LogDensity, take_steps
from drl_density.partition_function.annealing.path import AnnealingPath, evaluated
from drl_density.partition_function.annealing.plan import AISPlan
from drl_density.partition_function.annealing.settings import AISSettings
from drl_density.partition_function.bridge import bridged, mixing_shift
from drl_density.records.fields import NonNegativeInt, PositiveInt, check_fields
from drl_density.records.intervals import student_quantile
from drl_density.weights import Estimate, OtherSide, resample

LEAST_OVERLAP, LEAST_SHARED_WALKS = 0.05, 50
"""Overlap of both directions, and walks in it, below which Bennett's ratio checks nothing."""
MOST_ERRORS, SLACK = 3.0, 0.02
"""Joint standard errors, and nats beyond them, by which the estimate may lie from Bennett's ratio."""
MOST_MOVED = 0.05
"""Nats by which the mean log weight of walks back may move as draws mix, beyond its error at ``CHANCE_OF_REST``."""
CHANCE_OF_REST, LEAST_P_VALUE = 0.999, 1e-4
"""Probability with which draws at rest pass the test of that move, and p-value below which draws have drifted."""
LARGEST_SHAPE = 0.5
"""Pareto's k from which the variance of the weights may be infinite: the standard error is then too small."""
MOST_UNCOUNTED, CHANCE_OF_UNCOUNTED = 0.01, 1e-3
"""Share of Z, or the standard error where that is larger, which walks back may put above the largest weight, and the
probability with which they exceed it by chance."""
STEP_SPREAD = 10.0
"""Range of step sizes of the chains that move draws on, since the scale of a target may differ from place to place."""
EARLY_SHARE = 0.25
"""Share of the mixing steps after which draws are kept for the comparison with the last ones."""
LEAST_DRAWS, PARTICLES_PER_DRAW = 128, 4
"""Smallest number of draws of all replicates together, where there are so many particles, and particles for each draw beyond
that number, so that few particles are drawn twice."""


@dataclass(frozen=True)
class OtherSideSettings:
    """Sizes of the check from the other side.

    Attributes:
        num_samples: draws of the target per replicate from which walks go back, at most a quarter of its particles where
            that is enough.
        num_mixing_steps: steps of the chains that move each draw before; a step of a diffusion sampler's chains has five
            gradients, and they take a fifth as many.
        num_swept: points around known modes at which the search for modes looks for narrower ones.

    Raises:
        ValueError: no draws or no steps.

    >>> OtherSideSettings().num_samples
    64
    """

    num_samples: PositiveInt = 64
    num_mixing_steps: PositiveInt = 400
    num_swept: NonNegativeInt = 2**15

    def __post_init__(self) -> None:
        check_fields(self)

    def draws_of(self, num_particles: int, num_replicates: int) -> int:
        """Number of draws that each replicate gives.

        Args:
            num_particles: particles of a replicate.
            num_replicates: independent replicates of the run.
        """
        enough = max(num_particles // PARTICLES_PER_DRAW, math.ceil(LEAST_DRAWS / num_replicates))
        return min(self.num_samples, enough, num_particles)


class Mixed(NamedTuple):
    """Draws at three times of the chains that move them, each ``(replicate * draw, *event)``.

    Attributes:
        start: particles resampled by their weights.
        early: the same chains after a quarter of the steps.
        late: their ends.
    """

    start: Tensor
    early: Tensor
    late: Tensor


def chosen_draws(
    particles: Tensor, log_weights: Tensor, num_samples: int, *, generator: torch.Generator | None
) -> Tensor:
    """Particles of every replicate resampled by their weights, ``(replicate * draw, *event)``.

    Args:
        particles: ends of the walks ``(replicate, particle, *event)``.
        log_weights: their log weights ``(replicate, particle)``.
        num_samples: draws of each replicate.
    """
    index = resample(log_weights, num_samples, generator=generator)
    return torch.cat([rows[places] for rows, places in zip(particles, index, strict=True)])


def mixed_draws(
    path: AnnealingPath,
    plan: AISPlan,
    settings: AISSettings,
    start: Tensor,
    num_steps: int,
    generator: torch.Generator | None,
) -> Mixed:
    """Draws moved on at the end of an annealing path, kept after a quarter of the steps and after all.

    Args:
        path: densities of the run, the target last.
        plan: step sizes and scales, of which the last are taken.
        settings: kernel and sizes of the run.
        start: particles resampled by their weights ``(n, *event)``.
        num_steps: number of steps.
    """
    kernel, target = settings.kernel.with_scale(plan.scales[-1]), path.log_densities[-1]
    num_early = max(1, round(EARLY_SHARE * num_steps))

    def moved(state: ChainState, number: int) -> ChainState:
        return take_steps(
            kernel,
            state,
            target,
            num_steps=number,
            step_size=plan.step_sizes[-1],
            spread=max(STEP_SPREAD, settings.step_spread),
            generator=generator,
        ).state

    parts = []
    for rows in start.split(settings.max_rows):
        early = moved(kernel.init(rows, target), num_early)
        parts.append((early.position, moved(early, num_steps - num_early).position))
    return Mixed(start, *(torch.cat(ends) for ends in zip(*parts, strict=True)))


def compare(
    estimate: Estimate,
    forward: Tensor,
    mixed: Mixed,
    upward: Callable[[Tensor], Tensor],
    log_density: LogDensity,
    *,
    pareto_k: float = math.nan,
) -> OtherSide:
    """What walks back from draws of the target show about an estimate of one direction.

    Args:
        estimate: the estimate, with its error.
        forward: log weights of walks to the target ``(replicate, walk)``, never resampled.
        mixed: draws at three times.
        upward: log weights ``(n,)`` of walks back from rows ``(n, *event)``, in the sense of the forward ones.
        log_density: unnormalised log density of the target.
        pareto_k: tail shape of the weights whose mean is the estimate; NaN where they were resampled or are bounded.

    >>> generator = torch.Generator().manual_seed(0)
    >>> def log_weight(x):  # of a step from N(0, 4) to N(0, 1) with log Z = 0
    ...     return -0.375 * x[:, 0].square() + math.log(2)
    >>> draws = torch.randn(3, 512, 1, generator=generator)
    >>> forward = log_weight(2 * torch.randn(2048, 1, generator=generator)).reshape(8, 256)
    >>> found = compare(Estimate(0.0, 0.02), forward, Mixed(*draws), log_weight, lambda x: -0.5 * x[:, 0].square())
    >>> found.is_sound, found.overlap > 0.2
    (True, True)
    """
    replicates = len(forward)
    early, late = (upward(rows).double().reshape(replicates, -1) for rows in (mixed.early, mixed.late))
    alive = late[late.isfinite()]
    upper = Estimate(float(alive.mean()), float(alive.std()) / math.sqrt(max(1, len(alive))))
    drift = rank_drift_test(_cells(log_density, mixed.start), _cells(log_density, mixed.late))
    bridge = bridged(forward, late)
    # The share of Bennett's ratio counts the smaller side against the larger one, which may have 50 times as many walks.
    counts = forward.numel(), late.numel()
    overlap = 0.0 if bridge is None else min(1.0, bridge.overlap * max(counts) / min(counts))
    faults: list[str] = []
    doubts: list[str] = []
    if bridge is None:
        faults.append("walks back lie below the walks to the target, so their draws are not from the target")
    else:
        joint = math.hypot(bridge.standard_error, estimate.standard_error)
        gap = bridge.log_z - estimate.log_z
        if overlap < LEAST_OVERLAP or overlap * min(counts) < LEAST_SHARED_WALKS:
            doubts.append(f"walks back hardly overlap with those to the target ({overlap:.2g}) and check little")
        if abs(gap) > MOST_ERRORS * joint + SLACK:
            faults.append(
                f"Bennett's ratio of walks to the target and back lies {gap:.2g} nats from the estimate, "
                f"{abs(gap) / joint:.1f} standard errors"
            )
    if drift.p_value < LEAST_P_VALUE:
        doubts.append(
            f"chains move the weighted particles on to other places (p-value {drift.p_value:.1g}): they do not stand for "
            "the whole target"
        )
    moved = mixing_shift(early, late)
    chance = student_quantile(replicates - 1, CHANCE_OF_REST) * moved.standard_error
    if abs(moved.log_z) > MOST_MOVED + chance:
        doubts.append(f"the mean log weight of walks back moved by {moved.log_z:.2g} nats as draws mixed")
    if pareto_k > LARGEST_SHAPE:
        doubts.append(f"Pareto k {pareto_k:.2g}: the variance of the weights may be infinite, and the error too small")
    if not math.isnan(pareto_k) and (share := _uncounted(forward, late, estimate.standard_error)):
        doubts.append(f"{share:.2g} of the walks back have larger weights than every walk to the target: mass not counted")
    value, error = (math.nan, math.nan) if bridge is None else (bridge.log_z, bridge.standard_error)
    advice = "take the two-sided estimate (drl.sandwich), or more densities or steps"
    return OtherSide(
        log_z=value,
        standard_error=error,
        overlap=overlap,
        upper=upper.log_z,
        upper_error=upper.standard_error,
        drift_p_value=drift.p_value,
        faults=tuple(f"{fault}: {advice}" for fault in faults),
        doubts=tuple(f"{doubt}: {advice}" for doubt in doubts),
    )


def _uncounted(forward: Tensor, late: Tensor, error: float) -> float:
    """Share of walks back above all walks to the target, 0 where it may be chance.

    With p and q the densities of the log weight of walks back from the target and to it, p = q w / Z. So the share of p
    above a threshold is the share of Z that weights above it have.
    """
    above, allowed = int((late > forward.max()).sum()), max(MOST_UNCOUNTED, error) * late.numel()
    if not above:
        return 0.0
    chance = torch.special.gammainc(*torch.tensor([above, allowed], dtype=torch.float64))  # of as many, by Poisson's law
    return above / late.numel() if float(chance) < CHANCE_OF_UNCOUNTED else 0.0


def with_reasons(found: OtherSide, faults: list[str], doubts: list[str]) -> OtherSide:
    """The same with further faults and doubts.

    >>> with_reasons(OtherSide(0.0, 0.1, 0.5, 0.2, 0.1, 1.0), [], ["a mode may be missing"]).is_sound
    False
    """
    return dataclasses.replace(found, faults=(*found.faults, *faults), doubts=(*found.doubts, *doubts))


def _cells(log_density: LogDensity, rows: Tensor) -> Tensor:
    """Log density and coordinates of rows, ``(n, 1 + d)``."""
    return torch.cat([evaluated(log_density, rows)[:, None], rows.reshape(len(rows), -1).double().cpu()], 1)
