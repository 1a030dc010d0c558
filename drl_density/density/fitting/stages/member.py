"""The stages of one member: a network is trained by its objective, and refined by recovery likelihood where that is on."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from drl_density.density.data_units import freeze
from drl_density.density.fitting.build import build_doctor, build_objective
from drl_density.density.fitting.plan import FitPlan, Member
from drl_density.density.fitting.run import FitRun
from drl_density.density.fitting.selection import ImportanceLikelihood, stage_score, training_score
from drl_density.density.fitting.stages.paths import with_meter
from drl_density.density.fitting.stages.time import Budget
from drl_density.density.provenance import Stage
from drl_density.model import EnergySequence
from drl_density.records.brief import brief
from drl_density.training import TrainingHooks, TrainingState, train

REFINEMENT_WARMUP, REFINEMENT_DECAY = 20, 0.98
"""Steps over which the rate of a refinement rises, and decay of its average: short, since the stage is."""


@dataclass(frozen=True, eq=False)
class TrainedMember:
    """A trained network.

    Attributes:
        name: Name of the member.
        state: State at the end of its stages, with the best averaged weights in ``best``.
        tilt: Best averaged weights before the refinement.
        recovery: What the refinement brought; None without one.
    """

    name: str
    state: TrainingState
    tilt: dict[str, Tensor]
    recovery: Stage | None = None

    __repr__ = brief


def train_member(
    plan: FitPlan, member: Member, run: FitRun, *, budget: Budget | None = None, num_later: int = 0
) -> TrainedMember:
    """Train one network through its stages, from its saved states where there are any.

    Args:
        plan: Plan of the fit.
        member: Network to be trained.
        run: Opened run, which saves the state at every evaluation.
        budget: Time that training may take; no limit when not given.
        num_later: Number of members to be trained after this one.
    """
    budget = budget or Budget()
    ends = budget.ends(num_later)
    state = plan.new_state(member.base, seed=member.seed)
    if budget.is_reference_alone:
        rows = plan.validation(seed=member.seed, member=member)
        score = ImportanceLikelihood(state.averaged_model, rows, num_samples=1, seed=member.seed)
        state.keep_best(score.reference().value, 0.0)  # an untrained network is the reference
        return TrainedMember(member.name, state, state.best)
    run.restore(state, member.name)
    if not plan.settings.recovery.is_on:
        _train_stage(plan, member, member.name, state, run, deadline=ends.contrast)
        return TrainedMember(member.name, state, state.best)
    name = f"{member.name}.recovery"
    is_over = run.has_state(name)  # a first stage that ended by its deadline does not continue beneath the second
    first = plan.with_num_steps(run.workers.broadcast(max(1, state.step))) if is_over else plan
    _train_stage(first, member, member.name, state, run, deadline=ends.contrast)
    second = refinement_plan(plan)
    refined = second.new_state(member.base, seed=member.seed + 1)
    for model in (refined.model, refined.average.module):
        model.load_state_dict(state.best)
    refined.drawn = state.drawn
    run.restore(refined, name)
    _train_stage(second, member, name, refined, run, deadline=ends.refinement)
    return with_refinement(plan, member, state, refined)


def with_refinement(plan: FitPlan, member: Member, state: TrainingState, refined: TrainingState) -> TrainedMember:
    """The member with the refined weights, if these gained more than the paired error, and with the history of both.

    Args:
        plan: Plan of the contrast.
        member: Network that was trained.
        state: State at the end of the contrast; changed in place.
        refined: State at the end of the refinement.
    """
    tilt = state.best
    before, after = (_frozen(plan, member, weights, state.model.device) for weights in (tilt, refined.best))
    score = stage_score(plan, after)
    gain, value = score.gain(after, before), score.reference().value + score.gain(after).value
    is_kept = gain.value > gain.standard_error
    if is_kept:
        state.best, state.best_score, state.best_level = refined.best, refined.best_score, refined.best_level
        state.best_step = state.step + refined.best_step
    state.history += [record | {"step": record["step"] + state.step} for record in refined.history]
    state.step += refined.step
    state.num_rollbacks += refined.num_rollbacks
    return TrainedMember(member.name, state, tilt, Stage("recovery", value, gain.value, gain.standard_error, is_kept))


def refinement_plan(plan: FitPlan) -> FitPlan:
    """The plan of the stage that refines the contrast of a plan: another objective, and training of its own."""
    settings = plan.settings.recovery
    training = dataclasses.replace(
        plan.training,
        num_steps=settings.num_steps,
        learning_rate=settings.learning_rate,
        decay="constant",
        warmup_steps=REFINEMENT_WARMUP,
        average_decay=REFINEMENT_DECAY,
        evaluate_every=settings.evaluate_every,
        patience=settings.patience,
    )
    return dataclasses.replace(
        plan,
        training=training,
        objective=build_objective(settings.objective),
        doctor=build_doctor(settings.objective, plan.schedule),
        start=dataclasses.replace(plan.start, step_size=settings.objective.chain_step_size),
    )


def _train_stage(
    plan: FitPlan, member: Member, name: str, state: TrainingState, run: FitRun, *, deadline: float | None
) -> None:
    """Train a state by the objective of a plan.

    Args:
        plan: Plan of the stage.
        member: Network that is trained, whose seed is that of the validation rows and of the pool of draws.
        name: Name of the saved state.
        state: New or restored state; changed in place.
        run: Opened run.
        deadline: Value of ``time.monotonic()`` at which training stops, or None.
    """
    seed = member.seed
    held_out = plan.validation(seed=seed, member=member)
    with (
        contextlib.closing(plan.batches(member, state)) as batches,
        tqdm(
            desc=name,
            total=plan.training.num_steps,
            initial=state.step,
            disable=not run.shows_progress,
            unit="step",
        ) as bar,
    ):
        hooks = TrainingHooks(
            on_step=lambda step: bar.update(step - bar.n),
            on_record=lambda record: bar.set_postfix_str(doctor_line(record)),
            save=run.saver(name),
        )
        score = training_score(plan, held_out, state, seed=seed)
        evaluation = plan.evaluation(held_out, score, batches.redraw)
        objective, evaluation = with_meter(
            plan.objective_of(state, seed=seed), evaluation, state, num_steps=plan.training.num_steps
        )
        train(
            state,
            objective,
            batches,
            settings=plan.training,
            evaluation=evaluation,
            doctor=plan.doctor,
            hooks=hooks,
            deadline=deadline,
        )


def doctor_line(record: Mapping[str, Any]) -> str:
    """The doctor's line of the progress bar, from a record of the training history."""
    line = f"val {record['selection_score']:.3f} (level {record['selected_level']:g})"
    rates = [rate for rate in record["acceptance_rate"] if not math.isnan(rate)]
    if rates:  # objectives without chains have none
        line = f"{line}, acc>={min(rates):.2f}"
    return f"{line} | {'; '.join(record['complaints'])}" if record["complaints"] else f"{line} | healthy"


def _frozen(plan: FitPlan, member: Member, weights: dict[str, Tensor], device: torch.device) -> EnergySequence:
    """A frozen sequence of a member with these weights."""
    model = plan.new_model(member.base, seed=0).to(device)
    model.load_state_dict(weights)
    return freeze(model)


def member_stages(
    plan: FitPlan, member: TrainedMember | None, model: EnergySequence, *, reference: float | None = None
) -> tuple[Stage, ...]:
    """What each stage brought on the validation rows; empty for objectives without a base to draw from.

    Args:
        plan: Plan of the fit.
        member: Reported member; None for an average, whose tilt then includes the refinements of its members.
        model: Sequence of the reported density, frozen.
        reference: Validation score of the reference, where it is known and nothing was trained; None computes it.
    """
    if plan.selection.num_samples is None or plan.selection.rule == "last":
        return ()
    if model.is_base_alone:  # nothing was trained, and log Z = 0 needs no draws
        if reference is None:
            rows = plan.validation(seed=plan.seed)
            reference = ImportanceLikelihood(model, rows, num_samples=1, seed=plan.seed).reference().value
        return Stage("reference", reference), Stage("tilt", reference, 0.0, 0.0, kept=False)
    tilted = model
    if member is not None:
        place = next(place for place in plan.members if place.name == member.name)
        tilted = _frozen(plan, place, member.tilt, model.device)
    score = stage_score(plan, tilted)
    gain = score.gain(tilted)
    before = Stage("reference", score.reference().value)
    # The likelihood itself: a score that selects counts tilts of low efficiency for no more than their base.
    tilt = Stage("tilt", before.validation + gain.value, gain.value, gain.standard_error, kept=gain.value > 0)
    found = (before, tilt)
    return found if member is None or member.recovery is None else (*found, member.recovery)
