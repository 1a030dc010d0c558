"""A stack of bagged mixtures of spike-and-slab products, beside a stack of Gaussian mixtures."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.bases.atoms import AtomCells, AtomMixture
from drl_density.bases.fitting.atoms.expectation import AtomBatch, AtomRows, fit_atom_batch
from drl_density.bases.fitting.stacked_mixture import LEAST_GAIN, MOST_COPIES
from drl_density.bases.fitting.stacking import left_out_log_density, stacking_weights
from drl_density.records.brief import brief
from drl_density.records.fields import PositiveFloat, PositiveInt, check_fields
from drl_density.records.given import given_or_default

LEAST_WEIGHT = 0.01
"""Weight of a kind in the stack below which it is left out of the final mixture."""


@dataclass(frozen=True)
class AtomSizes:
    """Sizes of a stack of spike-and-slab mixtures.

    Attributes:
        num_components: candidates for the number of components.
        smoothings: candidates for the number of further rows in each component; see :func:`fit_atom_batch`.
        num_bags: bootstrap fits of each candidate.
        least_bags: the same at least, for tables of many rows.
        most_points: number of rows, copies and bags counted, beyond which copies and bags are saved.
        most_components: number of components of the final mixture, about.
        most_work: multiply-adds of the search at most; sizes are left out beyond it, the largest first.
        num_iterations: most iterations of each fit.
    """

    num_components: tuple[PositiveInt, ...] = (5, 15, 40, 100)
    smoothings: tuple[PositiveFloat, ...] = (0.1, 0.3, 1.0)
    num_bags: PositiveInt = 24
    least_bags: PositiveInt = 8
    most_points: PositiveInt = 8000
    most_components: PositiveInt = 1000
    most_work: PositiveFloat = 1.5e11
    num_iterations: PositiveInt = 30

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class AtomKind:
    """One kind of spike-and-slab mixture in a stack.

    Attributes:
        num_components: number of components of each mixture.
        smoothing: number of further rows in each component.
        weight: weight of this kind in the stack.
        log_likelihood: mean log density of left-out rows under the bags of this kind alone, in nats a row.
    """

    num_components: int
    smoothing: float
    weight: float
    log_likelihood: float


@dataclass(frozen=True, eq=False)
class AtomStack:
    """A fitted stack of spike-and-slab mixtures.

    Attributes:
        base: the stack as one mixture.
        kinds: every kind of mixture in it, with weights of sum 1.
        log_densities: log density of every row under the stack of the bags that it was left out of, ``(n,)``, float64;
            NaN for a row that every bag of some kind holds.
        share: weight of this stack beside the densities that it was fitted to complement.
    """

    base: AtomMixture
    kinds: tuple[AtomKind, ...]
    log_densities: Tensor
    share: float

    __repr__ = brief


def fit_atom_stack(
    copies: Tensor,
    cells: AtomCells,
    beside: Tensor,
    *,
    settings: AtomSizes | None = None,
    max_seconds: float = math.inf,
    generator: torch.Generator | None = None,
) -> AtomStack | None:
    r"""Fit a stack of bagged spike-and-slab mixtures that complements another density of the same rows.

    For every number of components and every smoothing, mixtures are fitted to bootstrap samples of the rows, and each row
    is scored by the mixtures whose sample it is not in. Weights of all kinds and of the other density maximise the
    likelihood of these scores. Larger mixtures are tried while they are a gain.

    Args:
        copies: rows in model space ``(c, n, d)``, in c copies that differ by dequantisation noise.
        cells: cells of the spikes.
        beside: log density of every row under the other density, fitted without it, ``(n,)``; NaN where not known.
        settings: sizes of the stack.
        max_seconds: wall-clock seconds of the search; sizes that are expected to end later are left out.
        generator: source of the bootstrap samples and of the first components.

    Returns:
        The stack, or None where its kinds have next to no weight.

    Raises:
        ValueError: bags that leave no row out of every kind.

    Source: Smyth and Wolpert 1998, "Stacked density estimation".

    >>> generator = torch.Generator().manual_seed(0)
    >>> u = torch.randn(1, 100, 1, generator=generator).double()
    >>> u[0, :50] = 0.1 * torch.rand(50, 1, generator=generator)
    >>> cells = AtomCells(torch.tensor([0]), torch.tensor([[0.0, 0.1]]).double(), 1)
    >>> normal = -0.5 * u[0, :, 0].square() - 0.5 * math.log(2 * math.pi)
    >>> stack = fit_atom_stack(u, cells, normal, settings=AtomSizes((2,), (1.0,)), generator=generator)
    >>> float((stack.log_densities - normal).nanmean()) > 0.3
    True
    """
    settings = given_or_default(settings, AtomSizes)
    bags = _Bags(copies, cells, settings, generator)
    kinds: list[tuple[int, float]] = []
    batches: list[AtomBatch] = []
    scores = [beside.double()]
    weights, score, begun, work = torch.ones(1, dtype=torch.float64), float(beside.nanmean()), time.monotonic(), 0.0
    for number in sorted(settings.num_components):
        cost = bags.cost(number) * len(settings.smoothings)
        ends = (time.monotonic() - begun) * (1 + cost / work) if work else 0.0
        if 2 * number > bags.num_rows or work + cost > settings.most_work or ends > max_seconds:
            break
        work += cost
        for smoothing in settings.smoothings:
            counts = bags.draw(bags.num_bags, number)
            batch = bags.fit(counts, number, smoothing)
            kinds.append((number, smoothing))
            batches.append(batch)
            scores.append(left_out_log_density(batch.log_prob(bags.first), counts == 0))
        table = torch.stack(scores)
        known = table[:, ~table.isnan().any(0)]
        if not known.shape[1]:
            raise ValueError(f"{bags.num_bags} bags leave no row out of every kind: take more bags")
        weights = stacking_weights(known)
        previous, score = score, float((known + weights.log()[:, None]).logsumexp(0).mean())
        if score - previous < LEAST_GAIN:
            break
    has_weight = weights[1:] >= LEAST_WEIGHT * weights.amax()
    if not len(weights) > 1 or not bool(has_weight.any()):
        return None
    share = weights[1:][has_weight]
    own = share / share.sum()
    used = torch.stack(scores[1:])[has_weight]
    indices = has_weight.nonzero().flatten().tolist()
    found = tuple(
        AtomKind(kinds[index][0], kinds[index][1], weight, float(scores[1 + index].nanmean()))
        for index, weight in zip(indices, own.tolist(), strict=True)
    )
    base = _one_mixture([batches[index] for index in indices], found, _allotted(found, settings.most_components))
    return AtomStack(base, found, (used + own.log()[:, None]).logsumexp(0), float(share.sum()))


def refit_atoms(
    copies: Tensor,
    cells: AtomCells,
    kinds: Sequence[AtomKind],
    *,
    most_components: int = 500,
    generator: torch.Generator | None = None,
) -> AtomMixture:
    """Fit the kinds of mixture of a stack to other rows, with the weights that they have in it.

    A kind with more than one component for two rows is left out; if all are, the smallest one gets fewer components.

    Args:
        copies: rows in model space ``(c, n, d)``, in c copies that differ by dequantisation noise.
        cells: cells of the spikes.
        kinds: kinds with their weights, such as :attr:`AtomStack.kinds`.
        most_components: number of components of the mixture, about.
        generator: source of the bootstrap samples and of the first components.

    >>> cells = AtomCells(torch.tensor([0]), torch.tensor([[0.0, 0.1]]).double(), 1)
    >>> refit_atoms(torch.randn(1, 30, 1), cells, [AtomKind(2, 1.0, 1.0, -1.0)], most_components=8).num_components
    8
    """
    settings = AtomSizes(most_components=most_components)
    bags = _Bags(copies, cells, settings, generator)
    most = max(1, bags.num_rows // 2)
    kept = [each for each in kinds if each.num_components <= most]
    # Rows that are too few for every kind get the smallest one with as many components as they allow.
    least = min(kinds, key=lambda each: each.num_components)
    kept = kept or [dataclasses.replace(least, num_components=most)]
    counts = _allotted(kept, most_components)
    batches = [
        bags.fit(bags.draw(count, each.num_components), each.num_components, each.smoothing)
        for each, count in zip(kept, counts, strict=True)
    ]
    return _one_mixture(batches, kept, counts)


class _Bags:
    """Bootstrap samples of the rows, as counts, and mixtures fitted to them."""

    def __init__(
        self, copies: Tensor, cells: AtomCells, settings: AtomSizes, generator: torch.Generator | None
    ) -> None:
        self.num_rows, self.settings, self.generator = copies.shape[1], settings, generator
        self.num_copies = max(1, min(len(copies), MOST_COPIES, settings.most_points // self.num_rows))
        self.rows = AtomRows.of(copies[: self.num_copies].flatten(0, 1), cells)
        self.first = self.rows.scored(copies[0])
        self.num_bags = max(settings.least_bags, min(settings.num_bags, settings.most_points // self.num_rows))

    def draw(self, count: int, num_components: int) -> Tensor:
        """Counts ``(count, n)`` of the rows in as many bootstrap samples, each of which has a row for every component."""
        found: list[Tensor] = []
        least = min(num_components, self.num_rows)
        while len(found) < count:
            drawn = torch.randint(self.num_rows, (self.num_rows,), generator=self.generator)
            counts = torch.bincount(drawn, minlength=self.num_rows)
            if int((counts > 0).sum()) * self.num_copies >= least:
                found.append(counts)
        return torch.stack(found)

    def fit(self, counts: Tensor, num_components: int, smoothing: float) -> AtomBatch:
        """One mixture for each row of ``counts``."""
        return fit_atom_batch(
            self.rows,
            counts.repeat(1, self.num_copies),
            num_components,
            smoothing=smoothing,
            num_iterations=self.settings.num_iterations,
            generator=self.generator,
        )

    def cost(self, number: int) -> float:
        """Multiply-adds of the fits of one kind, two for each feature of each row."""
        return 2.0 * self.num_bags * self.settings.num_iterations * number * self.rows.features.numel()


def _allotted(kinds: Sequence[AtomKind], most_components: int) -> list[int]:
    """Number of mixtures of every kind, in proportion to its weight, at least one."""
    total = sum(each.weight for each in kinds)
    size = sum(each.weight * each.num_components for each in kinds) / total
    return [max(1, round(each.weight / total * most_components / size)) for each in kinds]


def _one_mixture(batches: Sequence[AtomBatch], kinds: Sequence[AtomKind], counts: Sequence[int]) -> AtomMixture:
    """The weighted average of at most ``counts`` mixtures of every kind, without components that hold no row."""
    weights = []
    for batch, kind, count in zip(batches, kinds, counts, strict=True):
        number = min(count, len(batch.log_weights))
        weights.append((batch.log_weights[:number] + math.log(kind.weight / number)).flatten())
    log_weights, cells = torch.cat(weights), batches[0].cells
    kept = log_weights > -math.inf
    shares, means, variances = (
        torch.cat([getattr(batch, name)[:count].flatten(0, 1) for batch, count in zip(batches, counts, strict=True)])[kept]
        for name in ("log_shares", "means", "variances")
    )
    return AtomMixture(log_weights[kept], shares, means, variances, cells.columns, cells.edges)
