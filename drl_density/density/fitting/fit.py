"""``fit``: from data to a :class:`Density`."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from drl_density.autograd import outside_inference_mode
from drl_density.datasets import Dataset, Split, load_dataset
from drl_density.density.density import Density
from drl_density.density.evaluation.outlier_scores import held_out_scores
from drl_density.density.fitting.baselines import validation_baselines
from drl_density.density.fitting.forecast import check_memory, check_minutes, finishing_seconds, within_time
from drl_density.density.fitting.plan import FEW_SAMPLES, FitPlan, plan_fit
from drl_density.density.fitting.run import FitRun, choose_seed, refuse_folder
from drl_density.density.fitting.selection import rejection, select_model, untouched
from drl_density.density.fitting.stages import (
    Budget,
    Pace,
    TrainedMember,
    member_stages,
    more_minutes,
    search_networks,
    train_member,
)
from drl_density.density.fitting.stages.paths import judged
from drl_density.density.normalizing import normalize
from drl_density.density.provenance import Provenance, RowDigest
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.density.settings.networks import NoNetwork
from drl_density.devices import find_device, global_generator_kept
from drl_density.errors import DataError, DRLDensityWarning, RunFolderError
from drl_density.parallel import Workers
from drl_density.training import PathMatching, history_dataset

LEAST_TILT_SHARE = 0.15
"""Share of the time that must be left after a reference with expensive draws: a trained tilt takes some 200,000 of them."""

WITHOUT_NETWORK = "the settings have no network"
"""Why a fit without a network reports its reference."""


@outside_inference_mode
@global_generator_kept()
def fit(
    data: Any,
    *,
    seed: int | None = None,
    out: str | Path | None = None,
    settings: FitSettings | None = None,
    max_minutes: float | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = True,
    device: str | torch.device | None = None,
) -> Density:
    """Learn a density from a table, small images, or toy data.

    Args:
        data: A :class:`Dataset`, or anything that :func:`load_dataset` takes (name, path, array). Rows with missing values
            require the choice ``load_dataset(..., missing="drop")`` or ``missing="draw"``.
        seed: Seed of the split, the networks and training; None draws one, which the density keeps.
        out: Run folder, where the run is saved at every evaluation and can be resumed.
        settings: Choices to override; see :class:`FitSettings`.
        max_minutes: Time to aim at for the whole fit. The number of steps is what the measured speed allows: at most that of
            the settings, or four times the usual one for a contrast without a number of its own. A contrast that stops
            earlier tries other networks in the time left. Where the time ends before the first evaluation, a contrast
            reports its reference, and any other fit takes longer.
        resume: Continues the run in ``out``. A finished run is returned as it is.
        force: Overwrites the run in ``out``. The earlier run stays until the new one has saved its first state.
        progress: Shows a progress bar with the doctor's line.
        device: Device where models are trained and stay, such as "cuda"; the CPU when not given. Rows and results stay on
            the CPU, see :meth:`Density.to`.

    Returns:
        The fitted :class:`Density`, normalised by annealed importance sampling.

    Under ``torchrun`` (inside :func:`~drl_density.parallel.joined_workers`) the processes train together, each on its
    shards of every batch. Only the first writes to ``out``, and all return its density.

    Raises:
        DataError: Data that cannot be used, or settings that do not fit the data.
        ValueError: A device that is not available.
        RunFolderError: ``out`` holds a run, and neither ``resume`` nor ``force`` is given; or ``resume`` without ``out``.
        TrainingFailed: Training diverged more often than the doctor allows.
        WorkerLost: Another process of the run is lost; what was saved is complete.
    """
    pace = Pace.begin()
    check_minutes(max_minutes)
    place = None if device is None else find_device(device)
    count = Workers.current().count
    if count > 1 and out is None:
        raise RunFolderError(f"{count} processes pass their density on through a run folder: give out=...")
    refuse_folder(out, resume=resume, force=force)
    seed = choose_seed(seed, out=out, resume=resume)
    dataset = data if isinstance(data, Dataset) else load_dataset(data, split=Split(seed=seed))
    with FitRun.open(
        dataset, usual_settings(dataset, settings), seed=seed, out=out, resume=resume, force=force, progress=progress
    ) as run:
        if run.is_finished:
            run.say(f"the run in {out} is finished; to train it longer, start again with --force")
            return run.load(place)
        return _run(run, dataset, seed=seed, place=place, pace=pace, max_minutes=max_minutes)


def usual_settings(dataset: Dataset, settings: FitSettings | None) -> FitSettings:
    """The settings asked for; for 8-bit images without any choice those of the preset "pixels".

    Args:
        dataset: Rows in their split.
        settings: Settings asked for, or None.

    Raises:
        DataError: Settings of another type, such as a dictionary or the name of a preset.
    """
    if settings is not None and not isinstance(settings, FitSettings):
        raise DataError(
            f"settings must be a FitSettings, got {settings!r}: give drl.FitSettings(base=...), each choice by its name, "
            "or drl.FitSettings.preset(name)"
        )
    if settings is None or settings == FitSettings():
        return FitSettings.preset("pixels") if dataset.is_images else FitSettings()
    return settings


def _run(
    run: FitRun, dataset: Dataset, *, seed: int, place: torch.device | None, pace: Pace, max_minutes: float | None
) -> Density:
    """Plan, train and finish an opened run."""
    plan = plan_fit(dataset, run.settings, seed=seed, device=place, max_minutes=max_minutes, say=run.say)
    check_memory(plan)
    run.say(plan.table.describe())
    plan, budget = _within_budget(plan, run, pace, max_minutes)
    run.begin(plan)
    prepared = time.monotonic()
    trained = [
        train_member(plan, member, run, budget=budget, num_later=len(plan.members) - 1 - place)
        for place, member in enumerate(plan.members)
    ]
    if plan.settings.num_trials and len(trained) == 1:
        per_step = (time.monotonic() - prepared) / max(1, trained[0].state.step)
        plan, trained = search_networks(plan, trained[0], run, budget=budget, seconds_per_step=per_step)
    if not run.workers.is_first:
        run.workers.wait()
        return run.load(place)
    density = _finish(plan, {member.name: member for member in trained}, budget, time.monotonic() - prepared)
    run.finish(density)
    run.workers.wait()
    return density


def _within_budget(plan: FitPlan, run: FitRun, pace: Pace, max_minutes: float | None) -> tuple[FitPlan, Budget]:
    """The plan with as many steps as the time limit admits; a resumed run keeps its number of steps."""
    if isinstance(plan.settings.network, NoNetwork):
        return plan, Budget(is_reference_alone=True)
    if max_minutes is None:
        return plan, Budget()
    refinement = plan.settings.recovery
    share = refinement.time_share if refinement.is_on else 0.0
    end = pace.wall + 60 * max_minutes
    if run.is_resumed:
        return plan, Budget(end, refining_seconds=share * 60 * max_minutes / len(plan.members))
    left = end - time.monotonic()
    if plan.table.bases.noisy is not None and left < LEAST_TILT_SHARE * 60 * max_minutes:
        warnings.warn(
            f"max_minutes leaves {max(left, 0.0):.0f} s after the reference, which a tilt would not gain in: the reference "
            "density is reported without a tilt; for one, allow twice as many minutes",
            DRLDensityWarning,
            stacklevel=3,
        )
        return plan, Budget(is_reference_alone=True)
    clock = pace.without(*plan.table.bases.beside).clock(plan.device)
    reserve = finishing_seconds(plan, clock=clock)
    left = (end - reserve - time.monotonic()) / 60
    if plan.has_reference and run.workers.broadcast(left <= 0):  # steps need not be timed
        use = f" beside the {reserve:.0f} s to choose and normalise a tilt" if reserve >= 1 else ""
        warnings.warn(
            f"max_minutes leaves no time for training{use}: the reference density is reported without a tilt; for one, "
            f"allow about {more_minutes(-left):.1f} minutes more",
            DRLDensityWarning,
            stacklevel=3,
        )
        return plan, Budget(is_reference_alone=True)
    forecast = within_time(plan, (1 - share) * left, clock=clock)
    num_steps = run.workers.broadcast(forecast.num_steps)
    if not num_steps:
        return plan, Budget(is_reference_alone=True)
    plan = plan.with_num_steps(num_steps)
    each = f" of each of {len(plan.members)} networks" if len(plan.members) > 1 else ""
    run.say(
        f"forecast: {plan.training.num_steps} steps{each}, {forecast.seconds:.0f} s of training, then {reserve:.0f} s to "
        "choose and normalise"
    )
    seconds = max(0.0, 60 * share * left) / len(plan.members)
    return plan, Budget(end - reserve, forecast.seconds, seconds)


def _finish(plan: FitPlan, members: Mapping[str, TrainedMember], budget: Budget, training_seconds: float) -> Density:
    """Choose the model, normalise it, fill its pool of draws, and compare it with the baselines."""
    table, data = plan.table, plan.table.dataset
    states = {name: member.state for name, member in members.items()}
    held_out = plan.validation(seed=plan.seed)
    chosen = select_model(plan, states, held_out)
    if budget.is_reference_alone:
        is_asked = isinstance(plan.settings.network, NoNetwork)
        chosen = untouched(plan, chosen, WITHOUT_NETWORK if is_asked else "max_minutes left no time to train it")
    best_run = states.get(chosen.member) or max(states.values(), key=lambda state: state.best_score)
    generator = torch.Generator().manual_seed(plan.seed + 1)
    num_samples = plan.selection.num_samples
    if budget.is_reference_alone and num_samples is not None:
        num_samples = min(num_samples, FEW_SAMPLES)  # its log Z is 0 exactly
    sizes = {"sizes": plan.normalizing, "num_samples": num_samples, "generator": generator}
    if isinstance(plan.objective, PathMatching):
        chosen, estimate = judged(plan, chosen, held_out)
        sizes["estimate"] = estimate
    found = normalize(chosen.model, table.transform, **sizes)
    trained = chosen.model
    reason = rejection(plan, chosen.model, found.estimate.log_z, found.excess, held_out)  # empty but for a contrast
    if reason:
        chosen = untouched(plan, chosen, reason)
        found = normalize(chosen.model, table.transform, **sizes)
    model = chosen.model
    folds, is_average = chosen.left_out, chosen.member == "average"
    first = plan.members[0]  # its validation rows are those of the plan
    known = states[first.name].best_score if budget.is_reference_alone and chosen.member == first.name else None
    density = Density(
        model=model,
        transform=table.transform,
        estimate=found.estimate,
        event_shape=tuple(data.event_shape),
        columns=data.columns,
        settings=plan.settings,
        plan=found.plan,
        pool=found.pool,
        baselines=(
            validation_baselines(plan, model, found.estimate.log_z, reference=known)
            if folds is None
            else folds.baselines(table.bases.scores["gaussian"], is_kept=is_average)
        ),
        history=history_dataset(best_run.history),
        provenance=Provenance(
            name=data.name,
            source=data.source,
            loading=data.loading,
            rows=RowDigest.of(data),
            seed=plan.seed,
            forecast_seconds=budget.training_seconds,
            training_seconds=training_seconds,
            steps_done=sum(state.step for state in states.values()),
            sigma_min=float(plan.schedule.sigma[0]),
            selected_member=chosen.member,
            rejection=chosen.rejection,
            selected_sigma=float(model.schedule.sigma_at(0)),
            base_scores=table.bases.scores,
            best_step={member: state.best_step for member, state in states.items()},
            best_score={member: state.best_score for member, state in states.items()},
            num_rollbacks={member: state.num_rollbacks for member, state in states.items()},
            stages=(
                member_stages(plan, members.get(chosen.member), trained, reference=known)
                if folds is None
                else folds.stages(is_kept=is_average)
            ),
            likelihood_label=data.likelihood_label,
            labels=plan.labels,
        ),
    )
    return dataclasses.replace(density, reference=held_out_scores(density, data.test, seed=plan.seed + 2))
