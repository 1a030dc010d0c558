"""A small table in folds, with a reference fitted to all its rows and one for each fold, fitted to the others."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from drl_density.bases import Base, BlendedBase, NoisedGaussianMixture
from drl_density.bases.fitting import StackedMixture, fit_blend, fit_stacked_mixture, refit_stack
from drl_density.bases.fitting.atoms import fit_atom_stack, refit_atoms
from drl_density.datasets import Dataset
from drl_density.datasets.splits import copies_are_leaks, row_groups
from drl_density.density.fitting.bases import (
    FINE_SIGMAS,
    NO_FLOW,
    NOISE_LOSS,
    ChosenBases,
    ReferenceTime,
    fit_gaussian,
    scores_by_noise,
)
from drl_density.density.fitting.folds.kernels import choose_kernels
from drl_density.density.fitting.references import atom_cells
from drl_density.density.fitting.table import Table, TableWithBases
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.density.settings.table_rules import MOST_FOLDED_COLUMNS, MOST_FOLDED_ROWS, NUM_FOLDS
from drl_density.errors import DataError

NUM_COPIES = 3
"""Dequantised copies of the rows that the references are fitted to, as many as a bag holds."""

ATOM_SHARE = 1.5
"""Time of the search for spike-and-slab mixtures as a share of that for a stack; their fits are kept."""

FOLD_BAGS = 40
"""Bags in the reference of a fold, a fifth of those of all rows: the average over five folds has as many."""


@dataclass(frozen=True)
class FoldedTable(TableWithBases):
    """A small table whose training and validation rows are divided into folds.

    Its :attr:`bases` are fitted to the training and validation rows together. The transform is fitted to the training rows
    alone, so the validation rows have scores out of their fold that no fit has seen.

    Attributes:
        parts: For each fold, the table whose validation rows are those of the fold, and whose training rows and bases are
            of all other folds.
        side: Fold of each training row and then of each validation row, ``(rows,)``.
    """

    parts: tuple[TableWithBases, ...]
    side: Tensor

    def describe(self) -> str:
        """Transform of the first 20 columns, and the score of every reference on rows that it was not fitted to."""
        scores = ", ".join(f"{name} {score:.3f}" for name, score in self.bases.scores.items())
        return (
            f"{Table.describe(self)}\n  bases on left-out rows of {len(self.parts)} folds, nats/row in model space: "
            f"{scores}; kept {', '.join(self.bases.mixtures)}, fitted to all {len(self.side)} rows"
            + "".join(f"\n  {remark}" for remark in self.bases.remarks)
        )

    def is_validation(self, fold: int) -> Tensor:
        """Which rows of a fold are validation rows of the whole table, ``(rows of the fold,)``."""
        return (self.side == fold).nonzero()[:, 0] >= len(self.dataset.train)


def count_folds(dataset: Dataset, settings: FitSettings) -> int:
    """Number of folds of a table: that of the settings, or 5 for a small one; 1 where rows cannot be divided freely.

    Rows of a group, and rows in order of time, depend on each other; they keep one part for validation.

    Args:
        dataset: Rows in their split.
        settings: Settings of the fit.

    Raises:
        DataError: Folds asked for that the rows do not allow.
    """
    if not settings.may_fold:
        return 1
    num_rows = len(dataset.train) + len(dataset.validation)
    split = dataset.loading.get("split", {})
    reasons = {
        "missing values": dataset.has_missing_values,
        "row weights": dataset.weights is not None or dataset.validation_weights is not None,
        "rows that are read in samples": dataset.stream is not None,
        "images": len(dataset.event_shape) > 1,
        "a split by group or by time": bool(split.get("group") or split.get("time")),
        "no validation rows": not len(dataset.validation),
        "too few distinct rows": num_rows < MOST_FOLDED_ROWS and int(_groups(dataset).max()) + 1 < 2 * NUM_FOLDS,
    }
    found = [reason for reason, applies in reasons.items() if applies]
    if settings.num_folds is None:
        is_small = num_rows < MOST_FOLDED_ROWS and dataset.train.shape[1] <= MOST_FOLDED_COLUMNS
        return NUM_FOLDS if is_small and not found else 1
    if found:
        raise DataError(f"num_folds={settings.num_folds} cannot be combined with {found[0]}: leave num_folds out")
    most = (int(_groups(dataset).max()) + 1) // 2
    if settings.num_folds > most:
        raise DataError(
            f"num_folds must be at most {most}, half the number of distinct training and validation rows, got "
            f"{settings.num_folds}: give fewer, or leave num_folds out"
        )
    return settings.num_folds


def fold_table(table: Table, num_folds: int, *, allowed: ReferenceTime = NO_FLOW, seed: int = 0) -> FoldedTable:
    """Divide the training and validation rows of a table into folds, and fit the references.

    A stack of bagged mixtures is fitted to all rows, with kernels around them where left-out rows gain from these. The
    kinds of mixture and of kernel in it, with their weights, are then fitted to the rows outside each fold. What scores
    best on rows that it was not fitted to, of independent columns, a Gaussian and the stack, is kept. Where rows share
    values, spike-and-slab mixtures are further candidates, alone and blended with the stack.

    Args:
        table: Complete table without row weights.
        num_folds: Number of folds, at least 2. Equal rows share one, unless all columns are discrete.
        allowed: Time that the fits may take.
        seed: Seed of the folds and of the fits.

    >>> from drl_density.datasets import load_dataset
    >>> from drl_density.density.fitting.table import prepare_table
    >>> folded = fold_table(prepare_table(load_dataset("banana", seed=0, num_rows=60)), 2)
    >>> [len(part.dataset.validation) for part in folded.parts], len(folded.dataset.train)
    ([27, 27], 48)
    """
    data, generator = table.dataset, torch.Generator().manual_seed(seed)
    rows = torch.cat([data.train, data.validation])
    groups = torch.from_numpy(_groups(data))
    side = (torch.randperm(int(groups.max()) + 1, generator=generator) % num_folds)[groups]
    num_copies = 1 if table.dequantization is None else NUM_COPIES
    u = torch.stack([table.transform(table.rows(rows, generator=generator)) for _ in range(num_copies)])
    stack = fit_stacked_mixture(u, max_seconds=allowed.most_search, generator=generator)
    kernels = choose_kernels(u[0], groups, stack.log_densities)
    independent = NoisedGaussianMixture.standard(u.shape[-1])
    base = stack.base if kernels is None else kernels.join(stack.base, u[0])
    whole: dict[str, Base] = {"independent": independent, "gaussian": fit_gaussian(u.flatten(0, 1)), "stack": base}
    parts: list[dict[str, Base]] = []
    for fold in range(num_folds):
        others = u[:, side != fold]
        smaller = refit_stack(others, stack.candidates, num_bags=FOLD_BAGS, generator=generator)
        smaller = smaller if kernels is None else kernels.join(smaller, others[0])
        parts.append({"independent": independent, "gaussian": fit_gaussian(others.flatten(0, 1)), "stack": smaller})
    noises = {name: _left_out_scores([part[name] for part in parts], u, side) for name in whole}
    scores = {name: max(by_noise.values()) for name, by_noise in noises.items()}
    noisy = max(scores, key=scores.__getitem__)
    sigma_min = next(sigma for sigma in FINE_SIGMAS if noises[noisy][sigma] >= scores[noisy] - NOISE_LOSS)
    remarks = () if kernels is None else (kernels.describe(),)
    best = noisy
    if _add_atoms(table, u, stack, whole, parts, side, allowed=allowed, generator=generator):
        scores |= {name: float(_left_out(parts, name, u, side).mean()) for name in whole if name not in scores}
        blend = fit_blend(
            {name: whole[name] for name in ("stack", "atoms")},
            {name: _left_out(parts, name, u, side) for name in ("stack", "atoms")},
            source=torch.arange(u.shape[1]).repeat(num_copies),
        )
        if blend is not None:
            remarks = (*remarks, blend.describe())
            scores["blend"], whole["blend"] = blend.log_likelihood, blend.base
            for part in parts:
                part["blend"] = BlendedBase([part[name] for name in blend.weights], blend.base.weights)
        best = max(scores, key=scores.__getitem__)

    def chosen(bases: dict[str, Base]) -> ChosenBases:
        return ChosenBases({best: bases[best]}, sigma_min, scores, noisy=None if best == noisy else bases[noisy])

    def part_of(fold: int) -> TableWithBases:
        own = dataclasses.replace(data, train=rows[side != fold], validation=rows[side == fold], labels=None)
        return TableWithBases(own, table.transform, table.dequantization, chosen(parts[fold]))

    return FoldedTable(
        data,
        table.transform,
        table.dequantization,
        dataclasses.replace(chosen(whole), remarks=remarks),
        parts=tuple(part_of(fold) for fold in range(num_folds)),
        side=side,
    )


def _add_atoms(
    table: Table,
    copies: Tensor,
    stack: StackedMixture,
    whole: dict[str, Base],
    parts: list[dict[str, Base]],
    side: Tensor,
    *,
    allowed: ReferenceTime,
    generator: torch.Generator,
) -> bool:
    """Fit spike-and-slab mixtures to all rows and to those outside each fold, where columns have atoms that they gain from.

    Args:
        table: The table.
        copies: Its training and validation rows in model space ``(c, n, d)``.
        stack: Stack of these rows, which the mixtures complement.
        whole: References of all rows by name, to which they are added as "atoms".
        parts: References of the rows outside each fold.
        side: Fold of each row ``(n,)``.
        allowed: Time that the fits may take.
        generator: Source of the bootstrap samples.

    Returns:
        Whether they were added.
    """
    data = table.dataset
    cells = atom_cells(torch.cat([data.train, data.validation]), data.columns, table.transform)
    if cells is None:
        return False
    seconds = ATOM_SHARE * allowed.most_search
    atoms = fit_atom_stack(copies, cells, stack.log_densities, max_seconds=seconds, generator=generator)
    if atoms is None:
        return False
    whole["atoms"] = atoms.base
    for fold, part in enumerate(parts):
        part["atoms"] = refit_atoms(copies[:, side != fold], cells, atoms.kinds, generator=generator)
    return True


def _groups(data: Dataset) -> np.ndarray:
    """Numbers of what stays together of the training and validation rows: equal rows, unless all columns are discrete."""
    rows = torch.cat([data.train, data.validation]).numpy()
    return row_groups(rows) if copies_are_leaks(data.columns) else np.arange(len(rows))


def _left_out(parts: list[dict[str, Base]], name: str, copies: Tensor, side: Tensor) -> Tensor:
    """Log density of rows ``(c, n, d)`` under the named base that was fitted without their fold, ``(c n,)``, float64."""
    values = copies.new_empty(copies.shape[:2])
    for fold, part in enumerate(parts):
        own = copies[:, side == fold]
        values[:, side == fold] = part[name].log_prob(own.flatten(0, 1).float()).double().reshape(own.shape[:2])
    return values.flatten()


def _left_out_scores(bases: list[Base], copies: Tensor, side: Tensor) -> dict[float, float]:
    """Mean log density at each candidate noise of rows ``(c, n, d)`` under the base that was fitted without their fold."""
    sums = dict.fromkeys(FINE_SIGMAS, 0.0)
    for fold, base in enumerate(bases):
        own = copies[:, side == fold].flatten(0, 1)
        for sigma, score in scores_by_noise(base, own, FINE_SIGMAS).items():
            sums[sigma] += score * len(own)
    return {sigma: total / copies[..., 0].numel() for sigma, total in sums.items()}
