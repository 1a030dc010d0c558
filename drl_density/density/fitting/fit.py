"""``fit``: from data to a :class:`Density`."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from drl_density.bases import Base
from drl_density.datasets import Dataset, Split, load_dataset
from drl_density.density.density import Density
from drl_density.density.fitted import Provenance
from drl_density.density.fitting.baselines import (
    validation_baselines,
)
from drl_density.density.fitting.batches import DrawnBatches, label_values
from drl_density.density.fitting.build import (
    build_doctor,
    build_objective,
    fresh_state,
    members_of,
    training_batches,
)
from drl_density.density.fitting.forecast import finishing_seconds, within_time
from drl_density.density.fitting.memory import check_memory
from drl_density.density.fitting.run import TrainingFolder
from drl_density.density.fitting.selection import (
    select_model,
    validation_rows,
    validation_score,
)
from drl_density.density.fitting.table import Table, prepare_table
from drl_density.density.normalizing import normalize
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.devices import find_device
from drl_density.errors import DataError, RunFolderError
from drl_density.parallel import Workers
from drl_density.training import Evaluation, TrainingHooks, TrainingState, history_dataset, train


def fit(
    data: Any,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    settings: FitSettings | None = None,
    max_minutes: float | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = True,
    device: str | torch.device | None = None,
) -> Density:
    """Learn a density from a table, small images, or a toy system.

    Args:
        data: a :class:`Dataset`, or anything :func:`load_dataset` takes (name, path, array). Rows with holes need the
            choice ``load_dataset(..., missing="drop")`` or ``missing="draw"``.
        seed: of the split, the networks and training.
        out: run folder; the run is saved there at every evaluation and can be resumed.
        settings: choices to override; see :class:`FitSettings`.
        max_minutes: bound on the whole fit; steps are cut to what the measured speed allows.
        resume: go on with the run in ``out``; where that is finished already, its density is returned as it is.
        force: overwrite the run in ``out``.
        progress: show a progress bar with the doctor's line.
        device: where models are trained and stay, such as "cuda"; the CPU when not given. Rows and results stay on the
            CPU, see :meth:`Density.to`.

    Returns:
        The fitted :class:`Density`, normalised by annealed importance sampling.

    Under ``torchrun`` (inside :func:`~drl_density.parallel.joined_workers`) the processes train together, each on its
    shards of every batch; the first alone writes to ``out``, and all return its density.

    Raises:
        DataError: data that cannot be used.
        ValueError: a device that is not there.
        RunFolderError: ``out`` holds a run and neither ``resume`` nor ``force`` is given.
        TrainingFailed: training ran away more often than the doctor allows.
        WorkerLost: another process of the run is gone; what was saved is whole.
    """
    started = time.monotonic()
    if max_minutes is not None and not max_minutes > 0:
        raise DataError(f"max_minutes must be a positive number, got {max_minutes}")
    place = None if device is None else find_device(device)
    workers = Workers.current()
    if workers.count > 1 and out is None:
        raise RunFolderError(f"{workers.count} processes hand their density on through a run folder: give out=...")
    dataset = data if isinstance(data, Dataset) else load_dataset(data, split=Split(seed=seed))
    folder = None
    if out is not None and workers.is_first:
        folder = TrainingFolder.prepare(out, resume=resume, force=force)
    asked = settings or FitSettings()
    saved = folder.saved(dataset, asked, seed=seed) if folder is not None and resume else None
    if workers.broadcast(saved is not None and folder.is_finished):
        if progress and workers.is_first:
            tqdm.write(f"the run in {out} is finished; to train it longer, start anew with --force")
        return Density.load(out, device=place)
    saved = workers.broadcast(None if saved is None else saved.to_dict())
    settings = _sharded(asked, workers) if saved is None else FitSettings.from_dict(saved)
    table = prepare_table(dataset, settings.transform, base=settings.base)
    settings = settings.resolve(
        len(dataset.train), dataset.train[0].numel(), table.bases.sigma_min, event_shape=dataset.event_shape
    )
    if settings.images.num_classes:
        label_values(dataset, settings.images.num_classes)
    check_memory(settings, place)
    if progress and workers.is_first:
        tqdm.write(table.describe())
    forecast, reserve = None, 0.0
    if saved is None and max_minutes is not None:
        reserve = finishing_seconds(table, settings, seed=seed, device=place)
        left = max_minutes - (time.monotonic() - started + reserve) / 60
        settings, forecast = within_time(table, settings, left, seed=seed, device=place)
        settings = FitSettings.from_dict(workers.broadcast(settings.to_dict()))
        if progress and workers.is_first:
            tqdm.write(
                f"forecast: {settings.training.num_steps} steps, {forecast:.0f} s of training, then {reserve:.0f} s"
            )
    if folder is not None and saved is None:
        folder.begin(dataset, settings, seed=seed)
    deadline = None if max_minutes is None else started + 60 * max_minutes - reserve
    runs: dict[str, TrainingState] = {}
    prepared = time.monotonic()
    for index, (name, base) in enumerate(members_of(table, settings).items()):
        job = _Member(table, settings, base, seed + 7919 * index, name, place)
        runs[name] = job.train(folder, deadline, progress and workers.is_first)
    times = RunTimes(forecast, time.monotonic() - prepared)
    if not workers.is_first:
        workers.wait()
        return Density.load(out, device=place)
    density = _finish(table, settings, runs, times, folder, seed=seed)
    workers.wait()
    return density


def _sharded(settings: FitSettings, workers: Workers) -> FitSettings:
    """A shard per process where nobody asked for more."""
    training = settings.training
    if workers.count == 1 or training.num_shards > 1:
        return settings
    return dataclasses.replace(settings, training=dataclasses.replace(training, num_shards=workers.count))


@dataclass(frozen=True)
class RunTimes:
    """Seconds of training: as forecast under a time limit, else None, and as needed."""

    forecast: float | None
    training: float


@dataclass(frozen=True)
class _Member:
    """One network's training."""

    table: Table
    settings: FitSettings
    base: Base
    seed: int
    name: str
    device: torch.device | None

    def train(self, folder: TrainingFolder | None, deadline: float | None, progress: bool) -> TrainingState:  # noqa: FBT001
        """Train, or go on training, and return the state with its best weights."""
        settings, table = self.settings, self.table
        state = fresh_state(settings, self.base, seed=self.seed, device=self.device)
        if folder is not None:
            folder.restore(state, self.name)
        batches, redraw = training_batches(table, settings), None
        if table.drawn is not None:
            batches = DrawnBatches(table, state)
            redraw = batches.redraw
        held_out = validation_rows(table, settings, seed=self.seed)
        score = validation_score(settings, held_out, state, seed=self.seed)
        with tqdm(
            desc=self.name, total=settings.training.num_steps, initial=state.step, disable=not progress, unit="step"
        ) as bar:
            hooks = TrainingHooks(
                on_step=lambda step: bar.update(step - bar.n),
                on_record=lambda record: bar.set_postfix_str(doctor_line(record)),
                save=None if folder is None else folder.saver(self.name),
            )
            return train(
                state,
                build_objective(settings),
                batches,
                settings=settings.training,
                evaluation=Evaluation(held_out.rows, score=score, redraw=redraw),
                doctor=build_doctor(settings),
                hooks=hooks,
                deadline=deadline,
            )


def doctor_line(record: dict[str, Any]) -> str:
    """The doctor's line of the progress bar."""
    acceptance = min(record["acceptance_rate"])
    line = f"val {record['selection_score']:.3f} (level {record['selected_level']:g}), acc>={acceptance:.2f}"
    return f"{line} | {'; '.join(record['complaints'])}" if record["complaints"] else f"{line} | healthy"


def _finish(
    table: Table,
    settings: FitSettings,
    runs: dict[str, TrainingState],
    times: RunTimes,
    folder: TrainingFolder | None,
    *,
    seed: int,
) -> Density:
    held_out = validation_rows(table, settings, seed=seed)
    name, model = select_model(table, settings, runs, held_out, seed)
    best_run = runs.get(name) or max(runs.values(), key=lambda state: state.best_score)
    generator = torch.Generator().manual_seed(seed + 1)
    found = normalize(model, table.transform, settings, generator=generator)
    num_classes = settings.images.num_classes
    density = Density(
        model=model,
        transform=table.transform,
        estimate=found.estimate,
        event_shape=tuple(table.dataset.event_shape),
        columns=table.dataset.columns,
        settings=settings,
        plan=found.plan,
        pool=found.pool,
        baselines=validation_baselines(table, model, found.estimate.log_z, settings, seed=seed),
        history=history_dataset(best_run.history),
        provenance=Provenance(
            name=table.dataset.name,
            source=table.dataset.source,
            loading=table.dataset.loading,
            seed=seed,
            forecast_seconds=times.forecast,
            training_seconds=times.training,
            steps_done=sum(state.step for state in runs.values()),
            sigma_min=settings.sigma_min,
            selected_member=name,
            selected_sigma=float(model.schedule.sigma_at(0)),
            base_scores=table.bases.scores,
            best_step={member: state.best_step for member, state in runs.items()},
            best_score={member: state.best_score for member, state in runs.items()},
            num_rollbacks={member: state.num_rollbacks for member, state in runs.items()},
            likelihood_label=table.dataset.likelihood_label,
            labels=label_values(table.dataset, num_classes) if num_classes else (),
        ),
    )
    if folder is not None:
        folder.finish(density)
    return density
