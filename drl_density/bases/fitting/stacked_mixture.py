"""A stack of bagged Gaussian mixtures: the average of many bootstrap fits, weighted by what they give to left-out
rows."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.bases.fitting.expectation_maximization import MixtureBatch, fit_mixtures
from drl_density.bases.fitting.stacking import left_out_log_density, stacking_weights
from drl_density.bases.gaussian_mixture import NoisedGaussianMixture
from drl_density.records.brief import brief
from drl_density.records.fields import PositiveFloat, PositiveInt, check_fields
from drl_density.records.given import given_or_default

MOST_COPIES = 3
"""Dequantised copies of a row that a bag holds; more changed no score by more than its error."""

LEAST_GAIN = 2e-3
"""Gain in nats a row below which larger mixtures are not tried: below the error of scores of up to 100,000 rows."""

LEAST_WEIGHT = 0.01
"""Weight of a ridge in the stack below which larger mixtures are not fitted with it."""

LEAST_SHARE = 1e-3
"""Weight below which a component is left out of the final mixture: the left-out sum is far below any score's error."""


@dataclass(frozen=True)
class StackSettings:
    """Sizes of a stack of bagged mixtures.

    Attributes:
        num_components: candidates for the number of components.
        ridges: candidates for the variance added to every column; model space has unit variances.
        num_bags: bootstrap fits of each candidate, by which it is judged.
        least_bags: the same at least, for tables of many rows; 8 leave 97 % of the rows out of one.
        most_points: number of rows, copies and bags counted, beyond which copies and bags are saved.
        num_final_bags: bootstrap fits in the final average, shared out by weight, for up to 500 rows. More rows need
            fewer, in inverse proportion, as their fits differ less; at least twice as many as judge a candidate.
        most_components: number of components of the final mixture, about.
        most_parameters: number of covariance entries of the final mixture at most, which bounds the cost of a row.
        most_work: multiply-adds of the search at most; candidates are left out beyond it, the largest first.
        num_iterations: most iterations of each fit; 60 changed test scores by about 0.01 nats in up to twice the time.
    """

    num_components: tuple[PositiveInt, ...] = (1, 2, 3, 5, 8, 12, 20, 35, 60)
    ridges: tuple[PositiveFloat, ...] = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
    num_bags: PositiveInt = 24
    least_bags: PositiveInt = 8
    most_points: PositiveInt = 8000
    num_final_bags: PositiveInt = 200
    most_components: PositiveInt = 1000
    most_parameters: PositiveInt = 1_500_000
    most_work: PositiveFloat = 1.5e11
    num_iterations: PositiveInt = 30

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Candidate:
    """One kind of mixture in a stack.

    Attributes:
        num_components: number of components of each mixture.
        ridge: variance added to every column.
        weight: weight of this kind in the stack.
        log_likelihood: mean log density of left-out rows under the bags of this kind alone, in nats a row.
    """

    num_components: int
    ridge: float
    weight: float
    log_likelihood: float


@dataclass(frozen=True, eq=False)
class StackedMixture:
    """A fitted stack.

    Attributes:
        base: the stack as one Gaussian mixture.
        candidates: every kind of mixture that was tried.
        log_densities: log density of every row under the stack of the bags that it was left out of, ``(n,)``, float64;
            NaN for a row that every bag of some kind holds.
    """

    base: NoisedGaussianMixture
    candidates: tuple[Candidate, ...]
    log_densities: Tensor

    __repr__ = brief

    @property
    def log_likelihood(self) -> float:
        """Mean log density of left-out rows, in nats a row."""
        return float(self.log_densities.nanmean())

    @property
    def standard_error(self) -> float:
        """Standard error of :attr:`log_likelihood` over rows."""
        known = self.log_densities[~self.log_densities.isnan()]
        return float(known.std() / math.sqrt(len(known)))


def fit_stacked_mixture(
    copies: Tensor,
    *,
    weights: Tensor | None = None,
    settings: StackSettings | None = None,
    max_seconds: float = math.inf,
    generator: torch.Generator | None = None,
) -> StackedMixture:
    r"""Fit a stack of bagged Gaussian mixtures to all rows of a table.

    For every number of components and every ridge, mixtures are fitted to bootstrap samples of the rows. A row is scored
    by the mixtures whose sample it is not in, so that no row has to be held out. The weights of the kinds maximise the
    likelihood of these scores (:func:`stacking_weights`). The final density is the weighted average of about
    ``settings.num_final_bags`` mixtures, which is one larger Gaussian mixture.

    Averages forgive sizes that overfit alone, and kinds of small and large ridges together fit a dense body and rows far
    out.

    Args:
        copies: rows in model space ``(c, n, d)``, in c copies that differ by dequantisation noise; each copy has 1/c
            of the weight.
        weights: relative weights of the rows ``(n,)``; equal when not given.
        settings: sizes of the stack.
        max_seconds: wall-clock seconds of the search; sizes that are expected to end later are left out. The same seed
            gives the same stack on every machine where this is infinite.
        generator: source of the bootstrap samples and of the first means.

    Raises:
        ValueError: fewer than two rows.

    Source: Breiman 1996, "Bagging predictors"; Smyth and Wolpert 1998, "Stacked density estimation".

    >>> generator = torch.Generator().manual_seed(0)
    >>> rows = torch.randn(1, 200, 2, generator=generator)
    >>> small = StackSettings((1, 2), (0.01,), num_final_bags=10)
    >>> stack = fit_stacked_mixture(rows, settings=small, generator=generator)
    >>> stack.base.num_features, stack.log_likelihood > -3.2
    (2, True)
    """
    settings = given_or_default(settings, StackSettings)
    if copies.shape[1] < 2:
        raise ValueError(f"expected at least two rows, got {copies.shape[1]}")
    bags = _Bags(copies, weights, settings, generator)
    search = _Search(bags, settings, max_seconds)
    for number in sorted(settings.num_components):
        if not search.is_worth_adding(number):
            break
        search.add(number)
    candidates, fitted = search.candidates(), search.batches
    counts = _allotted(candidates, settings, bags)
    parts = []
    for candidate, batch, count in zip(candidates, fitted, counts, strict=True):
        if count > len(batch):
            more = bags.draw(count - len(batch), candidate.num_components)
            batch = _joined(batch, bags.fit(more, candidate.num_components, candidate.ridge))
        parts.append(batch)
    base = _one_mixture(parts, candidates, counts)
    return StackedMixture(base, candidates, search.log_densities)


def refit_stack(
    copies: Tensor,
    candidates: Sequence[Candidate],
    *,
    num_bags: int = 40,
    generator: torch.Generator | None = None,
) -> NoisedGaussianMixture:
    """Fit the kinds of mixture of a stack to other rows, with the weights that they have in it.

    A cross-validated table needs a stack without the rows of each part. A kind with more than one component for two rows
    is left out.

    Args:
        copies: rows in model space ``(c, n, d)``, in c copies that differ by dequantisation noise.
        candidates: kinds with their weights, such as :attr:`StackedMixture.candidates`.
        num_bags: bootstrap fits in the average for up to 500 rows; more rows need fewer, as in a stack.
        generator: source of the bootstrap samples and of the first means.

    Raises:
        ValueError: fewer than two rows, or no kind with few enough components.

    >>> generator = torch.Generator().manual_seed(0)
    >>> kinds = [Candidate(num_components=1, ridge=0.01, weight=1.0, log_likelihood=-3.0)]
    >>> refit_stack(torch.randn(1, 50, 2, generator=generator), kinds, generator=generator).num_features
    2
    """
    settings, num_rows = StackSettings(num_final_bags=num_bags), copies.shape[1]
    if num_rows < 2:
        raise ValueError(f"expected at least two rows, got {num_rows}")
    kept = [
        each
        for each in candidates
        if each.weight > 0 and (each.num_components == 1 or 2 * each.num_components <= num_rows)
    ]
    if not kept:
        raise ValueError(f"no kind of mixture has few enough components for {num_rows} rows")
    total = sum(each.weight for each in kept)
    kept = [dataclasses.replace(each, weight=each.weight / total) for each in kept]
    bags = _Bags(copies, None, settings, generator)
    chosen = [(each, count) for each, count in zip(kept, _allotted(tuple(kept), settings, bags), strict=True) if count]
    parts = [bags.fit(bags.draw(count, each.num_components), each.num_components, each.ridge) for each, count in chosen]
    return _one_mixture(parts, tuple(each for each, _ in chosen), [count for _, count in chosen])


class _Bags:
    """Bootstrap samples of the rows, as counts, and mixtures fitted to them."""

    def __init__(
        self, copies: Tensor, weights: Tensor | None, settings: StackSettings, generator: torch.Generator | None
    ) -> None:
        self.num_rows = copies.shape[1]
        # A row's dequantisation noise matters where rows are few; more points than these only cost time.
        self.num_copies = max(1, min(len(copies), MOST_COPIES, settings.most_points // self.num_rows))
        self.rows = copies[: self.num_copies].flatten(0, 1).double()
        self.first = copies[0]
        # A bag leaves out 37 % of the rows; from a thousand rows on, few bags give every candidate a precise score.
        self.num_bags = max(settings.least_bags, min(settings.num_bags, settings.most_points // self.num_rows))
        self.weights = torch.ones(self.num_rows) if weights is None else weights
        self.settings, self.generator = settings, generator

    def draw(self, count: int, num_components: int) -> Tensor:
        """Counts ``(count, n)`` of the rows in as many bootstrap samples of n rows."""
        found: list[Tensor] = []
        least = min(num_components, self.num_rows)
        while len(found) < count:
            drawn = torch.multinomial(self.weights, self.num_rows, replacement=True, generator=self.generator)
            counts = torch.bincount(drawn, minlength=self.num_rows)
            if int((counts > 0).sum()) * self.num_copies >= least:
                found.append(counts)
        return torch.stack(found)

    def fit(self, counts: Tensor, num_components: int, ridge: float) -> MixtureBatch:
        """One mixture for each row of ``counts``."""
        return fit_mixtures(
            self.rows,
            counts.repeat(1, self.num_copies),
            num_components,
            ridge=ridge,
            num_iterations=self.settings.num_iterations,
            generator=self.generator,
        )


class _Search:
    """The kinds of mixture tried so far, the log densities they give to left-out rows, and their weights."""

    def __init__(self, bags: _Bags, settings: StackSettings, max_seconds: float = math.inf) -> None:
        self.bags, self.settings, self.max_seconds = bags, settings, max_seconds
        self.begun, self.pace = time.monotonic(), 0.0
        self.ridges = settings.ridges
        self.kinds: list[tuple[int, float]] = []
        self.batches: list[MixtureBatch] = []
        self.scores: list[Tensor] = []
        self.weights = torch.empty(0, dtype=torch.float64)
        self.work, self.gain = 0.0, math.inf

    @property
    def log_densities(self) -> Tensor:
        """Log density ``(n,)`` of every row under the stack of the bags that it was left out of."""
        return (torch.stack(self.scores) + self.weights.log()[:, None]).logsumexp(0)

    def is_worth_adding(self, number: int) -> bool:
        """Whether mixtures of ``number`` components are affordable and the last size was a gain."""
        bags = self.bags
        if number > 1 and 2 * number > bags.num_rows:
            return False
        if number == 1:
            return True
        ends = time.monotonic() - self.begun + self.pace * self._cost(number)
        is_affordable = self.work + self._cost(number) <= self.settings.most_work and ends <= self.max_seconds
        return is_affordable and self.gain > LEAST_GAIN

    def add(self, number: int) -> None:
        """Fit mixtures of ``number`` components for every ridge that still has weight, and weigh all kinds again."""
        before = float(self.log_densities.nanmean()) if self.scores else -math.inf
        cost, begun = self._cost(number), time.monotonic()
        self.work += cost
        for ridge in self.ridges:
            counts = self.bags.draw(self.bags.num_bags, number)
            batch = self.bags.fit(counts, number, ridge)
            self.kinds.append((number, ridge))
            self.batches.append(batch)
            self.scores.append(left_out_log_density(batch.log_prob(self.bags.first), counts == 0))
        table = torch.stack(self.scores)
        is_scored = ~table.isnan().any(0)
        if not bool(is_scored.any()):
            raise ValueError(f"{self.bags.num_bags} bags leave no row out of every kind: take more bags")
        self.weights = stacking_weights(table[:, is_scored])
        self.gain = float(self.log_densities.nanmean()) - before
        self.pace = (time.monotonic() - begun) / cost
        used = dict.fromkeys(self.settings.ridges, 0.0)
        for (_, ridge), weight in zip(self.kinds, self.weights.tolist(), strict=True):
            used[ridge] += weight
        if number > 1:  # one component says little about the ridges that many need
            self.ridges = tuple(ridge for ridge in self.ridges if used[ridge] >= LEAST_WEIGHT)

    def candidates(self) -> tuple[Candidate, ...]:
        """Every kind with its weight and its score alone."""
        means = torch.stack(self.scores).nanmean(1).tolist()
        return tuple(
            Candidate(number, ridge, weight, mean)
            for (number, ridge), weight, mean in zip(self.kinds, self.weights.tolist(), means, strict=True)
        )

    def _cost(self, number: int) -> float:
        """Multiply-adds of the fits of one size, two for each entry of a covariance and each row."""
        bags = self.bags
        points = len(bags.rows) * bags.rows.shape[1] ** 2
        return 2.0 * len(self.ridges) * bags.num_bags * self.settings.num_iterations * number * points


def _allotted(candidates: tuple[Candidate, ...], settings: StackSettings, bags: _Bags) -> list[int]:
    """Number of final bags of every kind: in proportion to its weight, within the allowed number of parameters."""
    num_components = sum(each.weight * each.num_components for each in candidates)
    most = min(settings.most_components, settings.most_parameters / bags.rows.shape[1] ** 2)
    wanted = min(settings.num_final_bags, max(2 * bags.num_bags, settings.num_final_bags * 500 / bags.num_rows))
    count = min(wanted, max(1.0, most / num_components))
    counts = [round(each.weight * count) for each in candidates]
    best = max(range(len(candidates)), key=lambda index: candidates[index].weight)
    return [max(number, 1) if index == best else number for index, number in enumerate(counts)]


def _joined(first: MixtureBatch, second: MixtureBatch) -> MixtureBatch:
    pairs = ((getattr(first, name), getattr(second, name)) for name in ("log_weights", "means", "factors"))
    return MixtureBatch(*(torch.cat(pair) for pair in pairs))


def _one_mixture(
    parts: list[MixtureBatch], candidates: tuple[Candidate, ...], counts: list[int]
) -> NoisedGaussianMixture:
    """The weighted average of the first ``counts`` mixtures of every kind, without components of no weight."""
    log_weights, means, covariances = [], [], []
    for part, candidate, count in zip(parts, candidates, counts, strict=True):
        if count:
            log_weights.append((part.log_weights[:count] + math.log(candidate.weight / count)).flatten())
            means.append(part.means[:count].flatten(0, 1))
            covariances.append(part.covariances[:count].flatten(0, 1))
    weights = torch.cat(log_weights).exp()
    kept = weights > LEAST_SHARE * weights.mean()
    weights = weights[kept] / weights[kept].sum()
    return NoisedGaussianMixture(weights, torch.cat(means)[kept], torch.cat(covariances)[kept])
