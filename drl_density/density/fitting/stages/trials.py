"""A short search for the size, the dropout and the schedule of a network, once the first one has passed its best score."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import NamedTuple

from drl_density.density.fitting.build import TableNetworks
from drl_density.density.fitting.plan import FitPlan
from drl_density.density.fitting.run import FitRun
from drl_density.density.fitting.stages.member import TrainedMember, train_member
from drl_density.density.fitting.stages.time import Budget
from drl_density.networks import ColumnTiltSettings

MOST_BEFORE_TRIALS = 0.8
"""Share of the steps of the first network up to which its best score must lie: later, it was still improving."""

TRIAL_STEPS, TRIAL_DECAY = 2.5, 0.3
"""Steps of a trial as a multiple of the best step so far, since smaller networks learn more slowly; and its weight decay."""

SHORT_STEPS = 1.25
"""Steps of the last trial as a multiple of the best step: its learning rate is nearly zero where the others were best."""

WIDTHS = {True: (48, 1, 8), False: (128, 2, 16)}
"""Width, blocks and numbers per column of a small network, and of a large one."""

MORE_DROPOUT, MOST_DROPOUT = 0.1, 0.6
"""What a trial adds to the dropout, and the dropout that it does not exceed."""


class Searched(NamedTuple):
    """The result of a search.

    Attributes:
        plan: Plan of the network that scored best, which is its only member; its settings are those of the first one.
        trained: Every network that was trained, the first one included.
    """

    plan: FitPlan
    trained: list[TrainedMember]


def search_networks(
    plan: FitPlan, first: TrainedMember, run: FitRun, *, budget: Budget, seconds_per_step: float
) -> Searched:
    """Try up to :attr:`FitSettings.num_trials` further networks, and keep the plan of the best one on validation.

    Each trial changes one thing of the best network so far: its size, its dropout, then the length of its schedule. All
    networks are scored on the same validation rows with the same draws for log Z. A network that was still improving at its
    last step is not followed by trials, and one that the time does not admit is left out.

    Args:
        plan: Plan of the first network.
        first: The only member of the plan, trained.
        run: Opened run, which saves the state of every trial.
        budget: Time that training may take.
        seconds_per_step: Wall-clock seconds that a step of the first network took; 0 where it took none in this process.
    """
    best, kept, trained = plan, first, [first]
    num_trials = plan.settings.num_trials or 0
    if budget.is_reference_alone or first.state.best_step > MOST_BEFORE_TRIALS * first.state.step:
        return Searched(plan, trained)
    for name, change in list(TRIALS.items())[:num_trials]:
        changed = change(best, kept)
        if changed is None:
            continue
        is_time = budget.deadline is None or (
            time.monotonic() + changed.training.num_steps * seconds_per_step <= budget.deadline
        )
        member = dataclasses.replace(plan.members[0], name=f"{plan.members[0].name}.{name}")
        if not run.workers.broadcast(is_time or run.has_state(member.name)):
            continue
        changed = dataclasses.replace(changed, members=(member,))
        found = train_member(changed, member, run, budget=budget)
        trained.append(found)
        gain = found.state.best_score - kept.state.best_score
        run.say(f"{member.name}: {gain:+.4f} nats a row on validation over the best network before")
        if gain > 0:
            best, kept = changed, found
    return Searched(dataclasses.replace(best, settings=plan.settings), trained)


def _other_size(plan: FitPlan, best: TrainedMember) -> FitPlan | None:
    """A small network after a large one, and the other way round."""
    energy = _energy(plan)
    if energy is None:
        return None
    width, num_blocks, column_width = WIDTHS[energy.width > WIDTHS[True][0]]
    changed = dataclasses.replace(energy, width=width, num_blocks=num_blocks, column_width=column_width)
    return _with_network(plan, changed, best)


def _more_dropout(plan: FitPlan, best: TrainedMember) -> FitPlan | None:
    """The best network so far with more dropout; None where it has the most already."""
    energy = _energy(plan)
    if energy is None or energy.dropout >= MOST_DROPOUT:
        return None
    dropout = min(MOST_DROPOUT, round(energy.dropout + MORE_DROPOUT, 6))
    return _with_network(plan, dataclasses.replace(energy, dropout=dropout), best)


def _shorter(plan: FitPlan, best: TrainedMember) -> FitPlan | None:
    """The best network so far with a schedule that ends soon after its best step; None where it ended there already."""
    num_steps = _num_steps(plan, SHORT_STEPS * best.state.best_step)
    return plan.with_num_steps(num_steps) if best.state.best_step and num_steps < best.state.step else None


TRIALS: dict[str, Callable[[FitPlan, TrainedMember], FitPlan | None]] = {
    "resized": _other_size,
    "dropout": _more_dropout,
    "shorter": _shorter,
}
"""What each trial changes, in the order in which they are made."""


def _energy(plan: FitPlan) -> ColumnTiltSettings | None:
    """Sizes of a network over columns; None for any other network."""
    energy = plan.networks.energy
    return energy if isinstance(energy, ColumnTiltSettings) else None


def _with_network(plan: FitPlan, energy: ColumnTiltSettings, best: TrainedMember) -> FitPlan:
    """The plan of a trial with another network, more weight decay, and steps in proportion to the best step so far."""
    training = dataclasses.replace(plan.training, weight_decay=max(plan.training.weight_decay, TRIAL_DECAY))
    wanted = max(TRIAL_STEPS * best.state.best_step, best.state.step)
    changed = dataclasses.replace(plan, training=training, networks=TableNetworks(energy))
    return changed.with_num_steps(_num_steps(plan, wanted))


def _num_steps(plan: FitPlan, wanted: float) -> int:
    """A number of steps that ends with an evaluation, and is at most that of the plan."""
    every = plan.training.evaluate_every
    return min(plan.training.num_steps, every * max(1, math.ceil(wanted / every)))
