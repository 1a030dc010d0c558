"""The training loop."""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from drl_density.autograd import outside_inference_mode
from drl_density.errors import DivergenceWarning, TrainingFailed
from drl_density.model import EnergySequence
from drl_density.parallel.whole_tensors import is_sharded, local_part, whole_tensors_of_first
from drl_density.parallel.workers import Workers
from drl_density.training.doctor import Doctor
from drl_density.training.evaluation import Evaluation, SelectionScore, StepMeans, evaluation_record
from drl_density.training.gradient_step import GradientStep, gradient_step, prepare_network
from drl_density.training.objectives.objective import Batches, Objective
from drl_density.training.settings import TrainingSettings
from drl_density.training.sharded_weights import join_weights, shard_weights
from drl_density.training.silence import silence_record
from drl_density.training.state import Record, SaveState, TrainingState


@dataclass(frozen=True)
class TrainingHooks:
    """Functions that training calls in the first process; none of them changes its result.

    Attributes:
        on_step: called with the number of steps done, after each step.
        on_record: called with the record of each evaluation.
        save: called with the tensors and scalars of the state after each evaluation.
    """

    on_step: Callable[[int], object] | None = None
    on_record: Callable[[Record], object] | None = None
    save: SaveState | None = None


@outside_inference_mode
def train(
    state: TrainingState,
    objective: Objective,
    batches: Batches,
    *,
    settings: TrainingSettings,
    evaluation: Evaluation,
    doctor: Doctor | None = None,
    hooks: TrainingHooks | None = None,
    deadline: float | None = None,
) -> TrainingState:
    """Train until the last step, early stopping, or the deadline; ``state.best`` then holds the best averaged weights.

    The untrained model, which equals its base, is the first candidate.

    A run that is killed and resumed from its last saved state ends with the same bits on as many processes, and with the
    same curve up to rounding on another number of processes. Under ``torchrun`` (with a process group initialised), all
    processes start from the state of the first one, which alone evaluates, saves and decides.

    Args:
        state: new or restored; changed in place.
        objective: loss that training minimises.
        batches: function that draws clean training rows.
        settings: how long and how fast to train.
        evaluation: held-out rows and selection score.
        doctor: thresholds at which training counts as diverged.
        hooks: functions to call after steps and evaluations.
        deadline: value of ``time.monotonic()`` after which training stops at the next evaluation.

    Returns:
        The given state, at its last step.

    Raises:
        ValueError: a doctor with limits for another number of levels, or fewer shards than processes.
        TrainingFailed: training diverged more often than the doctor allows; the message gives the doctor's reason.
        WorkerLost: another process of the run is gone.

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
    run = _Run(state, settings, evaluation, doctor or Doctor(), hooks or TrainingHooks(), Workers.current())
    run.start()
    while not run.is_over():
        step = gradient_step(state, objective, batches, settings, run.workers)
        run.count(step)
        if not math.isfinite(step.norm):
            run.roll_back(f"the gradient norm at step {state.step} is {step.norm}")
        elif run.is_evaluation_due():
            record = run.evaluate()
            fault = run.fault(record)
            if fault is not None:
                run.roll_back(fault)
                continue
            run.accept(record)
            if run.workers.broadcast(deadline is not None and time.monotonic() > deadline):
                break
    join_weights(state)
    return state


class _Run:
    """One call of :func:`train`: the state, in the one place where it is shared, evaluated, saved and rolled back."""

    def __init__(
        self,
        state: TrainingState,
        settings: TrainingSettings,
        evaluation: Evaluation,
        doctor: Doctor,
        hooks: TrainingHooks,
        workers: Workers,
    ) -> None:
        doctor.check(state.model.num_levels)
        workers.own_shards(settings.num_shards)  # raises ValueError if there are too few
        self.state, self.settings, self.workers = state, settings, workers
        self.evaluation, self.doctor, self.hooks = evaluation, doctor, hooks

    def start(self) -> None:
        """Give every process the state of the first one, shard it if asked, and score the untrained model."""
        state, workers = self.state, self.workers
        if workers.count > 1:
            tensors, scalars = state.to_tensors()
            state.load_tensors(workers.broadcast_tensors(tensors), workers.broadcast(scalars))
        prepare_network(state.model.network, self.settings)
        if self.settings.has_sharded_weights and workers.count > 1:
            shard_weights(state)
        state.model.execution.is_graphed = self.settings.is_graphed
        if not state.best:
            self._select({"validation_loss": math.inf})
        self.good = state.to_tensors()
        self.means = StepMeans(state.model.num_levels)

    def is_over(self) -> bool:
        """Whether all steps are done or training has stopped early; depends on the state alone, so also after a resume."""
        state, settings = self.state, self.settings
        is_stalled = (state.step - state.best_step) // settings.evaluate_every >= settings.patience
        return state.step >= settings.num_steps or is_stalled

    def count(self, step: GradientStep) -> None:
        """Count a gradient step and add it to the means."""
        self.means.add(step)
        self.state.step += 1
        if self.hooks.on_step is not None and self.workers.is_first:
            self.hooks.on_step(self.state.step)

    def is_evaluation_due(self) -> bool:
        """Whether an evaluation follows the last step."""
        return self.state.step % self.settings.evaluate_every == 0 or self.state.step >= self.settings.num_steps

    def evaluate(self) -> Record:
        """The record of the averaged model, in every process; starts new means."""
        state = self.state
        replicated = [tensor for tensor in state.model.state_dict().values() if not is_sharded(tensor)]
        self.workers.check_agreement(replicated, step=state.step)
        model, record = state.averaged_model, None
        if self.workers.is_first:
            record = evaluation_record(state, model, self.evaluation, self.means, self.settings)
            record |= silence_record(state, self.evaluation.rows)
        self.means = StepMeans(state.model.num_levels)
        return self.workers.broadcast(record)

    def fault(self, record: Record) -> str | None:
        """The reason for a rollback, or None."""
        num_features = self.state.model.event_shape.numel()
        reason = self.doctor.divergence(record, self.state.history, num_features=num_features)
        if reason is None and not all_finite(self.state.model, self.workers):
            reason = "a parameter is not finite"
        return reason

    def accept(self, record: Record) -> None:
        """Select the model if it is the best, record the evaluation, redraw what is drawn, and save the state."""
        state, workers = self.state, self.workers
        record["complaints"] = self.doctor.complaints(record, num_features=state.model.event_shape.numel())
        self._select(record)
        state.history.append(record)
        if self.evaluation.redraw is not None:
            self.evaluation.redraw(state)
        state.drawn = workers.broadcast_tensors(state.drawn)
        self.good = state.to_tensors()
        if self.hooks.on_record is not None and workers.is_first:
            self.hooks.on_record(record)
        self._save()

    def roll_back(self, reason: str) -> None:
        """Return to the last accepted state with a lower learning rate and other random numbers."""
        state, doctor = self.state, self.doctor
        diverged_at = state.step
        num_rollbacks, rate_factor = state.num_rollbacks + 1, state.rate_factor * doctor.rate_factor
        self.means = StepMeans(state.model.num_levels)
        state.load_tensors(*self.good)
        if num_rollbacks > doctor.max_rollbacks:
            raise TrainingFailed(
                f"training diverged {num_rollbacks} times and stopped at step {diverged_at}: {reason}. The last good state "
                f"is step {state.step}. Try a lower learning rate, fewer levels, or a wider sigma of level 0."
            )
        state.num_rollbacks, state.rate_factor = num_rollbacks, rate_factor
        # The same random numbers could lead to the same divergence.
        state.generator.manual_seed(state.generator.initial_seed() + 1000 * num_rollbacks)
        warnings.warn(
            f"training doctor: {reason} at step {diverged_at}; rolled back to step {state.step} and lowered the learning "
            f"rate to {rate_factor:g} of its schedule (rollback {num_rollbacks} of {doctor.max_rollbacks})",
            DivergenceWarning,
            stacklevel=3,
        )

    def _select(self, record: Record) -> None:
        """Score the averaged model, add the score to the record, and keep the model if it is the best so far."""
        model = self.state.averaged_model
        model.eval()
        score = SelectionScore(-record["validation_loss"])
        if self.evaluation.score is not None:
            found = dataclasses.asdict(self.evaluation.score(model)) if self.workers.is_first else None
            score = SelectionScore(**self.workers.broadcast(found))
        record["selection_score"], record["selected_level"] = score.value, score.level
        record |= score.figures
        self.state.keep_best(score.value, score.level)

    def _save(self) -> None:
        """Save the last accepted state from the first process, unsharded."""
        save = self.hooks.save
        if self.workers.broadcast(save is not None):
            tensors = whole_tensors_of_first(self.good.tensors, self.workers)
            if save is not None and self.workers.is_first:
                save(tensors, self.good.scalars)


def all_finite(model: EnergySequence, workers: Workers) -> bool:
    """Whether every parameter is finite, in the parts that this process and all others hold."""
    parts = [local_part(parameter) for parameter in model.parameters()]
    count = torch.tensor([0.0 if all(bool(torch.isfinite(part).all()) for part in parts) else 1.0])
    workers.add_up(count)
    return not bool(count)
