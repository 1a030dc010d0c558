"""Rows of a table larger than memory: their split, and uniform samples of the training rows, each from one pass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from drl_density.datasets.column import Column
from drl_density.datasets.dataset import RowSample
from drl_density.datasets.large.hashing import content_hashes, mix, place_hashes, stream_key, unit_interval
from drl_density.datasets.large.scan import Treatment
from drl_density.datasets.large.source import (
    ChunkSource,
    count_rows,
    group_hashes,
    rows_at_once,
    time_numbers,
    weight_numbers,
)
from drl_density.datasets.splits import MOST_CELLS, Parts, Split, copies_are_leaks
from drl_density.datasets.tables.coding import encode_frame
from drl_density.datasets.tables.meaning import TOKENS
from drl_density.errors import DataError

SPLIT, ORDER = 0, 1
"""Numbers of the streams of random numbers that divide rows into parts, and training rows into samples."""

MOST_COMBINATIONS = 2**20
"""Combinations of values of a discrete table that are remembered during a pass: a mebibyte."""


class Chunk(NamedTuple):
    """Consecutive rows of a pass that are in use.

    Attributes:
        values: rows ``(n, d)`` in data units, labels as codes.
        places: place of each row in the table, counted from 0, ``(n,)``.
        part: 0 for a training row, 1 for validation, 2 for test, ``(n,)``.
        content: a hash of each row's content, its weight included, ``(n,)``.
        shares: weight of each row over the mean weight, ``(n,)``; None without weights.
    """

    values: np.ndarray
    places: np.ndarray
    part: np.ndarray
    content: np.ndarray
    shares: np.ndarray | None = None

    def take(self, is_kept: np.ndarray) -> Chunk:
        """Some of the rows, by a boolean mask ``(n,)``."""
        return Chunk(*(None if part is None else part[is_kept] for part in self))  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, eq=False)
class TablePasses:
    """Passes over a table whose columns are known.

    Rows are divided by a hash. Rows of one group stay together where a column groups them. Otherwise equal rows stay
    together, except in a table of discrete columns alone, where they are no copies of one another.

    Attributes:
        source: the table.
        columns: columns of the data set, in order.
        split: shares of the parts, the seed, and the columns that group or order the rows.
        first_test_time: time from which on rows belong to the test, for a split by time.
        missing: "drop" leaves out rows with missing values, "draw" rows without a single value.
        tokens: texts that mean a missing value, in lower case.
        mean_weight: mean weight of the rows in use, where the split names a column of weights.
    """

    source: ChunkSource
    columns: tuple[Column, ...]
    split: Split
    first_test_time: float = math.inf
    missing: Treatment = "refuse"
    tokens: frozenset[str] = TOKENS
    mean_weight: float = 1.0

    def __iter__(self) -> Iterator[Chunk]:
        source, role = self.source, self.split.group or self.split.time
        further = [name for name in (role, self.split.weights) if name is not None]
        names = [*(column.name for column in self.columns), *further]
        cells, place = DiscreteCells.of(self.columns, count_rows(source)), 0
        for frame in source.chunks(rows_at_once(len(names)), names=names):
            first_row = source.first_row + place
            encoded = encode_frame(
                frame, self.columns, missing="keep", where=source.where, first_row=first_row, tokens=self.tokens
            )
            values = encoded.numpy()
            places = np.arange(place, place + len(frame))
            place += len(frame)
            content = content_hashes(values, stream_key(0))
            part = self._parts(frame, places, content, first_row)
            shares = None
            if self.split.weights is not None:
                weights = weight_numbers(
                    frame[self.split.weights], where=source.where, first_row=first_row, tokens=self.tokens
                )
                content = mix(content + mix(weights.view(np.uint64)))
                shares = weights / self.mean_weight
            chunk = Chunk(values, places, part, content, shares)
            if self.missing != "refuse":
                is_missing = np.isnan(values)
                is_out = is_missing.any(1) if self.missing == "drop" else is_missing.all(1)
                chunk = chunk.take(np.asarray(~is_out))
            if cells is not None and role is None:
                chunk.part[cells.first_rows(chunk.values)] = 0
            yield chunk

    def _parts(self, frame: Any, places: np.ndarray, content: np.ndarray, first_row: int) -> np.ndarray:
        split, key, where = self.split, stream_key(self.split.seed, SPLIT), self.source.where
        if split.group is not None:
            hashes = mix(group_hashes(frame[split.group], where=where, first_row=first_row) + key)
        elif copies_are_leaks(self.columns):
            hashes = mix(content + key)
        else:
            hashes = place_hashes(places, key)
        position = unit_interval(hashes)
        if split.time is None:
            return np.where(position < split.test, 2, np.where(position < split.test + split.validation, 1, 0))
        times = time_numbers(frame[split.time], where=where, first_row=first_row)
        share = split.validation / (1 - split.test)
        return np.where(times >= self.first_test_time, 2, np.where(position < share, 1, 0))


class DiscreteCells:
    """The combinations of values of a table of closed supports that a pass has seen so far.

    Args:
        columns: columns with a closed support.
    """

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self._supports = [_support(column) for column in columns]
        self._seen = np.zeros(math.prod(len(support) + 1 for support in self._supports), dtype=bool)

    @classmethod
    def of(cls, columns: tuple[Column, ...], num_rows: int) -> DiscreteCells | None:
        """The cells of a table of closed supports with few combinations of values; None for any other table.

        Few are at most :data:`MOST_COMBINATIONS`, and at most a tenth of the rows. With more, the first rows of all
        combinations would be a large share of the table, and the other parts too small.
        """
        sizes = [len(_support(column)) for column in columns]
        most = min(MOST_COMBINATIONS, MOST_CELLS * num_rows)
        return cls(columns) if all(sizes) and math.prod(sizes) <= most else None

    def first_rows(self, values: np.ndarray) -> np.ndarray:
        """Indices of the rows ``(n, d)`` that are the first of their combination in the pass."""
        index = np.zeros(len(values), dtype=np.int64)
        for column, support in zip(values.T, self._supports, strict=True):  # a missing value is one more value
            place = np.searchsorted(support, np.where(np.isnan(column), support[0], column))
            index = index * (len(support) + 1) + np.where(np.isnan(column), len(support), place)
        found, first = np.unique(index, return_index=True)
        is_new = ~self._seen[found]
        self._seen[found] = True
        return first[is_new]


def _support(column: Column) -> np.ndarray:
    """Values of a closed support, codes of labels; empty for an open one."""
    return np.arange(len(column.categories)) * 1.0 if column.categories is not None else np.asarray(column.values)


@dataclass(frozen=True, eq=False)
class StreamedRows:
    """Training rows as successive samples, each from one pass over the table.

    Every pass of an epoch takes the rows whose random number lies in another of ``num_slices`` equal intervals. So each
    sample is a uniform draw of the training rows, each row is used once in an epoch, and neither the order of the rows nor
    their division into files and row groups matters.

    With weights, a row of share s of the mean weight is expected s times in an epoch. It is in a sample with probability
    min(1, s / K) for K slices, and has the weight max(1, s / K) in its batches. So the expected weight is exactly s / K,
    and heavy rows are in every sample instead of many times in one.

    Source: Duffield, Lund and Thorup 2005 (threshold sampling), with one random number a row for all samples of an epoch.

    Attributes:
        passes: passes over the table.
        num_rows: rows of the three parts in the whole table.
        num_slices: samples that use up the training rows once.
        checksum: sum of the hashes of all rows' contents modulo 2^64.
        has_missing_values: whether any row of the table has a missing value.
    """

    passes: TablePasses
    num_rows: Parts[int]
    num_slices: int
    checksum: int
    has_missing_values: bool = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.passes.source.where!r}, num_rows={tuple(self.num_rows)})"

    @property
    def sample_size(self) -> int:
        """Training rows in one sample, on average."""
        return max(1, round(self.num_rows.train / self.num_slices))

    @property
    def digest(self) -> str:
        """Text that is equal for equal rows in an equal split."""
        return (
            f"{self.checksum:016x}, {dataclasses.asdict(self.passes.split)}, {tuple(self.num_rows)}, {self.num_slices}"
        )

    def sample(self, number: int, *, is_cancelled: Callable[[], bool] = lambda: False) -> RowSample:
        """Sample ``number`` of the training rows, about ``sample_size`` of them.

        Args:
            number: samples 0, 1, ... use up all training rows before any row comes again.
            is_cancelled: called between chunks; once it returns true, the pass ends with an error.

        Raises:
            DataError: a table that is no longer what it was, or a cancelled pass.
        """
        found, weights, checksum = [], [], 0
        for chunk in self.passes:
            if is_cancelled():
                raise DataError(f"{self.passes.source.where}: the reading of a sample was cancelled")
            checksum += wrapped_sum(chunk.content)
            is_chosen, own = training_sample(chunk, number, self.num_slices, self.passes.split.seed)
            found.append(chunk.values[is_chosen])
            weights.append(own)
        if checksum % 2**64 != self.checksum:
            raise DataError(f"{self.passes.source.where} has changed since the fit began to read it; start a new fit")
        return row_sample(found, weights)


def row_sample(rows: Sequence[np.ndarray], weights: Sequence[np.ndarray | None]) -> RowSample:
    """A sample from its rows and weights chunk by chunk; weights are None where the table has none."""
    own = [part for part in weights if part is not None]
    return RowSample(torch.as_tensor(np.concatenate(rows)), torch.as_tensor(np.concatenate(own)) if own else None)


def training_sample(chunk: Chunk, number: int, num_slices: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Which rows of a chunk are in sample ``number`` of the training rows ``(n,)``, and the weights of these rows.

    Args:
        chunk: rows of a pass.
        number: number of the sample; every epoch of ``num_slices`` samples has its own division.
        num_slices: samples of an epoch.
        seed: seed of the division.
    """
    epoch, slot = divmod(number, num_slices)
    position = unit_interval(place_hashes(chunk.places, stream_key(seed, ORDER, epoch)))
    is_train = chunk.part == 0
    if chunk.shares is None:
        return is_train & (np.floor(position * num_slices) == slot), None
    if num_slices == 1:  # the sample is all rows
        return is_train, chunk.shares[is_train]
    expected = chunk.shares / num_slices
    count = np.floor(expected * (slot + 1) + position) - np.floor(expected * slot + position)
    is_chosen = is_train & ((expected >= 1) | (count > 0))
    return is_chosen, np.maximum(expected, 1.0)[is_chosen]


def held_out_sample(
    chunk: Chunk, part: int, share: float, position: np.ndarray, *, has_weights: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Which rows of a chunk are in the sample of a held-out part ``(n,)``, and the weights of these rows.

    Args:
        chunk: rows of a pass.
        part: 1 for validation, 2 for test.
        share: expected share of the part in the sample.
        position: random number of each row in [0, 1), ``(n,)``.
        has_weights: whether rows are drawn by their weights, as in :func:`training_sample`.
    """
    is_part = chunk.part == part
    if chunk.shares is None or not has_weights:
        return is_part & (position < share), None
    if share >= 1:
        return is_part, chunk.shares[is_part]
    expected = chunk.shares * share
    is_chosen = is_part & (position < expected)
    return is_chosen, np.maximum(expected, 1.0)[is_chosen]


def wrapped_sum(hashes: np.ndarray) -> int:
    """Sum of 64-bit integers modulo 2^64."""
    return int(hashes.sum(dtype=np.uint64)) if len(hashes) else 0
