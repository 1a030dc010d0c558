"""The sandwich: a two-sided interval for log Z, the bounds around it, and a verdict on whether to believe them."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from drl_density.errors import UNUSABLE_VERDICTS, UnreliableEstimateWarning, Verdict
from drl_density.mcmc import MALA, Kernel, take_steps
from drl_density.model import EnergySequence
from drl_density.partition_function.annealing.path import AnnealingPath, sequence_path
from drl_density.partition_function.annealing.plan import plan_annealing
from drl_density.partition_function.annealing.progress import Progress, Watch
from drl_density.partition_function.annealing.run import anneal
from drl_density.partition_function.annealing.settings import AISSettings
from drl_density.partition_function.bridge import ReplicatedBridge, bennett_by_replicates, bennett_shift, excess
from drl_density.partition_function.equilibrium import equilibrium_estimates
from drl_density.partition_function.judgement import (
    ANNEALING,
    BENNETT,
    BENNETT_DATA,
    BENNETT_EARLY,
    FORWARD,
    INTEGRATION,
    LOWER,
    MULTISTATE,
    REVERSE,
    UPPER_DATA,
    UPPER_NOISE,
    judge_sandwich,
    start_gaps,
)
from drl_density.partition_function.reverse_path import forward_weights, plan_reverse_path, reverse_weights
from drl_density.weights import (
    LogPartitionEstimate,
    assess_weights,
    combine_replicates,
    log_mean_exp,
    normal_quantile,
    resample,
    student_quantile,
)


@dataclass(frozen=True)
class SandwichSettings:
    """Sizes of a sandwich.

    Attributes:
        num_particles: particles, and paths in each direction, per replicate.
        num_replicates: independent replicates; where their spread is the error, the interval uses Student's t.
        num_transitions: kernel steps on every density of the annealing path.
        most_rounds: on a target without levels the base is fitted anew to draws of the round before until log Z no longer
            moves, at most so often; the runs of all rounds are discarded. At least 4.
        steps_per_level: densities per level of the annealing path along a sequence.
        path_steps_per_level: grid steps per level of the reverse path.
        num_mixing_steps: adjusted steps at the target that draws take before they serve the upper side.
        conditional_ess: share at which bridges to a target without levels are placed.
        kernel: adjusted kernel.
        step_spread: see :class:`AISSettings`; when not given 1 along a sequence, 10 on a target without levels.
        num_kept: draws that each replicate keeps of every annealing density for the multistate estimate.

    Raises:
        ValueError: fewer than 2 particles or replicates, or fewer than 4 rounds.

    >>> SandwichSettings(num_particles=64).annealing().num_particles
    64
    """

    num_particles: int = 512
    num_replicates: int = 8
    num_transitions: int = 4
    most_rounds: int = 8
    steps_per_level: int = 8
    path_steps_per_level: int = 12
    num_mixing_steps: int = 50
    conditional_ess: float = 0.98
    kernel: Kernel = field(default_factory=MALA)
    step_spread: float | None = None
    num_kept: int = 16

    def __post_init__(self) -> None:
        if min(self.num_particles, self.num_replicates) < 2:
            raise ValueError(
                "expected at least 2 particles and 2 replicates (an error needs a spread), got "
                f"{self.num_particles} and {self.num_replicates}"
            )
        if self.most_rounds < 4:
            raise ValueError(
                f"most_rounds must be at least 4, so that three fitted bases can agree, got {self.most_rounds}"
            )

    def annealing(self, *, resample_below: float | None = 0.5) -> AISSettings:
        """The settings of the annealing runs.

        Args:
            resample_below: as in :class:`AISSettings`.
        """
        return AISSettings(
            num_particles=self.num_particles,
            num_replicates=self.num_replicates,
            num_transitions=self.num_transitions,
            num_pilot_particles=self.num_particles,
            kernel=self.kernel,
            resample_below=resample_below,
            step_spread=1.0 if self.step_spread is None else self.step_spread,
            num_kept=min(self.num_kept, self.num_particles) if resample_below is not None else 0,
        )


@dataclass(frozen=True)
class Point:
    """A point estimate and what its interval is made of.

    Attributes:
        bridge: Bennett's ratio of both directions.
        drift: nats by which log Z still moved, with as many degrees of freedom as the replicates.
    """

    bridge: ReplicatedBridge
    drift: float = 0.0

    @property
    def log_z(self) -> float:
        """Bennett's point estimate, nats."""
        return self.bridge.log_z

    def half_width(self, probability: float = 0.95) -> float:
        """Half width of the central interval, nats."""
        moved = student_quantile(self.bridge.num_replicates - 1, probability) * self.drift
        return math.hypot(self.bridge.half_width(probability), moved)


@dataclass(frozen=True)
class Bound:
    """A stochastic bound: a mean log weight and its standard error, nats."""

    mean: float
    standard_error: float

    def moved(self, sign: int, probability: float = 0.95) -> float:
        """The bound moved outwards (sign -1 down, 1 up) by its standard error, for ``probability``."""
        return self.mean + sign * normal_quantile(probability) * self.standard_error


@dataclass(frozen=True)
class Sandwich:
    """What is known about log Z, in nats.

    Attributes:
        log_z: point estimate (Bennett's ratio on both directions).
        standard_error: the larger of its jackknife over replicates and its asymptotic error; on a target without levels
            also what log Z still moved with the last refit of the base, or with a quarter of the steps that draws mix,
            beyond their errors.
        lower: lower end of the 95 % interval; where draws from data and from noise differ beyond their errors it holds the
            interval by draws from data too, when the verdict is "unreliable" the bracket; minus infinity when "unknown".
        upper: upper end, infinity when the verdict is "unknown".
        bracket: (mean log weight of the forward paths, that of the reverse paths), each moved outwards to a
            95 % end by its standard error. The lower end holds for any model; the upper one as far as the draws are draws of
            the target.
        certificate: the annealing estimate less log 20: above log Z with probability at most 0.05 by Markov's inequality.
        overlap: of forward and reverse paths, in [0, 1].
        verdict: "reliable", "doubtful", "unreliable" or "unknown".
        advice: reasons, and what to do.
        estimates: every estimator's (value, standard error) by name.
        annealing: the record of the annealing run.
        forward: log weights of forward paths ``(replicate, particle)``.
        reverse: log weights of reverse paths by where their draws began: "noise", and "data" where rows were given.
        points: what the interval is built from: the point, and the point by draws from data where rows were given.
        bounds: (mean log weight of the forward paths, that of the reverse paths) with their standard errors.
        starts_differ: whether draws from data and from noise differ beyond their errors.
        details: of the run.
    """

    log_z: float
    standard_error: float
    lower: float
    upper: float
    bracket: tuple[float, float]
    certificate: float
    overlap: float
    verdict: Verdict
    advice: str
    estimates: dict[str, tuple[float, float]]
    annealing: LogPartitionEstimate
    forward: Tensor
    reverse: dict[str, Tensor]
    points: tuple[Point, ...] = ()
    bounds: tuple[Bound, Bound] = (Bound(-math.inf, 0.0), Bound(math.inf, 0.0))
    starts_differ: bool = False
    details: dict[str, Any] = field(default_factory=dict)

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Ends of the central interval by the rules of ``lower`` and ``upper``, nats; at 0.95 these two.

        Args:
            probability: in (0, 1); the bracket, where it is part of the interval, is widened for it as well.
        """
        bracket = (self.bounds[0].moved(-1, probability), self.bounds[1].moved(1, probability))
        points = [(point.log_z, point.half_width(probability)) for point in self.points]
        return _interval(points, bracket, self.verdict, starts_differ=self.starts_differ)

    @property
    def is_reliable(self) -> bool:
        """True for the verdict ``Verdict.RELIABLE`` alone."""
        return self.verdict.is_reliable

    def __str__(self) -> str:
        return (
            f"log Z = {self.log_z:.4f} in [{self.lower:.4f}, {self.upper:.4f}] (bracket {self.bracket[0]:.4f} to "
            f"{self.bracket[1]:.4f}), {self.verdict}: {self.advice}"
        )


@dataclass(frozen=True)
class Rounds:
    """log Z with one fitted base after another: (value, error) of every round, and whether the last three agree."""

    estimates: tuple[tuple[float, float], ...]
    is_settled: bool


def sequence_sandwich(
    model: EnergySequence,
    *,
    data: Tensor | None = None,
    settings: SandwichSettings | None = None,
    generator: torch.Generator | None = None,
    watch: Watch | None = None,
) -> Sandwich:
    """Sandwich of a sequence's level 0 by path weights along its own noise levels.

    Args:
        model: the sequence.
        data: rows ``(n, *event)`` in model space from which a second set of chains starts, so that a basin of the data
            that no noise-started path reaches is seen.
        settings: sizes.
        generator: source of randomness.
        watch: is told how the run stands, see :class:`~drl_density.partition_function.Progress`.

    Raises:
        NumericalError: an improper model, or weights that are lost.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.testing import GaussianMixtureSequence
    >>> system = GaussianMixtureSequence.example(schedule=NoiseSchedule.log_spaced(2))
    >>> sizes = {"num_particles": 32, "num_replicates": 2, "num_transitions": 1, "num_mixing_steps": 2}
    >>> settings = SandwichSettings(**sizes, steps_per_level=4, path_steps_per_level=4)
    >>> result = sequence_sandwich(system.model, settings=settings, generator=torch.Generator().manual_seed(0))
    >>> abs(result.log_z - float(system.log_z(0))) < 1
    True
    """
    settings = settings or SandwichSettings()
    tell = watch or (lambda _: None)
    tell(Progress("pilot runs, to be discarded"))
    ais = settings.annealing()
    annealing = sequence_path(model, steps_per_level=settings.steps_per_level)
    plan = plan_annealing(annealing, ais, generator=generator)
    pilot = anneal(annealing, plan, one_replicate(ais), generator=generator)
    path = plan_reverse_path(
        model,
        end_draws(pilot, generator).flatten(0, 1),
        steps_per_level=settings.path_steps_per_level,
        generator=generator,
    )
    run = anneal(annealing, plan, ais, generator=generator, watch=watch)
    tell(Progress("paths in both directions"))
    shape = (settings.num_replicates, settings.num_particles)
    forward, _ = forward_weights(path, shape[0] * shape[1], generator=generator)

    def upward(draws: Tensor) -> Tensor:
        return reverse_weights(path, draws.flatten(0, 1), generator=generator).reshape(shape)

    return assemble(
        annealing,
        (plan.step_sizes[-1], plan.scales[-1]),
        run,
        forward.reshape(shape),
        upward,
        data,
        settings,
        generator,
    )


def one_replicate(settings: AISSettings) -> AISSettings:
    """The same run with a single replicate: a pilot."""
    return dataclasses.replace(settings, num_replicates=1, num_kept=0)


def end_draws(run: Any, generator: torch.Generator | None) -> Tensor:
    """Particles of every replicate resampled by their weights, ``(replicate, particle, *event)``."""
    kept = []
    for weights, particles in zip(run.log_weights, run.particles, strict=True):
        kept.append(particles[resample(weights, len(particles), generator=generator)])
    return torch.stack(kept)


def mixed(
    log_density: Callable[[Tensor], Tensor],
    start: Tensor,
    tuned: tuple[float, Tensor],
    settings: SandwichSettings,
    generator: torch.Generator | None,
) -> Tensor:
    """Adjusted steps at the target from ``start`` ``(replicate, particle, *event)``."""
    step_size, scale = tuned
    kernel = settings.kernel.with_scale(scale)
    ais = settings.annealing()
    parts = []
    for rows in start.flatten(0, 1).split(ais.max_rows):
        taken = take_steps(
            kernel,
            kernel.init(rows, log_density),
            log_density,
            num_steps=settings.num_mixing_steps,
            step_size=step_size,
            spread=ais.step_spread,
            generator=generator,
        )
        parts.append(taken.state.position)
    return torch.cat(parts).reshape(start.shape)


def assemble(
    path: AnnealingPath,
    tuned: tuple[float, Tensor],
    run: Any,
    forward: Tensor,
    upward: Callable[[Tensor], Tensor],
    data: Tensor | None,
    settings: SandwichSettings,
    generator: torch.Generator | None,
    *,
    rounds: Rounds | None = None,
) -> Sandwich:
    """Everything about log Z from an annealing run, forward weights, and ``upward`` (draws to reverse weights)."""
    log_density = path.log_densities[-1]
    annealing = assess_weights(run.log_weights, bias="lower", path=run.summary(settings.annealing()))
    starts = {"noise": end_draws(run, generator)}
    if data is not None:
        chosen = torch.randint(len(data), forward.shape, generator=generator)
        starts["data"] = data.to(starts["noise"])[chosen]
    draws = {name: mixed(log_density, start, tuned, settings, generator) for name, start in starts.items()}
    reverse = {name: upward(rows) for name, rows in draws.items()}
    estimates: dict[str, tuple[float, float]] = {}
    if rounds is not None:
        early = reverse["noise"]
        longer = dataclasses.replace(settings, num_mixing_steps=3 * settings.num_mixing_steps)
        reverse["noise"] = upward(mixed(log_density, draws["noise"], tuned, longer, generator))
        before = bennett_by_replicates(forward, early)
        estimates[BENNETT_EARLY] = (before.log_z, before.standard_error)
    bridge = bennett_by_replicates(forward, reverse["noise"])
    value, statistical = bridge.log_z, bridge.standard_error
    drift = 0.0
    if rounds is not None:
        drift = max(excess((value, statistical), rounds.estimates[-1]), bennett_shift(forward, early, reverse["noise"]))
    error = math.hypot(statistical, drift)
    points = [Point(bridge, drift)]
    equilibrium = equilibrium_estimates(path, run.kept, generator=generator)
    estimates |= {
        ANNEALING: (annealing.log_z, max(annealing.standard_error, annealing.within_run_error)),
        FORWARD: _mean_weight(forward, 1.0),
        REVERSE: _mean_weight(reverse["noise"], -1.0),
        LOWER: _mean_log_weight(forward),
        BENNETT: (value, error),
        MULTISTATE: equilibrium.multistate,
        INTEGRATION: equilibrium.integration,
    }
    estimates[UPPER_NOISE] = _mean_log_weight(reverse["noise"])
    if "data" in reverse:
        estimates[UPPER_DATA] = _mean_log_weight(reverse["data"])
        other = bennett_by_replicates(forward, reverse["data"])
        estimates[BENNETT_DATA] = (other.log_z, other.standard_error)
        points.append(Point(other))
    bounds = (Bound(*estimates[LOWER]), Bound(*estimates[UPPER_NOISE]))
    bracket = (bounds[0].moved(-1), bounds[1].moved(1))
    verdict, advice = judge_sandwich(
        estimates,
        (value, statistical),
        bridge.overlap,
        annealing,
        forward.flatten(),
        is_settled=rounds is None or rounds.is_settled,
        least_acceptance=min(run.acceptance_rates),
        drift=drift,
    )
    starts_differ = any(not found.holds for _, found in start_gaps(estimates, (value, statistical)))
    ends = [(point.log_z, point.half_width()) for point in points]
    lower, upper = _interval(ends, bracket, verdict, starts_differ=starts_differ)
    result = Sandwich(
        log_z=value,
        standard_error=error,
        lower=lower,
        upper=upper,
        bracket=bracket,
        certificate=annealing.log_z - math.log(20),
        overlap=bridge.overlap,
        verdict=verdict,
        advice=advice,
        estimates=estimates,
        annealing=annealing,
        forward=forward,
        reverse=reverse,
        points=tuple(points),
        bounds=bounds,
        starts_differ=starts_differ,
        details={
            "num_densities": len(path.log_densities),
            "num_transitions": settings.num_transitions,
            "ess_by_density": run.ess_by_density.mean(1).tolist(),
            "acceptance_by_density": list(run.acceptance_rates),
            "levels": list(path.levels[-len(path.log_densities) :]),
            "overlap_matrix": equilibrium.overlap,
            "log_z_by_round": [] if rounds is None else [round_value for round_value, _ in rounds.estimates],
        },
    )
    if verdict in UNUSABLE_VERDICTS:
        warnings.warn(f"log Z {result.log_z:.4g} is {verdict}: {advice}", UnreliableEstimateWarning, stacklevel=3)
    return result


def _interval(
    points: list[tuple[float, float]], bracket: tuple[float, float], verdict: Verdict, *, starts_differ: bool
) -> tuple[float, float]:
    """The interval around the first (point, half width); around all where the kinds of start differ, with the bracket as
    well when the verdict is "unreliable", none when it is "unknown".
    """
    if verdict is Verdict.UNKNOWN:
        return -math.inf, math.inf
    used = points if starts_differ else points[:1]
    ends = [value + sign * half_width for value, half_width in used for sign in (-1, 1)]
    if verdict is Verdict.UNRELIABLE:
        ends += bracket
    return min(ends), max(ends)


def _mean_log_weight(weights: Tensor) -> tuple[float, float]:
    by_replicate = weights.mean(1)
    return float(weights.mean()), float(by_replicate.std() / math.sqrt(len(by_replicate)))


def _mean_weight(weights: Tensor, sign: float) -> tuple[float, float]:
    value, error = combine_replicates(log_mean_exp(sign * weights, 1))
    return sign * value, error
