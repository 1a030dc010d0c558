"""The training doctor: looks at each evaluation, says what is wrong, and decides on a rollback."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.model import EnergySequence
from drl_density.training.objectives import LevelStatistics, RecoveryLikelihood, stratified_levels


@dataclass(frozen=True)
class Doctor:
    """Thresholds of the training doctor.

    Attributes:
        max_gap_per_dimension: a level whose data lie this many nats per dimension above or below the chain ends has
            run away; one number, or one for each level.
        max_loss_rise: nats by which both training and validation loss may rise above their best.
        max_loss_ratio: times its best by which a training loss may rise, for objectives whose loss is a positive number.
        min_acceptance: below it a level's chains hardly move.
        min_relative_jump: mean squared jump over the conditional variance below which chains count as frozen.
        max_spurious_gap: nats per dimension by which short noise-started chains may end above the data.
        max_rollbacks: rollbacks before training stops.
        rate_factor: what each rollback multiplies the learning rate by.
    """

    max_gap_per_dimension: float | tuple[float, ...] = 3.0
    max_loss_rise: float = 1.0
    max_loss_ratio: float = math.inf
    min_acceptance: float = 0.2
    min_relative_jump: float = 0.01
    max_spurious_gap: float = 2.0
    max_rollbacks: int = 3
    rate_factor: float = 0.5

    def check(self, num_levels: int) -> None:
        """Refuse limits that do not go with a sequence.

        Args:
            num_levels: T.

        Raises:
            ValueError: more or fewer limits of energy gaps than levels.
        """
        limits = self.max_gap_per_dimension
        if isinstance(limits, tuple) and len(limits) != num_levels:
            raise ValueError(
                f"max_gap_per_dimension has {len(limits)} limits for {num_levels} levels: give one number, or one a level"
            )

    def run_away(self, record: dict, history: list[dict], *, num_features: int) -> str | None:
        """The reason why this evaluation calls for a rollback, or None.

        A validation loss that rises while the training loss does not is overfitting, which early stopping answers; it
        is a run-away only when the training loss has risen as well.

        Args:
            record: of this evaluation.
            history: records before it.
            num_features: d.
        """
        if not math.isfinite(record["loss"]) or not math.isfinite(record["validation_loss"]):
            return "the loss is not a finite number"
        gaps, limits = record["energy_gap"], self.max_gap_per_dimension
        if not isinstance(limits, tuple):
            limits = (limits,) * len(gaps)
        for level, (gap, limit) in enumerate(zip(gaps, limits, strict=True)):
            if math.isfinite(gap) and abs(gap) > limit * max(num_features, 4):
                return (
                    f"the energy gap ran to {gap:.1f} nats at level {level} (limit {limit * max(num_features, 4):.0f})"
                )
        best = {name: min((past[name] for past in history), default=math.inf) for name in ("validation_loss", "loss")}
        if math.isfinite(self.max_loss_ratio) and record["loss"] > self.max_loss_ratio * best["loss"]:
            return f"the training loss rose from {best['loss']:.4g} to {record['loss']:.4g}"
        rises = {name: record[name] - least for name, least in best.items()}
        if min(rises.values()) > self.max_loss_rise:
            return f"training and validation loss rose by {rises['loss']:.2f} and {rises['validation_loss']:.2f}"
        return None

    def complaints(self, record: dict, *, num_features: int) -> list[str]:
        """Things to say about an evaluation that need no rollback.

        Args:
            record: of this evaluation.
            num_features: d.
        """
        said = []
        for name, limit, words in (
            ("acceptance_rate", self.min_acceptance, "chains hardly accept"),
            ("relative_jump", self.min_relative_jump, "chains are frozen"),
        ):
            low = [level for level, value in enumerate(record[name]) if value < limit]
            if low:
                said.append(f"{words} at level {', '.join(map(str, low))}")
        spurious = [
            level for level, gap in enumerate(record["spurious_gap"]) if gap > self.max_spurious_gap * num_features
        ]
        if spurious:
            said.append(f"noise-started chains end above the data at level {', '.join(map(str, spurious))}")
        return said


def spurious_gap(model: EnergySequence, x: Tensor, step_sizes: Tensor, *, seed: int = 0, num_steps: int = 20) -> Tensor:
    """Mean F(end of a short chain started at x_{t+1}) - F(data) per level, shape ``(T,)``.

    Far above zero it tells of modes that the data do not have and that data-started chains never visit.
    """
    generator = torch.Generator().manual_seed(seed)
    levels = stratified_levels(len(x), model.num_levels, generator).to(x.device)
    shift = torch.zeros((), dtype=torch.float64, device=x.device)
    objective = RecoveryLikelihood(num_steps=num_steps, noisier_share=1.0)
    with torch.no_grad():
        _, statistics = objective.contrast(model, x, (levels, shift, step_sizes), generator)
    return -statistics.energy_gap


def gradient_free_statistics(statistics: LevelStatistics) -> dict[str, list[float]]:
    """The per-level numbers as plain lists for the history."""
    return {
        "energy_gap": statistics.energy_gap.double().tolist(),
        "acceptance_rate": statistics.acceptance_rate.double().tolist(),
        "relative_jump": statistics.relative_jump.double().tolist(),
    }
