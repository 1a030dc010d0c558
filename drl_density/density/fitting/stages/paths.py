"""Training by path increments: its measurements, the log Z of its tilt, and whether the tilt is reported."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from drl_density.density.data_units import in_passes
from drl_density.density.fitting.completions import HeldOut
from drl_density.density.fitting.plan import FitPlan
from drl_density.density.fitting.selection import Selected, reference_alone
from drl_density.errors import Verdict
from drl_density.model import EnergySequence
from drl_density.partition_function import SandwichSettings, sequence_sandwich
from drl_density.records.intervals import normal_quantile
from drl_density.training import Evaluation, Objective, PathMatching, PathMeter, TrainingState
from drl_density.weights import LogPartitionEstimate

SIZES = SandwichSettings(num_particles=256, path_steps_per_level=8, num_mixing_steps=15)
"""Sizes of the estimate at the end of a fit: 256 paths in each direction, so that an overlap of 0.2 is known, and few steps,
so that most of the time is left to training. ``density.evaluate`` takes more steps."""

MOST_ROWS = 256
"""Validation rows from which the reverse paths of that estimate start."""


def with_meter(
    objective: Objective, evaluation: Evaluation, state: TrainingState, *, num_steps: int
) -> tuple[Objective, Evaluation]:
    """The objective with the measured tables of a state, and an evaluation that measures them again; others unchanged.

    The validation loss does not see the mass that particles find, so weights from before they count in full are not kept.

    Args:
        objective: Objective of a stage.
        evaluation: What every evaluation of the stage computes.
        state: New or restored state, which keeps the tables.
        num_steps: Steps of the stage, after a share of which the increments and the particles join in.
    """
    if not isinstance(objective, PathMatching):
        return objective, evaluation
    meter, earlier = PathMeter(objective), evaluation.redraw
    meter.begin(state, evaluation.rows)

    known = dataclasses.replace(objective, tables=lambda: state.drawn, progress=lambda: state.step / num_steps)

    def redraw(state: TrainingState) -> None:
        meter.redraw(state)
        if known.particles.weight and known.share() < 1:
            state.best_score = -math.inf  # the next evaluation replaces these weights
        if earlier is not None:
            earlier(state)

    # The score is the negative validation loss: a likelihood would need log Z at every evaluation.
    return known, Evaluation(evaluation.rows, figures=meter, redraw=redraw)


def log_z_gradients(num_levels: int, num_particles: int) -> int:
    """Gradients of rows that :func:`tilt_log_z` takes: five walks of the grid, two sets of chains, and what plans them.

    Args:
        num_levels: Noise levels of the sequence.
        num_particles: Particles of each replicate, of which an eighth are paths.
    """
    steps = num_levels * (SIZES.path_steps_per_level or 1)
    paths = SIZES.num_replicates * math.ceil(min(SIZES.num_particles, num_particles) / 8)
    return paths * (5 * steps + 2 * 4 * SIZES.num_mixing_steps) + MOST_ROWS // 2 * (2 * steps + 64)


def judged(plan: FitPlan, chosen: Selected, rows: HeldOut) -> tuple[Selected, LogPartitionEstimate | None]:
    """The trained tilt with its log Z, or the untouched base where the tilt is not surely better.

    It is surely better where the verdict on log Z is usable, and its mean validation log-likelihood at the upper end of the
    interval of log Z exceeds that of the base.

    Args:
        plan: Plan of a fit by path increments.
        chosen: Trained sequence; one with a reason against it gives way at once.
        rows: Validation rows in model space.

    Returns:
        What is reported, and the estimate of log Z of a tilt; None for the base, whose log Z is 0 exactly.
    """
    base = {member.name: member for member in plan.members}.get(chosen.member, plan.members[0]).base
    reason, estimate = chosen.rejection, None
    if not reason:
        few = min(SIZES.num_particles, plan.normalizing.num_particles)
        estimate = tilt_log_z(chosen.model, rows.rows[:MOST_ROWS], num_particles=few, seed=plan.seed)
        reason = _against(chosen.model, estimate, rows)
    if not reason:
        return chosen, estimate
    return Selected(chosen.member, reference_alone(plan, base), reason), None


def tilt_log_z(
    model: EnergySequence, rows: Tensor, *, num_particles: int = SIZES.num_particles, seed: int
) -> LogPartitionEstimate:
    """log Z of a tilted sequence by paths along its noise levels in both directions, as one estimate.

    Args:
        model: Frozen sequence.
        rows: Rows in model space from which chains for the reverse paths start.
        num_particles: Particles of each replicate.
        seed: Seed of the paths.
    """
    generator = torch.Generator().manual_seed(seed + 5)
    settings = dataclasses.replace(SIZES, num_particles=num_particles)
    found = sequence_sandwich(model, data=rows.to(model.device, model.dtype), settings=settings, generator=generator)
    half = 0.5 * (found.upper - found.lower) / normal_quantile()
    known = found.annealing
    return dataclasses.replace(
        known,
        log_z=found.log_z,
        standard_error=max(half, found.standard_error),
        log_weights=known.log_weights - known.log_z + found.log_z,
        bias="none-known",
        verdict=found.verdict,
        advice=found.advice,
    )


def _against(model: EnergySequence, estimate: LogPartitionEstimate, rows: HeldOut) -> str:
    """Why a tilt is not reported; empty where it is."""
    if estimate.verdict not in (Verdict.RELIABLE, Verdict.DOUBTFUL):
        return f"the verdict on its log Z is {estimate.verdict}: {estimate.advice}"
    tilts = in_passes(lambda part: model.tilt(part.to(model.device), 0).double().cpu(), rows.rows, model.device)
    gain = float(rows.mean(tilts)) - estimate.interval()[1]
    if gain > 0:
        return ""
    return f"its gain on validation at the upper end of log Z is {gain:.3g} nats a row"
