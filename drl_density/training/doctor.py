"""The training doctor, which examines each evaluation and decides on a rollback."""

from __future__ import annotations

import math
from dataclasses import dataclass

from drl_density.training.state import Record


@dataclass(frozen=True)
class Doctor:
    """Thresholds at which training counts as diverged, or its chains as poor.

    Attributes:
        max_gap_per_dimension: nats per dimension by which the data may lie above or below the chain ends; a level beyond
            it has diverged. One number, or one for each level.
        max_loss_rise: nats by which both training and validation loss may rise above their best.
        max_loss_ratio: factor by which a training loss may rise above its best, for objectives whose loss is positive.
        min_acceptance: acceptance rate below which the chains of a level hardly move.
        min_relative_jump: mean squared jump over the conditional variance below which chains count as frozen.
        max_spurious_gap: nats per dimension by which short chains started at noise may end above the data.
        max_scatter: nats by which the path increments of a level may scatter, for objectives that measure them.
        min_input: root mean square of the inputs of a layer below which the network counts as nearly silent.
        max_rollbacks: number of rollbacks after which the next divergence stops training.
        rate_factor: factor of the learning rate at each rollback.
    """

    max_gap_per_dimension: float | tuple[float, ...] = 3.0
    max_loss_rise: float = 1.0
    max_loss_ratio: float = math.inf
    min_acceptance: float = 0.2
    min_relative_jump: float = 0.01
    max_spurious_gap: float = 2.0
    max_scatter: float = 3.0
    min_input: float = 0.01
    max_rollbacks: int = 3
    rate_factor: float = 0.5

    def check(self, num_levels: int) -> None:
        """Check that the limits fit a sequence.

        Raises:
            ValueError: more or fewer limits of energy gaps than levels.
        """
        limits = self.max_gap_per_dimension
        if isinstance(limits, tuple) and len(limits) != num_levels:
            raise ValueError(
                f"max_gap_per_dimension has {len(limits)} limits for {num_levels} levels: give one number, or one per level"
            )

    def divergence(self, record: Record, history: list[Record], *, num_features: int) -> str | None:
        """The reason why an evaluation calls for a rollback, or None.

        A network with a silent layer and without a gradient is as good as diverged: no further step changes it.

        A validation loss that rises while the training loss does not is overfitting, which early stopping handles. The
        rise counts as divergence only when the training loss has risen as well.

        Args:
            record: record of this evaluation.
            history: records of the evaluations before it.
        """
        if not math.isfinite(record["loss"]) or not math.isfinite(record["validation_loss"]):
            return "the loss is not a finite number"
        if record.get("dead_layers"):
            return (
                f"the network is dead: every input of {record['dead_layers']} is zero and its gradient has vanished "
                f"(norm {record['network_gradient']:.1g}), so it learns nothing more. Usually the learning rate is too high"
            )
        gaps, limits = record["energy_gap"], self.max_gap_per_dimension
        if not isinstance(limits, tuple):
            limits = (limits,) * len(gaps)
        # Below four dimensions the spread of a log density does not shrink with their number.
        for level, (gap, limit) in enumerate(zip(gaps, limits, strict=True)):
            if math.isfinite(gap) and abs(gap) > limit * max(num_features, 4):
                return (
                    f"the energy gap reached {gap:.1f} nats at level {level} (limit {limit * max(num_features, 4):.0f})"
                )
        best = {name: min((past[name] for past in history), default=math.inf) for name in ("validation_loss", "loss")}
        if math.isfinite(self.max_loss_ratio) and record["loss"] > self.max_loss_ratio * best["loss"]:
            return f"the training loss rose from {best['loss']:.4g} to {record['loss']:.4g}"
        rises = {name: record[name] - least for name, least in best.items()}
        if min(rises.values()) > self.max_loss_rise:
            return f"training and validation loss rose by {rises['loss']:.2f} and {rises['validation_loss']:.2f}"
        return None

    def complaints(self, record: Record, *, num_features: int) -> list[str]:
        """Problems of an evaluation that call for no rollback, in words.

        Args:
            record: record of this evaluation.
        """
        found = []
        for name, limit, words in (
            ("acceptance_rate", self.min_acceptance, "chains hardly accept"),
            ("relative_jump", self.min_relative_jump, "chains are frozen"),
        ):
            low = [level for level, value in enumerate(record[name]) if value < limit]
            if low:
                found.append(f"{words} at level {', '.join(map(str, low))}")
        limit = self.max_spurious_gap * num_features
        spurious = [level for level, gap in enumerate(record.get("spurious_gap", ())) if gap > limit]
        if spurious:
            found.append(f"noise-started chains end above the data at level {', '.join(map(str, spurious))}")
        wide = [level for level, value in enumerate(record.get("level_scatter", ())) if value > self.max_scatter]
        if wide:
            levels = ", ".join(map(str, wide))
            found.append(f"path increments scatter by more than {self.max_scatter:g} nats at level {levels}")
        if record.get("least_input", math.inf) < self.min_input:
            found.append(
                f"the network is nearly silent: inputs of a layer have fallen to {record['least_input']:.1g}, and it learns "
                "little more; start again with a lower learning rate"
            )
        return found
