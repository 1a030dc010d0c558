"""Seeded splits that keep rows of one group together, and equal rows where a column is continuous.

Equal rows of a continuous table are copies: a copy on the other side of the split would be a leak. Equal rows of a discrete
table are separate observations of one cell, which belong on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from drl_density.datasets.column import Column
from drl_density.errors import DataError

Part = TypeVar("Part")


MOST_CELLS = 0.1
"""Largest number of distinct rows, as a share of the rows, at which every one of them keeps a training row."""


class Parts(NamedTuple, Generic[Part]):
    """The three parts of a data set.

    Attributes:
        train: what belongs to the training rows.
        validation: what belongs to the validation rows.
        test: what belongs to the test rows.
    """

    train: Part
    validation: Part
    test: Part


@dataclass(frozen=True)
class Split:
    """Rule that divides rows into training, validation and test rows.

    Attributes:
        validation: share of the rows for validation.
        test: share of the rows for the test; 0 for no test rows.
        seed: integer that fixes the division.
        group: name of a column whose equal values stay together; it is not modelled.
        time: name of a column whose latest rows become the test; it is not modelled.
        weights: name of a column with relative row weights; it is not modelled.

    Raises:
        DataError: shares that leave no training rows, or both a group and a time.

    >>> from drl_density.datasets import load_dataset
    >>> data = load_dataset("banana", num_rows=100, split=Split(validation=0.2, test=0.3, seed=1))
    >>> len(data.train), len(data.validation), len(data.test)
    (50, 20, 30)
    """

    validation: float = 0.1
    test: float = 0.1
    seed: int = 0
    group: str | None = None
    time: str | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        if not (0 < self.validation < 1 and 0 <= self.test < 1 and self.validation + self.test < 1):
            raise DataError(
                f"validation and test must be shares that leave training rows, got {self.validation} and {self.test}"
            )
        if self.group is not None and self.time is not None:
            raise DataError("split by group or by time, not by both")


def row_groups(values: np.ndarray) -> np.ndarray:
    """Numbers the distinct rows: one integer per row, the same for equal rows."""
    return np.unique(values, axis=0, return_inverse=True)[1].reshape(-1)


def copies_are_leaks(columns: Sequence[Column]) -> bool:
    """Whether equal rows are copies of one row: where a column is continuous, or rounded with an open support."""
    return any(not column.is_discrete for column in columns)


def split_rows(
    groups: np.ndarray, split: Split, *, times: np.ndarray | None = None, cells: np.ndarray | None = None
) -> Parts[np.ndarray]:
    """Row indices of every part, each sorted; the rows of one group share a part.

    Args:
        groups: integer that names the group of each row.
        split: shares of the parts, and the seed.
        times: when given, the latest rows become the test and the rest is divided by group.
        cells: number of each row's cell in a discrete table, as :func:`row_groups` gives it. Where there are at most a tenth
            as many cells as rows, and no times, every cell keeps a training row: the first of its rows moves there.
    """
    parts = _divide(groups, split, times)
    if cells is None or times is not None or (cells.max() + 1) > MOST_CELLS * len(cells):
        return parts
    lacking = np.setdiff1d(cells, cells[parts.train])
    moved = np.array([np.flatnonzero(cells == cell)[0] for cell in lacking], dtype=np.int64)
    kept = (part[~np.isin(part, moved)] for part in parts[1:])
    return Parts(np.sort(np.concatenate([parts.train, moved])), *kept)


def _divide(groups: np.ndarray, split: Split, times: np.ndarray | None) -> Parts[np.ndarray]:
    num_rows = len(groups)
    rows = np.arange(num_rows)
    if times is not None:
        order = np.argsort(times, kind="stable")
        num_test = max(1, round(split.test * num_rows)) if split.test else 0
        is_test = times >= times[order[-num_test]] if num_test else np.zeros(num_rows, dtype=bool)
        rest, test = rows[~is_test], rows[is_test]
        if not len(rest):
            raise DataError(
                f"all {num_rows} rows have the time of the latest ones, so the split by time leaves none to train on: "
                "choose another column, or leave the time out"
            )
        share = split.validation / (1 - split.test)
        validation, train = _take(rest, groups, share * len(rest), split.seed)
        return Parts(train, validation, test)
    test, rest = _take(rows, groups, split.test * num_rows, split.seed) if split.test else (rows[:0], rows)
    validation, train = _take(rest, groups, split.validation * num_rows, split.seed + 1)
    return Parts(train, validation, test)


def _take(rows: np.ndarray, groups: np.ndarray, count: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Takes whole groups in random order until ``count`` rows are reached; returns the rows taken and those left."""
    share = count / max(1, len(rows))
    members = np.unique(groups[rows], return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(members)
    order = np.random.default_rng(seed).permutation(len(sizes))
    before = np.concatenate([[0], np.cumsum(sizes[order])[:-1]])
    is_taken = np.zeros(len(sizes), dtype=bool)
    is_taken[order] = before + 0.5 * sizes[order] <= count
    taken, left = rows[is_taken[members]], rows[~is_taken[members]]
    if not len(taken) or not len(left):
        least = max(2, math.ceil(0.5 / share)) if share else 2
        need = f"at least {least} groups are needed" if len(sizes) < least else "groups of more even sizes are needed"
        raise DataError(
            f"{len(rows)} rows in {len(sizes)} groups (equal rows, or rows of one value of the group column) cannot be "
            f"split with a share of {share:.3g} for one part: {need}, and a fit needs 8 training rows, so 10 rows or more"
        )
    return taken, left


def folds(
    values: np.ndarray, num_folds: int, *, seed: int, columns: Sequence[Column] = ()
) -> Iterator[Parts[np.ndarray]]:
    """Yields the row indices of each fold of a cross-validation; the fold after the test fold is for validation.

    Equal rows stay in one fold, unless all columns are discrete.

    Args:
        values: rows ``(n, d)`` to be divided.
        num_folds: number of folds, at least 3.
        columns: columns of the rows; without them every column counts as continuous.

    >>> parts = next(folds(np.arange(20.0)[:, None], num_folds=4, seed=0))
    >>> len(parts.train) + len(parts.validation) + len(parts.test)
    20
    """
    rows = np.asarray(values)
    groups = row_groups(rows) if not columns or copies_are_leaks(columns) else np.arange(len(rows))
    labels = np.random.default_rng(seed).permutation(groups.max() + 1) % num_folds
    side = labels[groups]
    for fold in range(num_folds):
        following = (fold + 1) % num_folds
        is_train = (side != fold) & (side != following)
        yield Parts(is_train.nonzero()[0], (side == following).nonzero()[0], (side == fold).nonzero()[0])
