"""Evaluations during training: what they compute and record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.model import EnergySequence
from drl_density.records.brief import brief
from drl_density.training.gradient_step import GradientStep
from drl_density.training.settings import TrainingSettings
from drl_density.training.state import Record, TrainingState
from drl_density.training.validation import HeldOutFigures, recovery_figures


@dataclass(frozen=True)
class SelectionScore:
    """Score by which averaged models are selected.

    Attributes:
        value: the score; higher is better.
        level: noise level at which the model scores best.
        figures: further numbers to record in the history, by name.
    """

    value: float
    level: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What every evaluation during training computes.

    Attributes:
        rows: held-out clean rows ``(rows, *event)`` in model space.
        figures: figures of the held-out rows that are recorded, the validation loss among them; those of recovery chains
            when not given.
        score: selection score of an averaged model; by default the negative validation loss.
        redraw: called with the state after each evaluation, before it is saved, to redraw ``state.drawn``.
    """

    rows: Tensor
    figures: HeldOutFigures = recovery_figures
    score: Callable[[EnergySequence], SelectionScore] | None = None
    redraw: Callable[[TrainingState], object] | None = None

    __repr__ = brief


class StepMeans:
    """Means of what the gradient steps since the last evaluation saw.

    Args:
        num_levels: number of noise levels below the base.
    """

    def __init__(self, num_levels: int) -> None:
        self.norms: list[float] = []
        self.parts: dict[str, float] = {}
        self.sums = torch.zeros(3, num_levels, dtype=torch.float64)
        self.counts = torch.zeros(3, num_levels, dtype=torch.float64)

    def add(self, step: GradientStep) -> None:
        """Add one gradient step."""
        rows = step.value.statistics.stacked().cpu()
        is_seen = ~rows.isnan()
        self.sums += torch.where(is_seen, rows, 0.0)
        self.counts += is_seen
        self.norms.append(step.norm)
        for name, part in step.value.parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + float(part)

    def record(self) -> Record:
        """Mean loss and its parts, mean gradient norm, and means per level."""
        record: Record = {f"loss_{name}": total / len(self.norms) for name, total in self.parts.items()}
        record["loss"] = sum(record.values())
        record["gradient_norm"] = sum(self.norms) / len(self.norms)
        gap, acceptance, jump = (self.sums / self.counts).tolist()
        return record | {"energy_gap": gap, "acceptance_rate": acceptance, "relative_jump": jump}


def evaluation_record(
    state: TrainingState, model: EnergySequence, evaluation: Evaluation, means: StepMeans, settings: TrainingSettings
) -> Record:
    """Evaluate an averaged model on held-out rows and record it together with the steps before.

    Args:
        model: the averaged model of the state.
        evaluation: held-out rows, and the figures of them.
        means: means over the steps since the last evaluation.
    """
    model.eval()
    return {
        "step": state.step,
        **means.record(),
        **evaluation.figures(model, evaluation.rows.to(model.device), state.step_sizes),
        "learning_rate": settings.rate(state.step) * state.rate_factor,
        "step_size": state.step_sizes.tolist(),
        "log_normalizer": model.log_normalizers.double().tolist(),
    }
