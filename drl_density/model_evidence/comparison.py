"""Differences of log evidence between models, with intervals, and posterior probabilities of the models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from drl_density.errors import UNUSABLE_VERDICTS
from drl_density.model_evidence.record import ModelEvidence
from drl_density.records.brief import brief


class Decision(StrEnum):
    """The result of comparing two models by their evidence; each member equals its own string.

    >>> Decision.UNDECIDED == "not decided"
    True
    """

    DECIDED = "decided"
    """The interval of the difference leaves out zero."""
    UNDECIDED = "not decided"
    """The interval of the difference holds zero."""
    UNRELIABLE = "unreliable"
    """One of the two estimates must not be built on."""
    INCOMPARABLE = "not comparable"
    """Improper priors that the models do not share: the difference holds a constant of free choice."""


@dataclass(frozen=True)
class EvidenceDifference:
    """The log Bayes factor of one model over another.

    Attributes:
        one: log evidence of the model that the factor speaks for.
        other: log evidence of the model that it speaks against.
    """

    one: ModelEvidence
    other: ModelEvidence

    __repr__ = brief

    @property
    def log_bayes_factor(self) -> float:
        """Log evidence of the first model less that of the other, nats."""
        return self.one.log_z - self.other.log_z

    def interval(self, probability: float = 0.95) -> tuple[float, float]:
        """Ends of the interval of ``log_bayes_factor``, nats.

        The two estimates are independent, so their half widths add as squares. Where one of them is unreliable, its
        interval holds bounds in place of a spread, and the ends of both are taken at their worst.

        Args:
            probability: chance in (0, 1) that the interval covers the true difference.
        """
        first, second = self.one.interval(probability), self.other.interval(probability)
        if not self._is_usable:
            return first[0] - second[1], first[1] - second[0]
        below = math.hypot(self.one.log_z - first[0], second[1] - self.other.log_z)
        above = math.hypot(first[1] - self.one.log_z, self.other.log_z - second[0])
        return self.log_bayes_factor - below, self.log_bayes_factor + above

    @property
    def decision(self) -> Decision:
        """What the 95 % interval says."""
        if set(self.one.improper_sites) != set(self.other.improper_sites):
            return Decision.INCOMPARABLE
        if not self._is_usable:
            return Decision.UNRELIABLE
        lower, upper = self.interval()
        return Decision.UNDECIDED if lower <= 0 <= upper else Decision.DECIDED

    @property
    def _is_usable(self) -> bool:
        return all(model.verdict not in UNUSABLE_VERDICTS for model in (self.one, self.other))

    def __str__(self) -> str:
        lower, upper = self.interval()
        return f"log Bayes factor {self.log_bayes_factor:.4f} in [{lower:.4f}, {upper:.4f}], {self.decision}"


@dataclass(frozen=True)
class ComparedModel:
    """One model of a comparison by evidence, compared with the best.

    Attributes:
        name: name of the model.
        evidence: its log evidence, with draws of its posterior.
        behind: log evidence of the best model less that of this one.
        probability: posterior probability of the model among those compared; NaN where improper priors differ.
        probability_lower: least value of it over the 95 % intervals of all models.
        probability_upper: largest value of it over these intervals.
    """

    name: str
    evidence: ModelEvidence
    behind: EvidenceDifference
    probability: float
    probability_lower: float
    probability_upper: float

    __repr__ = brief


@dataclass(frozen=True)
class EvidenceComparison:
    """Models in the order of their log evidence, the best first.

    Attributes:
        models: the models with their differences to the best.
    """

    models: tuple[ComparedModel, ...]

    __repr__ = brief

    @property
    def best(self) -> ComparedModel:
        """The model of the largest log evidence; whether it is better than the others is for their decisions to say."""
        return self.models[0]

    def __getitem__(self, name: str) -> ComparedModel:
        """The model of a name.

        Raises:
            KeyError: a name that was not compared.
        """
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(f"expected one of {', '.join(model.name for model in self.models)}, got {name!r}")

    def bayes_factor(self, one: str, other: str) -> EvidenceDifference:
        """The log Bayes factor of one model over another.

        Args:
            one: name of the model that the factor speaks for.
            other: name of the model that it speaks against.
        """
        return EvidenceDifference(self[one].evidence, self[other].evidence)

    def __str__(self) -> str:
        head = ("model", "log Z", "interval", "verdict", "behind", "interval", "probability", "decision")
        rows: list[tuple[str, ...]] = [head]
        for model in self.models:
            lower, upper = model.behind.interval()
            is_best = model is self.best
            rows.append(
                (
                    model.name,
                    f"{model.evidence.log_z:.3f}",
                    f"[{model.evidence.lower:.3f}, {model.evidence.upper:.3f}]",
                    str(model.evidence.verdict),
                    "" if is_best else f"{model.behind.log_bayes_factor:.3f}",
                    "" if is_best else f"[{lower:.3f}, {upper:.3f}]",
                    f"{model.probability:.3g} in [{model.probability_lower:.3g}, {model.probability_upper:.3g}]",
                    "best" if is_best else str(model.behind.decision),
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def rank(found: Mapping[str, ModelEvidence], prior: Mapping[str, float]) -> EvidenceComparison:
    """Models in the order of their log evidence.

    Args:
        found: log evidence of each model by name.
        prior: prior probability of each model by name.
    """
    best = max(found.values(), key=_height)
    is_comparable = len({frozenset(one.improper_sites) for one in found.values()}) == 1
    models = []
    for name, one in found.items():
        rivals = [other for other in found if other != name]

        def share(own: float, others: dict[str, float], name: str = name) -> float:
            if not is_comparable:
                return math.nan
            return _share(own + math.log(prior[name]), [value + math.log(prior[key]) for key, value in others.items()])

        models.append(
            ComparedModel(
                name=name,
                evidence=one,
                behind=EvidenceDifference(best, one),
                probability=share(one.log_z, {key: found[key].log_z for key in rivals}),
                probability_lower=share(one.lower, {key: found[key].upper for key in rivals}),
                probability_upper=share(one.upper, {key: found[key].lower for key in rivals}),
            )
        )
    return EvidenceComparison(tuple(sorted(models, key=lambda model: -_height(model.evidence))))


def _height(model: ModelEvidence) -> float:
    """Log evidence by which models are put in order; one without a number comes last."""
    return -math.inf if math.isnan(model.log_z) else model.log_z


def _share(own: float, others: list[float]) -> float:
    """Share of one weight among several, all as logarithms; an own weight of minus infinity has none.

    It is not a number where any of them is not, as for a model whose evidence could not be estimated.
    """
    if any(math.isnan(value) for value in (own, *others)):
        return math.nan
    if own == -math.inf:
        return 0.0
    if own == math.inf:
        return 1.0
    top = max([own, *others])
    if top == math.inf:
        return 0.0
    return math.exp(own - top) / (math.exp(own - top) + sum(math.exp(other - top) for other in others))
