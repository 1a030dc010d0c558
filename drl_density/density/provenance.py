"""How a fit came about, and how it compares with simple references."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from torch import Tensor

from drl_density.datasets import Dataset

FLOOR_SLACK = 0.01
"""Nats per row that a reference may lie above the model: below what some hundred validation rows resolve, our own choice.
The marginals of discrete columns are known exactly, so that a model of a single one can only equal them."""


@dataclass(frozen=True)
class Baselines:
    """Validation log-likelihoods, nats per row in data units, of the model and of two simple references.

    Attributes:
        model: the fitted sequence, normalised by annealed importance sampling.
        gaussian: a Gaussian in model space, of full covariance up to 4096 columns.
        independent: the product of the columns' own marginals.
    """

    model: float
    gaussian: float
    independent: float

    @property
    def is_above_floor(self) -> bool:
        """True when no reference beats the model by more than :data:`FLOOR_SLACK`."""
        return self.model >= max(self.gaussian, self.independent) - FLOOR_SLACK


@dataclass(frozen=True)
class RowDigest:
    """The rows of a fit, by which rows that are loaded again are recognised.

    Attributes:
        digest: SHA-256 of the values of all rows in their split, with their weights.
        num_train: number of training rows.
        num_validation: number of validation rows.
        num_test: number of test rows.
        columns: names of the columns, in order.

    >>> from drl_density.datasets import load_dataset
    >>> first, second = (RowDigest.of(load_dataset("banana", seed=seed, num_rows=100)) for seed in (0, 1))
    >>> first.num_train, first.changes(first), second.changes(first)
    (80, '', 'the values of the rows, their order or their split have changed')
    """

    digest: str
    num_train: int
    num_validation: int
    num_test: int
    columns: tuple[str, ...]

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """The digest of a data set.

        Args:
            dataset: rows in their split.
        """
        parts = (dataset.train, dataset.validation, dataset.test)
        digest = hashlib.sha256()
        for part in (*parts, dataset.weights, dataset.validation_weights):
            digest.update(b"none" if part is None else _content(part))
        if dataset.stream is not None:
            digest.update(dataset.stream.digest.encode())
        sizes = [len(part) for part in parts]
        return cls(digest.hexdigest(), sizes[0], sizes[1], sizes[2], tuple(column.name for column in dataset.columns))

    @property
    def num_rows(self) -> int:
        """Number of rows in all parts together."""
        return self.num_train + self.num_validation + self.num_test

    def changes(self, earlier: RowDigest) -> str:
        """What differs from an earlier digest, in words; empty where nothing does.

        Args:
            earlier: digest of the rows that these should equal.
        """
        if self == earlier:
            return ""
        found = []
        if self.columns != earlier.columns:
            gone = [name for name in earlier.columns if name not in self.columns]
            new = [name for name in self.columns if name not in earlier.columns]
            found += [f"columns are gone: {', '.join(gone)}"] if gone else []
            found += [f"columns are new: {', '.join(new)}"] if new else []
            found += ["the order of the columns has changed"] if not found else []
        if self.num_rows != earlier.num_rows:
            found.append(f"there were {earlier.num_rows} rows, and there are {self.num_rows} now")
        return "; ".join(found) or "the values of the rows, their order or their split have changed"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The record that ``dataclasses.asdict`` wrote.

        Args:
            values: plain values by field name.
        """
        return cls(**{**values, "columns": tuple(values["columns"])})


@dataclass(frozen=True)
class Stage:
    """What one stage of a fit brought on validation, in nats per row.

    Attributes:
        name: "reference" for the untouched base, "tilt" for the network trained on it, "recovery" for the refinement by
            recovery likelihood.
        validation: mean validation log-likelihood in model space at the end of the stage.
        gain: mean difference from the last kept stage before, over the same rows and the same draws for log Z; 0 for the
            first stage.
        gain_error: standard error of the gain.
        kept: whether the fit continued from this stage, or reports it.

    >>> Stage("tilt", validation=-3.55, gain=0.25, gain_error=0.02, kept=True)
    Stage(name='tilt', validation=-3.55, gain=0.25, gain_error=0.02, kept=True)
    """

    name: str
    validation: float
    gain: float = 0.0
    gain_error: float = 0.0
    kept: bool = True


def _content(part: Tensor) -> bytes:
    """Shape, type and values of a tensor; zeros of both signs are equal."""
    part = (part + 0.0 if part.is_floating_point() else part).contiguous().cpu()
    return f"{tuple(part.shape)} {part.dtype} ".encode() + part.numpy().tobytes()


@dataclass(frozen=True)
class Provenance:
    """How a fit came about: its data, its seed, and what training chose.

    Attributes:
        name: short name of the data set.
        source: where the rows came from, enough to load them again; empty for arrays in memory.
        loading: arguments of :func:`~drl_density.load_dataset` that give the same rows and split again.
        rows: digest and numbers of the rows as they were read; None for a density that was not fitted to rows.
        seed: seed of the split, the networks and training.
        likelihood_label: what the likelihood refers to, such as dequantised columns or observed cells.
        labels: distinct labels that the network was trained with, in ascending order.
        label: the one label that a guided density is restricted to.
        guidance: guidance weight of that label; 0 is the label's own density.
        sigma_min: noise of level 0 before selection, in model space.
        selected_member: name of the trained member that is reported, "average", or "reference" for the untouched base of a
            fit in folds.
        selected_sigma: noise of the reported level, in model space.
        base_scores: mean validation log density of each candidate base in model space, nats.
        best_step: training step of the kept weights, by member; 0 is the untrained base.
        best_score: selection score of the kept weights, by member.
        num_rollbacks: how often training was rolled back, by member.
        rejection: why the trained tilt gave way to the untouched reference; empty where it did not.
        stages: what each stage of the reported member brought, in their order; empty for objectives without stages.
        steps_done: training steps of all members together.
        forecast_seconds: training time forecast before the fit; None without a time limit.
        training_seconds: training time that was needed.

    >>> Provenance(seed=3).to_dict()["seed"]
    3
    """

    name: str = "a density"
    source: str = ""
    loading: Mapping[str, Any] = field(default_factory=dict)
    rows: RowDigest | None = None
    seed: int | None = None
    likelihood_label: str = ""
    labels: tuple[int, ...] = ()
    label: int | None = None
    guidance: float = 0.0
    sigma_min: float | None = None
    selected_member: str = ""
    selected_sigma: float | None = None
    base_scores: Mapping[str, float] = field(default_factory=dict)
    best_step: Mapping[str, int] = field(default_factory=dict)
    best_score: Mapping[str, float] = field(default_factory=dict)
    num_rollbacks: Mapping[str, int] = field(default_factory=dict)
    rejection: str = ""
    stages: tuple[Stage, ...] = ()
    steps_done: int = 0
    forecast_seconds: float | None = None
    training_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.rejection:  # whatever the stages gained, the reference is reported
            kept = [dataclasses.replace(stage, kept=stage.name == "reference") for stage in self.stages]
            object.__setattr__(self, "stages", tuple(kept))

    @property
    def is_untrained(self) -> bool:
        """True when the reported density is the untouched base: no stage after the reference was kept.

        For an objective without stages, the step of the reported member's weights decides; for an average, those of all.
        """
        if self.rejection:
            return True
        if self.stages:
            return not any(stage.kept for stage in self.stages[1:])
        is_member = self.selected_member in self.best_step
        steps = [self.best_step[self.selected_member]] if is_member else list(self.best_step.values())
        return bool(steps) and not any(steps)

    @property
    def is_left_at_reference(self) -> bool:
        """True when stages were trained and the reference alone is reported, which is a sound density."""
        return bool(self.stages) and self.is_untrained

    @property
    def untrained_remark(self) -> str:
        """What a reader must know of a fit that is left at its base; empty for any other."""
        if self.rejection:
            return f"the untouched reference is reported, without a tilt: {self.rejection}"
        if self.is_left_at_reference:
            return "the density is its reference: the network trained on it brought no sure gain on validation rows"
        if self.is_untrained:
            return "validation kept the untrained model, its fixed base: training brought nothing, or never ran"
        return ""

    @property
    def stage_lines(self) -> tuple[str, ...]:
        """One line about the stages for a person; none for a fit without stages.

        >>> Provenance(stages=(Stage("reference", -3.8), Stage("tilt", -3.5, 0.3, 0.02))).stage_lines
        ('stages on validation: reference -3.800 in model space, tilt +0.300 +- 0.020',)
        """
        if not self.stages:
            return ()
        first, *later = self.stages
        parts = [f"{first.name} {first.validation:.3f} in model space"]
        if self.rejection and not any(stage.kept for stage in later):
            return (f"stages on validation: {parts[0]}, no tilt: {self.rejection}",)
        parts += [
            f"{stage.name} {stage.gain:+.3f} +- {stage.gain_error:.3f}{'' if stage.kept else ' (not kept)'}"
            for stage in later
        ]
        return (f"stages on validation: {', '.join(parts)}",)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        stages = [dataclasses.asdict(stage) for stage in self.stages]
        plain = dataclasses.asdict(self) | {"labels": list(self.labels), "stages": stages}
        return plain | ({} if self.rows is None else {"rows": dataclasses.asdict(self.rows)})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The record that :meth:`to_dict` wrote.

        Args:
            values: plain values by field name.
        """
        rows = values["rows"]
        found = None if rows is None else RowDigest.from_dict(rows)
        stages = tuple(Stage(**stage) for stage in values["stages"])
        return cls(**{**values, "labels": tuple(values["labels"]), "stages": stages, "rows": found})
