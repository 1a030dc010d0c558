"""How a fit came about, and how it compares with simple references."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


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
        """True when the model beats both references."""
        return self.model >= max(self.gaussian, self.independent)


@dataclass(frozen=True)
class Provenance:
    """How a fit came about: its data, its seed, and what training chose.

    Attributes:
        name: short name of the data set.
        source: where the rows came from, enough to load them again; empty for arrays in memory.
        loading: arguments of :func:`~drl_density.load_dataset` that give the same rows and split again.
        seed: seed of the split, the networks and training.
        likelihood_label: what the likelihood refers to, such as dequantised columns or observed cells.
        labels: distinct labels that the network was trained with, in ascending order.
        label: the one label that a guided density is restricted to.
        guidance: guidance weight of that label; 0 is the label's own density.
        sigma_min: noise of level 0 before selection, in model space.
        selected_member: name of the trained member that is reported, or "average".
        selected_sigma: noise of the reported level, in model space.
        base_scores: mean validation log density of each candidate base in model space, nats.
        best_step: training step of the kept weights, by member; 0 is the untrained base.
        best_score: selection score of the kept weights, by member.
        num_rollbacks: how often training was rolled back, by member.
        steps_done: training steps of all members together.
        forecast_seconds: training time forecast before the fit; None without a time limit.
        training_seconds: training time that was needed.

    >>> Provenance(seed=3).to_dict()["seed"]
    3
    """

    name: str = "a density"
    source: str = ""
    loading: Mapping[str, Any] = field(default_factory=dict)
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
    steps_done: int = 0
    forecast_seconds: float | None = None
    training_seconds: float | None = None

    @property
    def is_untrained(self) -> bool:
        """True when validation preferred the untrained base of every member to anything that training made."""
        return bool(self.best_step) and not any(self.best_step.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return dataclasses.asdict(self) | {"labels": list(self.labels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The record that :meth:`to_dict` wrote.

        Args:
            values: plain values by field name.
        """
        return cls(**{**values, "labels": tuple(values["labels"])})
