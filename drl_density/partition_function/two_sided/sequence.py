"""The sandwich of a sequence's level 0, along its own noise levels."""

from __future__ import annotations

import dataclasses
import math
import time

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.errors import Verdict
from drl_density.model import EnergySequence
from drl_density.partition_function.annealing.path import sequence_path
from drl_density.partition_function.annealing.plan import plan_annealing
from drl_density.partition_function.annealing.progress import Progress, Watch
from drl_density.partition_function.annealing.run import anneal
from drl_density.partition_function.bridge import bennett_by_replicates
from drl_density.partition_function.importance import LEAST_DIRECT_EFFICIENCY, importance_efficiency
from drl_density.partition_function.reverse_path import forward_weights, plan_reverse_path, reverse_weights
from drl_density.partition_function.two_sided.estimates import Estimator
from drl_density.partition_function.two_sided.from_base import importance_estimate, walk_from_base, with_error
from drl_density.partition_function.two_sided.many_dimensions.assemble import assemble_many_dimensions
from drl_density.partition_function.two_sided.many_dimensions.walks import has_many_dimensions, walk_sequence
from drl_density.partition_function.two_sided.margins import Bracket, Margins, Point, Precision
from drl_density.partition_function.two_sided.record import CERTIFICATE_FACTOR, Sandwich, assemble, warn_if_unusable
from drl_density.partition_function.two_sided.settings import SandwichSettings
from drl_density.partition_function.two_sided.walks import PathFigures, Route, end_draws, take_walks
from drl_density.records.given import given_or_default
from drl_density.weights import Estimate, assess_weights

PATH_STEPS_PER_LEVEL = 12
"""Grid steps per level of the reverse path in fewer than 48 dimensions, unless the settings give another number."""


@outside_inference_mode
def sequence_sandwich(
    model: EnergySequence,
    *,
    data: Tensor | None = None,
    settings: SandwichSettings | None = None,
    generator: torch.Generator | None = None,
    watch: Watch | None = None,
) -> Sandwich:
    """Two-sided interval of log Z of a sequence's level 0, by path weights along its own noise levels.

    A sequence without a network, on a normalised base, has log Z = 0 exactly: nothing is run.

    For a bounded network on a base whose draws have an importance efficiency of at least 0.01, the paths are single steps
    between the base and level 0. They give a far narrower interval in far less time, and annealing along the noise levels is
    then one more estimate that must not lie above. Elsewhere importance sampling from the base is.

    For all other models paths go along the noise levels. In fewer than 48 dimensions their kernels are planned on a pilot of
    annealing, and annealing and equilibrium draws have to agree with them. In 48 dimensions or more annealing collapses. The
    kernels are then planned on rows of data, or on draws of the model's own chains, and particles that are resampled on the
    way are what has to agree.

    Warns with :class:`~drl_density.errors.UnreliableEstimateWarning` when the verdict is ``UNRELIABLE`` or ``UNKNOWN``.

    Args:
        data: rows ``(n, *event)`` in model space from which a second set of chains starts, so that a basin of the data
            that no path from noise reaches is seen.
        watch: called with a :class:`~drl_density.partition_function.Progress` as the run proceeds.

    Raises:
        NumericalError: an improper model, or lost weights.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.testing import GaussianMixtureSequence
    >>> system = GaussianMixtureSequence.example(schedule=NoiseSchedule.log_spaced(2))
    >>> sizes = {"num_particles": 32, "num_replicates": 2, "num_transitions": 1, "num_mixing_steps": 2}
    >>> settings = SandwichSettings(**sizes, steps_per_level=4, path_steps_per_level=4)
    >>> result = sequence_sandwich(system.model, settings=settings, generator=torch.Generator().manual_seed(0))
    >>> abs(result.log_z - float(system.log_z(0))) < 1
    True
    """
    settings = given_or_default(settings, SandwichSettings)
    if model.is_base_alone:
        return _exact(settings)
    if watch is not None:
        watch(Progress("pilot runs, to be discarded"))
    importance = importance_estimate(model, generator=generator)
    if importance is not None and importance_efficiency(importance.log_weights) >= LEAST_DIRECT_EFFICIENCY:
        found = walk_from_base(model, importance, data=data, settings=settings, generator=generator, watch=watch)
        return warn_if_unusable(assemble(*found))
    others = {} if importance is None else {Estimator.IMPORTANCE: with_error(importance)}
    if has_many_dimensions(model):
        start = time.monotonic()
        walked = walk_sequence(model, data=data, settings=settings, generator=generator, watch=watch)
        seconds = time.monotonic() - start
        return warn_if_unusable(assemble_many_dimensions(walked, settings=settings, others=others, seconds=seconds))
    route = _route(model, settings, generator)
    walks = take_walks(route, data=data, generator=generator, watch=watch)
    return warn_if_unusable(assemble(route, dataclasses.replace(walks, others=others)))


def _exact(settings: SandwichSettings) -> Sandwich:
    """The record of a normalised base alone: every path weight is 1, whatever the path."""
    shape, nothing = (settings.num_replicates, settings.num_particles), Estimate(0.0, 0.0)
    weights = torch.zeros(shape, dtype=torch.float64)
    point, bounds = Point(bennett_by_replicates(weights, weights)), Bracket(nothing, nothing)
    names = (Estimator.BENNETT, Estimator.FORWARD, Estimator.REVERSE, Estimator.LOWER, Estimator.UPPER_NOISE)
    return Sandwich(
        log_z=0.0,
        standard_error=0.0,
        lower=0.0,
        upper=0.0,
        bracket=(0.0, 0.0),
        certificate=-math.log(CERTIFICATE_FACTOR),
        overlap=1.0,
        verdict=Verdict.RELIABLE,
        advice="the density is its reference, which is normalised: log Z is 0 exactly",
        estimates=dict.fromkeys(names, nothing),
        annealing=assess_weights(weights, bias="none-known"),
        forward=weights,
        reverse=weights,
        reverse_from_data=None,
        margins=Margins((point,), bounds, starts_differ=False),
        path=PathFigures((0.0,), (1.0,), (1.0,), torch.full((2, 2), 0.5, dtype=torch.float64)),
        precision=Precision(settings.tolerance, 0.0, 0.0, num_paths=weights.numel(), seconds=0.0),
        origin="the reference",
    )


def _route(model: EnergySequence, settings: SandwichSettings, generator: torch.Generator | None) -> Route:
    """Plan annealing and reverse path along the sequence on pilots whose particles are thrown away."""
    ais = settings.annealing()
    annealing = sequence_path(model, steps_per_level=settings.steps_per_level)
    plan = plan_annealing(annealing, ais, generator=generator)
    one_replicate = dataclasses.replace(ais, num_replicates=1, num_kept=0)
    pilot = anneal(annealing, plan, one_replicate, generator=generator)
    path = plan_reverse_path(
        model,
        end_draws(pilot, generator=generator).flatten(0, 1),
        steps_per_level=settings.path_steps_per_level or PATH_STEPS_PER_LEVEL,
        generator=generator,
    )

    def downward(num_particles: int, generator: torch.Generator | None) -> Tensor:
        num_paths = settings.num_replicates * num_particles
        weights, _ = forward_weights(path, num_paths, generator=generator)
        return weights.reshape(settings.num_replicates, num_particles)

    def upward(draws: Tensor, generator: torch.Generator | None) -> Tensor:
        return reverse_weights(path, draws.flatten(0, 1), generator=generator).reshape(draws.shape[:2])

    return Route(annealing, plan, settings, downward, upward)
