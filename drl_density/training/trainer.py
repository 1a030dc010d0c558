"""The one training loop."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from drl_density.errors import DivergenceWarning, TrainingFailed
from drl_density.model import EnergySequence
from drl_density.parallel.whole_tensors import is_sharded, local_part, whole_tensors_of_first
from drl_density.parallel.workers import Workers
from drl_density.training.doctor import Doctor, gradient_free_statistics, spurious_gap
from drl_density.training.gradient_step import gradient_step, prepare_network
from drl_density.training.objectives import Batches, LevelStatistics, Objective
from drl_density.training.settings import TrainingSettings
from drl_density.training.sharded_weights import join_weights, shard_weights
from drl_density.training.state import SaveState, TrainingState
from drl_density.training.validation import validation_loss

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class SelectionScore:
    """A score handed in from above: ``value`` (higher is better) of the model at ``level``; ``details`` are recorded."""

    value: float
    level: float = 0.0
    details: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What evaluations look at: held-out rows, the score from above, and who is told.

    Attributes:
        rows: held-out clean rows in model space.
        score: selection score of an averaged model; without it the negative validation loss selects.
        on_record: called with each history record.
        redraw: called with the state after each evaluation, before it is saved, to draw ``state.drawn`` anew.
        save: called after each evaluation with (tensors, scalars) of the state, as ``TrainingState.to_tensors`` gives them.
        deadline: ``time.monotonic()`` value at which training stops with what it has, or None.
        on_step: called with the number of steps done, after each.
    """

    rows: Tensor
    score: Callable[[EnergySequence], SelectionScore] | None = None
    on_record: Callable[[dict[str, Any]], None] | None = None
    on_step: Callable[[int], None] | None = None
    redraw: Callable[[TrainingState], None] | None = None
    save: SaveState | None = None
    deadline: float | None = None


def train(
    state: TrainingState,
    objective: Objective,
    batches: Batches,
    *,
    settings: TrainingSettings,
    evaluation: Evaluation,
    doctor: Doctor | None = None,
) -> TrainingState:
    """Train until the last step, early stopping, or the deadline; the best averaged weights end in ``state.best``.

    The untrained model, which is its base, is the first candidate.
    Killed at any moment and started again from the last saved state, a run ends with the same bits on as many processes, and
    with the same curve up to rounding on another number of them. Under ``torchrun`` (a process group is initialised) all
    processes go on from the first one's state, and the first alone evaluates, saves and decides.

    Args:
        state: to go on from, changed in place.
        objective: what is minimised.
        batches: source of clean training rows.
        settings: how long and how fast.
        evaluation: held-out rows, score, and who is told.
        doctor: what counts as a run-away.

    Raises:
        ValueError: a doctor with limits for another number of levels, or fewer shards than processes.
        TrainingFailed: when training ran away more often than the doctor allows; the message is the doctor's report.
        WorkerLost: when another process of the run is gone.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> from drl_density.training import RecoveryLikelihood, new_state
    >>> model = EnergySequence(NoiseSchedule.log_spaced(2), MLP(MLPSettings(2, width=8)), (2,))
    >>> state = new_state(model, learning_rate=1e-3, weight_decay=0.0, average_decay=0.9, seed=0)
    >>> rows = torch.randn(16, 2)
    >>> settings = TrainingSettings(num_steps=2, batch_size=8, evaluate_every=2)
    >>> objective, batches = RecoveryLikelihood(num_steps=1), lambda n, generator: rows[:n]
    >>> train(state, objective, batches, settings=settings, evaluation=Evaluation(rows)).step
    2
    """
    doctor = Doctor() if doctor is None else doctor
    doctor.check(state.model.num_levels)
    workers = Workers.current()
    workers.own_shards(settings.num_shards)
    if workers.count > 1:
        tensors, scalars = state.to_tensors()
        state.load_tensors(workers.broadcast_tensors(tensors), workers.broadcast(scalars))
    prepare_network(state.model.network, settings)
    if settings.has_sharded_weights and workers.count > 1:
        shard_weights(state)
    state.model.execution.is_graphed = settings.is_graphed
    if not state.best:
        _keep_best(state, {"validation_loss": math.inf}, evaluation, workers)
    good = state.to_tensors()
    gathered = _Gathered(state.model.num_levels)
    while state.step < settings.num_steps and not _has_stalled(state, settings):
        value, norm = gradient_step(state, objective, batches, settings, workers)
        gathered.add(value.statistics, value.parts, norm)
        state.step += 1
        broken = not math.isfinite(norm)
        if evaluation.on_step is not None and workers.is_first:
            evaluation.on_step(state.step)
        if not broken and state.step % settings.evaluate_every and state.step < settings.num_steps:
            continue
        if not broken:
            replicated = [tensor for tensor in state.model.state_dict().values() if not is_sharded(tensor)]
            workers.check_agreement(replicated, step=state.step)
            model = state.averaged_model
            record = _evaluate(model, state, evaluation, gathered, settings) if workers.is_first else None
            record = workers.broadcast(record)
            reason = doctor.run_away(record, state.history, num_features=state.model.event_shape.numel())
        else:
            reason = f"the gradient norm at step {state.step} is {norm}"
        gathered = _Gathered(state.model.num_levels)
        if reason is not None or not _all_finite(state.model, workers):
            state = _roll_back(state, good, reason or "a parameter is not finite", doctor)
            continue
        record["complaints"] = doctor.complaints(record, num_features=state.model.event_shape.numel())
        _keep_best(state, record, evaluation, workers)
        state.history.append(record)
        if evaluation.redraw is not None:
            evaluation.redraw(state)
        state.drawn = workers.broadcast_tensors(state.drawn)
        good = state.to_tensors()
        if evaluation.on_record is not None and workers.is_first:
            evaluation.on_record(record)
        if workers.broadcast(evaluation.save is not None):
            tensors = whole_tensors_of_first(good[0], workers)
            if workers.is_first and evaluation.save is not None:
                evaluation.save(tensors, good[1])
        is_late = workers.broadcast(evaluation.deadline is not None and time.monotonic() > evaluation.deadline)
        if is_late:
            break
    if state.whole_model is not None:
        join_weights(state)
    return state


def _has_stalled(state: TrainingState, settings: TrainingSettings) -> bool:
    """Early stopping; asked of the state alone, so that a run killed after it has stopped does not go on when resumed."""
    return (state.step - state.best_step) // settings.evaluate_every >= settings.patience


def _all_finite(model: EnergySequence, workers: Workers) -> bool:
    """Whether every parameter is a finite number, in what this process and all others hold of them."""
    parts = [local_part(parameter) for parameter in model.parameters()]
    count = torch.tensor([0.0 if all(bool(torch.isfinite(part).all()) for part in parts) else 1.0])
    workers.add_up(count)
    return not bool(count)


class _Gathered:
    """Sums of what gradient steps saw since the last evaluation."""

    def __init__(self, num_levels: int) -> None:
        self.norms: list[float] = []
        self.parts: dict[str, float] = {}
        self.sums = torch.zeros(3, num_levels, dtype=torch.float64)
        self.counts = torch.zeros(3, num_levels, dtype=torch.float64)

    def add(self, statistics: LevelStatistics, parts: dict[str, Tensor], norm: float) -> None:
        """Add one step."""
        rows = torch.stack([statistics.energy_gap, statistics.acceptance_rate, statistics.relative_jump]).double().cpu()
        seen = ~rows.isnan()
        self.sums += torch.where(seen, rows, 0.0)
        self.counts += seen
        self.norms.append(norm)
        for name, part in parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + float(part)

    def means(self) -> dict[str, Any]:
        """Means per step and per level."""
        record = {f"loss_{name}": total / len(self.norms) for name, total in self.parts.items()}
        record["loss"] = sum(record.values())
        record["gradient_norm"] = sum(self.norms) / len(self.norms)
        return record | gradient_free_statistics(LevelStatistics(*(self.sums / self.counts)))


def _evaluate(
    model: EnergySequence, state: TrainingState, evaluation: Evaluation, gathered: _Gathered, settings: TrainingSettings
) -> dict[str, Any]:
    model.eval()
    record: dict[str, Any] = {"step": state.step, **gathered.means()}
    rows = evaluation.rows.to(model.device)
    held_out = validation_loss(model, rows, state.step_sizes)
    record["validation_loss"] = held_out.total
    record["validation_cross_entropy"] = held_out.cross_entropy
    record["validation_recovery_gap"] = held_out.recovery_gap
    record["learning_rate"] = settings.rate(state.step) * state.rate_factor
    record["step_size"] = state.step_sizes.tolist()
    record["log_normalizer"] = model.log_normalizers.double().tolist()
    record["spurious_gap"] = spurious_gap(model, rows, state.step_sizes).double().tolist()
    return record


def _keep_best(state: TrainingState, record: dict[str, Any], evaluation: Evaluation, workers: Workers) -> None:
    model = state.averaged_model
    model.eval()
    if evaluation.score is None:
        score = SelectionScore(-record["validation_loss"])
    else:
        found = dataclasses.asdict(evaluation.score(model)) if workers.is_first else None
        score = SelectionScore(**workers.broadcast(found))
    record["selection_score"], record["selected_level"] = score.value, score.level
    record |= score.details
    if score.value > state.best_score:
        state.best_score, state.best_step, state.best_level = score.value, state.step, score.level
        state.best = {name: tensor.detach().clone() for name, tensor in state.average.module.state_dict().items()}


def _roll_back(state: TrainingState, good: tuple, reason: str, doctor: Doctor) -> TrainingState:
    at = state.step
    rollbacks, factor = state.num_rollbacks + 1, state.rate_factor * doctor.rate_factor
    state.load_tensors(*good)
    if rollbacks > doctor.max_rollbacks:
        raise TrainingFailed(
            f"training ran away {rollbacks} times and stopped at step {at}: {reason}. The last good state is step "
            f"{state.step}. Try a lower learning rate, fewer levels, or a wider sigma of level 0."
        )
    state.num_rollbacks, state.rate_factor = rollbacks, factor
    state.generator.manual_seed(state.generator.initial_seed() + 1000 * rollbacks)
    warnings.warn(
        f"training doctor: {reason} at step {at}; rolled back to step {state.step} and lowered the learning rate to "
        f"{factor:g} of its schedule (rollback {rollbacks} of {doctor.max_rollbacks})",
        DivergenceWarning,
        stacklevel=3,
    )
    return state


def history_dataset(history: list[dict[str, Any]]) -> xr.Dataset:
    """The history as an xarray Dataset over ``step`` and, where a number is kept per level, ``level``.

    Args:
        history: records of the evaluations, as :class:`TrainingState` keeps them.

    >>> history_dataset([{"step": 10, "loss": 1.0, "acceptance_rate": [0.5, 0.6]}])["acceptance_rate"].dims
    ('step', 'level')
    """
    import xarray as xr

    steps = [record["step"] for record in history]
    variables: dict[str, Any] = {}
    names = [name for name in (history[0] if history else {}) if name != "step"]
    for name in names:
        values = [record.get(name, math.nan) for record in history]
        if name == "complaints":
            variables[name] = ("step", ["; ".join(value) for value in values])
        elif isinstance(values[0], list):
            variables[name] = (("step", "level"), values)
        else:
            variables[name] = ("step", values)
    return xr.Dataset(variables, coords={"step": steps})
