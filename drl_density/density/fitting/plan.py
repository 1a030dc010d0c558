"""The plan of a fit: everything that follows from the settings and the data, resolved once."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from drl_density.bases import Base
from drl_density.datasets import Dataset
from drl_density.density.data_units import most_scored_images
from drl_density.density.fitting.bases import ReferenceTime
from drl_density.density.fitting.batches import BatchSource, RowBatches, StateBatches, batch_source, label_values
from drl_density.density.fitting.build import (
    ImageNetworks,
    NetworkFactory,
    StepCost,
    build_doctor,
    build_objective,
    network_factory,
)
from drl_density.density.fitting.completions import HeldOut
from drl_density.density.fitting.folds.table import FoldedTable, count_folds, fold_table
from drl_density.density.fitting.table import TableWithBases, TableWithMissing, prepare_table
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.density.settings.networks import NetworkSettings, NoNetwork
from drl_density.density.settings.normalizing_sizes import NormalizingSizes
from drl_density.density.settings.objectives import (
    AdjustedObjective,
    ContrastObjective,
    CooperativeObjective,
    ObjectiveSettings,
)
from drl_density.model import EnergySequence
from drl_density.records.literals import check_literals
from drl_density.schedule import NoiseSchedule
from drl_density.training import (
    Doctor,
    DrawPool,
    Evaluation,
    Objective,
    ObjectiveFigures,
    PathMatching,
    ReferenceContrast,
    SelectionScore,
    TrainingSettings,
    TrainingState,
    new_state,
)

MOST_STEPS_IN_TIME = 4
"""Multiple of the usual number of steps that a contrast takes where the time admits it and it still improves."""

LONGER_PATIENCE = 0.15
"""Share of such a longer training without a better score after which it ends; the learning rate falls over all of it."""

MOST_CONTRASTED = 1024
"""Validation rows whose contrast is recorded at every evaluation."""

POOL_SHARE, LEAST_POOL, MOST_POOLED = 10, 200_000, 2**26
"""Draws in the full pool of a flow for each training row; draws at least; and numbers at most, 256 MiB."""

FEW_SAMPLES = 1000
"""Draws of the base that take part in scores of a reference alone, whose weights are all 1."""

SEED_STRIDE = 7919
"""Distance between the seeds of two members: a prime, so that members of neighbouring fits do not share a seed."""


@dataclass(frozen=True)
class Member:
    """One network to be trained.

    Attributes:
        name: Name of the base with the index of the network on it, such as ``gaussian-0``.
        base: Fixed part of its energies.
        seed: Seed of its weights and its training.
        part: Rows to train on and rows that stop training, where they are those of a fold; None for those of the table.
    """

    name: str
    base: Base
    seed: int
    part: TableWithBases | None = None


@dataclass(frozen=True)
class HeldOutSizes:
    """Number of validation rows to score.

    Attributes:
        least: Number of rows at least, reached by fresh dequantisation noise.
        most: Number of rows at most.
    """

    least: int
    most: int


@dataclass(frozen=True)
class SelectionPlan:
    """How weights, level and member are selected.

    Attributes:
        rule: "likelihood" for the annealed validation likelihood, "last" for the last averaged weights.
        num_training_particles: Particles of each annealing replicate while training.
        num_particles: Particles of each annealing replicate when the member is chosen.
        has_learned_constants: Whether training learns the constants between levels.
        num_samples: Draws of the base that give log Z by importance sampling; None anneals.
    """

    rule: Literal["likelihood", "last"]
    num_training_particles: int
    num_particles: int
    has_learned_constants: bool
    num_samples: int | None = None

    def __post_init__(self) -> None:
        check_literals(self)


@dataclass(frozen=True)
class StateSizes:
    """Numbers that a fresh training state starts from.

    Attributes:
        step_size: First step size of the chains, in units of the conditional's standard deviation.
        initializer_rate: Learning rate of the initialiser, as a multiple of the energy's.
    """

    step_size: float
    initializer_rate: float


@dataclass(frozen=True)
class FitPlan:
    """Everything a fit needs, with nothing left to choose.

    Attributes:
        table: Data with the transform and the fixed bases.
        settings: Resolved settings, which the run folder keeps; nothing below reads them.
        seed: Seed of the fit.
        device: Device where models are trained.
        schedule: Noise levels.
        networks: Factory of the networks.
        objective: Training objective.
        doctor: Training doctor.
        source: Maker of the training batches of a state.
        training: Steps, rates and patience.
        start: Numbers that a fresh training state starts from.
        held_out: Number of validation rows to score.
        selection: Selection of weights, level and member.
        normalizing: Sizes of the final annealing and of the pool of draws.
        cost: What one training step computes.
        members: Networks to be trained.
        labels: Distinct labels of the data that the networks are conditioned on; empty without labels.
    """

    table: TableWithBases
    settings: FitSettings
    seed: int
    device: torch.device
    schedule: NoiseSchedule
    networks: NetworkFactory
    objective: Objective
    doctor: Doctor
    source: BatchSource
    training: TrainingSettings
    start: StateSizes
    held_out: HeldOutSizes
    selection: SelectionPlan
    normalizing: NormalizingSizes
    cost: StepCost
    members: tuple[Member, ...]
    labels: tuple[int, ...]

    @property
    def is_over_images(self) -> bool:
        """Whether the networks are networks over images."""
        return isinstance(self.networks, ImageNetworks)

    @property
    def largest_base(self) -> Base:
        """The base with most components, which is the most expensive."""
        bases = [*(member.base for member in self.members), *self.table.bases.over_levels(self.schedule).values()]
        return max(bases, key=lambda base: base.num_components)

    @property
    def num_folds(self) -> int:
        """Number of folds of the rows; 1 where one part of them is for validation."""
        return len(self.table.parts) if isinstance(self.table, FoldedTable) else 1

    @property
    def has_reference(self) -> bool:
        """Whether the untouched base is a candidate for the reported density: for a contrast, or path increments."""
        is_scored = self.selection.num_samples is not None or isinstance(self.objective, PathMatching)
        return is_scored and self.selection.rule == "likelihood"

    @property
    def most_steps(self) -> int:
        """Number of steps at most in a limited time: more than usual for a contrast that was given no number of its own.

        Folds, which stop far before the usual number, take no more.
        """
        usual = TrainingSettings().num_steps
        is_longer = self.training.num_steps == usual and self.num_folds == 1
        return MOST_STEPS_IN_TIME * usual if is_longer and self.has_reference else self.training.num_steps

    def with_num_steps(self, num_steps: int) -> FitPlan:
        """This plan with another number of training steps; a longer training has more patience."""
        patience = self.training.patience
        if num_steps > self.training.num_steps:
            patience = max(patience, math.ceil(LONGER_PATIENCE * num_steps / self.training.evaluate_every))
        training = dataclasses.replace(self.training, num_steps=num_steps, patience=patience)
        return dataclasses.replace(self, training=training, settings=dataclasses.replace(self.settings, training=training))

    def objective_of(self, state: TrainingState, *, seed: int) -> Objective:
        """The objective for the training of one state; a contrast takes the expensive draws of its base from a pool.

        The pool holds :data:`POOL_SHARE` times as many draws as there are training rows, at least :data:`LEAST_POOL` and at
        most :data:`MOST_POOLED` numbers. The contrast needs no density of the base, so none is kept.

        Args:
            state: State to be trained, whose step decides what the pool holds.
            seed: Seed of the pool.
        """
        objective = self.objective
        if not isinstance(objective, ReferenceContrast):
            return objective
        num_rows, num_features = len(self.table.dataset.train), self.largest_base.num_features
        pool = DrawPool(
            lambda: state.step,
            draws_per_step=objective.num_clean(self.training.batch_size) * objective.num_negatives,
            size=max(1, min(max(POOL_SHARE * num_rows, LEAST_POOL), MOST_POOLED // num_features)),
            seed=seed,
        )
        return dataclasses.replace(objective, draw=pool)

    def new_model(self, base: Base, *, seed: int) -> EnergySequence:
        """A sequence with random weights on a copy of the fixed ``base``."""
        num_features, base = base.num_features, copy.deepcopy(base)
        generator = torch.Generator().manual_seed(seed)
        energy, initializer = self.networks.build(self.schedule, generator=generator)
        return EnergySequence(
            self.schedule, energy, (num_features,), base=base, initializer=initializer, generator=generator
        )

    def new_state(self, base: Base, *, seed: int) -> TrainingState:
        """A training state at step 0 on :attr:`device`, with a new model on ``base``."""
        training = self.training
        return new_state(
            self.new_model(base, seed=seed).to(self.device),
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            average_decay=training.average_decay,
            moment_decays=(training.first_moment_decay, training.second_moment_decay),
            initializer_rate=self.start.initializer_rate,
            seed=seed,
            step_size=self.start.step_size,
        )

    def evaluation(
        self,
        held_out: HeldOut,
        score: Callable[[EnergySequence], SelectionScore],
        redraw: Callable[[TrainingState], object] | None = None,
    ) -> Evaluation:
        """What every evaluation during training computes.

        A contrast records its value on held-out rows, against fresh draws of the base, and runs no chains.

        Args:
            held_out: Validation rows in model space.
            score: Score by which weights are selected.
            redraw: Called with the state after each evaluation.
        """
        if not isinstance(self.objective, ReferenceContrast):
            return Evaluation(held_out.rows, score=score, redraw=redraw)
        rows = held_out.rows[: MOST_CONTRASTED // self.num_folds]
        return Evaluation(rows, figures=ObjectiveFigures(self.objective), score=score, redraw=redraw)

    def validation(self, *, seed: int, member: Member | None = None) -> HeldOut:
        """Validation rows in model space, of the table or of a member's fold, as many as :attr:`held_out` states."""
        table = self.table if member is None or member.part is None else member.part
        return table.validation(seed=seed, least=self.held_out.least, most=self.held_out.most)

    def batches(self, member: Member, state: TrainingState) -> StateBatches:
        """Training batches of a member, of the rows of the table or of those outside its fold."""
        return self.source(state) if member.part is None else RowBatches(member.part)


def plan_fit(
    data: Dataset,
    settings: FitSettings,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    max_minutes: float | None = None,
    say: Callable[[str], None] | None = None,
) -> FitPlan:
    """Fit the transform and the fixed bases, and resolve every setting.

    Args:
        data: Rows in their split.
        settings: Settings of the fit; None is chosen from the data.
        seed: Seed of the fit.
        device: Device where models are trained; the CPU when not given.
        max_minutes: Time to aim at for the whole fit, shares of which the fits of the reference may take.
        say: Called with a line about every stage of a long reference.

    Raises:
        DataError: Data that do not go with the settings.

    >>> from drl_density.datasets import load_dataset
    >>> plan = plan_fit(load_dataset("banana", seed=0, num_rows=200), FitSettings(base="gaussian", transform="standardize"))
    >>> plan.schedule.num_levels, [member.name for member in plan.members]
    (10, ['gaussian-0'])
    """
    begun = time.monotonic()
    prepared, num_folds = prepare_table(data, settings.transform), count_folds(data, settings)
    allowed = ReferenceTime.within(max_minutes, spent=time.monotonic() - begun)
    folded = fold_table(prepared, num_folds, allowed=allowed) if num_folds > 1 else None
    table = folded or prepared.with_bases(settings.base_kind, allowed=allowed, say=say)
    return plan_on_table(table, settings, seed=seed, device=device)


def plan_on_table(
    table: TableWithBases, settings: FitSettings, *, seed: int = 0, device: torch.device | None = None
) -> FitPlan:
    """The plan for a table whose transform and bases are fitted already; see :func:`plan_fit`."""
    data, num_features = table.dataset, table.dataset.train[0].numel()
    parts = table.parts if isinstance(table, FoldedTable) else ()
    settings = settings.resolve(
        len(data.train), tuple(data.event_shape), table.bases.sigma_min, num_folds=max(1, len(parts))
    )
    objective, network = settings.objective, settings.network
    schedule = settings.schedule.noise_schedule()
    networks = network_factory(network, objective, schedule, num_features)
    members = [
        (f"{name}-{index}", base, None)
        for name, base in table.bases.over_levels(schedule).items()
        for index in range(settings.num_networks)
    ]
    if parts:
        members = [(f"fold-{place}", *part.bases.over_levels(schedule).values(), part) for place, part in enumerate(parts)]
    return FitPlan(
        table=table,
        settings=settings,
        seed=seed,
        device=torch.device("cpu") if device is None else device,
        schedule=schedule,
        networks=networks,
        objective=build_objective(objective),
        doctor=build_doctor(objective, schedule),
        source=batch_source(table, network, batch_size=settings.training.batch_size),
        training=settings.training,
        start=_state_sizes(objective),
        held_out=_held_out_sizes(table, settings),
        selection=SelectionPlan(
            rule=settings.selection,
            num_training_particles=min(256, settings.num_particles) if settings.is_over_images else 256,
            num_particles=settings.num_particles,
            has_learned_constants=objective.classification_weight > 0,
            num_samples=_num_samples(objective, network),
        ),
        normalizing=settings.normalizing_sizes(),
        cost=StepCost.choose(objective, schedule.num_levels),
        members=tuple(
            Member(name, base, seed + SEED_STRIDE * place, part) for place, (name, base, part) in enumerate(members)
        ),
        labels=label_values(data, network.num_classes) if network.num_classes else (),
    )


def _num_samples(objective: ObjectiveSettings, network: NetworkSettings) -> int | None:
    """Draws of the base that give log Z; few for the reference alone, whose log Z is 0 exactly, and None to anneal."""
    if not isinstance(objective, ContrastObjective):
        return None
    return min(objective.num_samples, FEW_SAMPLES) if isinstance(network, NoNetwork) else objective.num_samples


def _state_sizes(objective: ObjectiveSettings) -> StateSizes:
    """Step size and rate of the objective; those without adapted steps report validation at the usual 0.8."""
    step_size = objective.chain_step_size if isinstance(objective, AdjustedObjective) else 0.8
    rate = objective.initializer_rate if isinstance(objective, CooperativeObjective) else 1.0
    return StateSizes(step_size, rate)


def _held_out_sizes(table: TableWithBases, settings: FitSettings) -> HeldOutSizes:
    """Between 1,024 and 8,192 rows; fewer with missing values, completed 8 times, and of images: copies say no more."""
    least, most = (256, 1024) if isinstance(table, TableWithMissing) else (1024, 8192)
    asked = settings.num_validation_rows or most
    asked = min(asked, most_scored_images(table.dataset.train.shape[1])) if settings.base_kind == "autoregressive" else asked
    return HeldOutSizes(1 if settings.base_kind == "autoregressive" else min(least, asked), asked)
