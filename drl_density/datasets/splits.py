"""Which rows train, validate and test: seeded, with equal rows on one side, by group or by time on request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from drl_density.errors import DataError

Indices = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Split:
    """How rows are divided.

    Attributes:
        validation: share of rows for validation, in [0, 1).
        test: share of rows for test, in [0, 1).
        group: name of a column whose rows with equal values stay on one side; the column is taken out of the data.
        time: name of a column to order by: the latest rows test, those before validate; it is taken out of the data.
        is_duplicate_safe: keep equal rows on one side; with a time column, on the side of the latest of them.
    """

    validation: float = 0.1
    test: float = 0.1
    group: str | None = None
    time: str | None = None
    is_duplicate_safe: bool = True

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            share = getattr(self, name)
            if not 0 <= share < 1:
                raise DataError(f"{name} must be a share in [0, 1), got {share}")
        if self.validation + self.test >= 1:
            raise DataError(
                f"validation and test together take {self.validation + self.test:g} of the rows and leave none to "
                "train on; their sum must stay below 1"
            )


def row_groups(x: np.ndarray | Tensor) -> np.ndarray:
    """One 64-bit key per row, equal for equal rows; shape ``(rows,)``.

    Keys mix the bits of the row's float64 values. Two different rows share a key with probability 2^-64 per pair.

    >>> keys = row_groups(np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]))
    >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
    (True, False)
    """
    values = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
    values = values.reshape(len(values), -1)
    keys = np.full(len(values), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for index in range(values.shape[1]):
        bits = (values[:, index].astype(np.float64) + 0.0).view(np.uint64)
        keys = _mix(keys ^ _mix(bits + np.uint64(index + 1)))
    return keys


def _mix(bits: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser (Steele, Lea and Flood 2014): a bijection that scatters every bit."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def split_rows(
    x: np.ndarray | Tensor,
    split: Split | None = None,
    *,
    seed: int = 0,
    group: np.ndarray | None = None,
    time: np.ndarray | None = None,
) -> Indices:
    """Indices of training, validation and test rows, each sorted.

    Rows that must stay together are the connected components of "equal rows" and "equal group". Components are taken
    in random order (or from the latest to the earliest) until a part is full; one that straddles a border falls on
    the side that holds its middle.

    Args:
        x: rows, shape ``(rows, ...)``.
        split: shares and rules; 80/10/10 by default.
        seed: of the random order.
        group: one label per row, or None.
        time: one sortable number per row, or None.

    Raises:
        DataError: if a part would be empty.

    >>> train, validation, test = split_rows(torch.randn(100, 2), seed=0)
    >>> len(train), len(validation), len(test)
    (80, 10, 10)
    """
    split = Split() if split is None else split
    num_rows = len(x)
    component = _components(x, split, group, time)
    sizes = np.bincount(component)
    if time is None:
        order = _permutation(len(sizes), seed)
    else:
        latest = np.full(len(sizes), -np.inf)
        np.maximum.at(latest, component, np.asarray(time, dtype=np.float64))
        order = np.argsort(-latest, kind="stable")
    middle = np.empty(len(sizes))
    middle[order] = np.cumsum(sizes[order]) - sizes[order] / 2
    num_test, num_validation = round(split.test * num_rows), round(split.validation * num_rows)
    borders = np.array([num_test, num_test + num_validation], dtype=np.float64)
    part = np.searchsorted(borders, middle, side="left")[component]
    test, validation, train = (torch.from_numpy(np.flatnonzero(part == k)) for k in range(3))
    for name, indices, share in (("training", train, 1.0), ("validation", validation, split.validation),
                                 ("test", test, split.test)):  # fmt: skip
        if share > 0 and len(indices) == 0:
            raise DataError(
                f"the {name} part is empty: {num_rows} rows form {len(sizes)} groups that must stay together; give "
                "more rows, other shares in Split(...), or Split(is_duplicate_safe=False)"
            )
    return train, validation, test


def folds(x: np.ndarray | Tensor, num_folds: int = 10, seed: int = 0) -> Iterator[Indices]:
    """Cross-validation with equal rows in one fold: yields (training, validation, test) indices.

    Fold k tests, fold k + 1 validates, all others train.

    Raises:
        DataError: if there are fewer than 3 folds, or fewer distinct rows than folds.

    >>> sum(len(test) for _, _, test in folds(torch.randn(50, 2), 5))
    50
    """
    component = _components(x, Split(), None, None)
    sizes = np.bincount(component)
    if num_folds < 3:
        raise DataError(f"num_folds must be at least 3 (training, validation, test), got {num_folds}")
    order = _permutation(len(sizes), seed)
    middle = np.empty(len(sizes))
    middle[order] = np.cumsum(sizes[order]) - sizes[order] / 2
    fold = np.floor(middle / len(component) * num_folds).astype(int)[component]
    if len(np.unique(fold)) < num_folds:
        raise DataError(f"{len(sizes)} distinct rows do not fill {num_folds} folds; ask for fewer folds")
    for index in range(num_folds):
        is_test, is_validation = fold == index, fold == (index + 1) % num_folds
        masks = (~(is_test | is_validation), is_validation, is_test)
        train, validation, test = (torch.from_numpy(np.flatnonzero(mask)) for mask in masks)
        yield train, validation, test


def _permutation(size: int, seed: int) -> np.ndarray:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed)).numpy()


def _components(x: np.ndarray | Tensor, split: Split, group: np.ndarray | None, time: np.ndarray | None) -> np.ndarray:
    labels = [row_groups(x)] if split.is_duplicate_safe else []
    labels += [np.asarray(label) for label in (group, time) if label is not None]
    codes = [np.unique(label, return_inverse=True)[1].reshape(-1) for label in labels]
    if not codes:
        return np.arange(len(x))
    if len(codes) == 1:
        return codes[0]
    num_rows = len(x)
    offsets = num_rows + np.cumsum([0] + [int(code.max()) + 1 for code in codes])
    rows = np.concatenate([np.arange(num_rows)] * len(codes))
    nodes = np.concatenate([code + offset for code, offset in zip(codes, offsets[:-1], strict=True)])
    size = int(offsets[-1])
    graph = coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, nodes)), shape=(size, size))
    found = connected_components(graph, directed=False)[1][:num_rows]
    return np.unique(found, return_inverse=True)[1].reshape(-1)
