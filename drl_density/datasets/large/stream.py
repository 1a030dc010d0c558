"""Rows of a table larger than memory: their split, and uniform samples of the training rows, each from one pass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from drl_density.datasets.column import Column
from drl_density.datasets.large.hashing import content_hashes, mix, place_hashes, stream_key, unit_interval
from drl_density.datasets.large.source import ChunkSource, count_rows, group_hashes, rows_at_once, time_numbers
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
        content: a hash of each row's content, ``(n,)``.
    """

    values: np.ndarray
    places: np.ndarray
    part: np.ndarray
    content: np.ndarray


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
        drops_missing: whether rows with missing values are left out.
        tokens: texts that mean a missing value, in lower case.
    """

    source: ChunkSource
    columns: tuple[Column, ...]
    split: Split
    first_test_time: float = math.inf
    drops_missing: bool = False
    tokens: frozenset[str] = TOKENS

    def __iter__(self) -> Iterator[Chunk]:
        source, role = self.source, self.split.group or self.split.time
        names = [*(column.name for column in self.columns), *([] if role is None else [role])]
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
            is_kept = ~np.isnan(values).any(1) if self.drops_missing else np.ones(len(values), dtype=bool)
            values, places, part, content = values[is_kept], places[is_kept], part[is_kept], content[is_kept]
            if cells is not None and role is None:
                part[cells.first_rows(values)] = 0
            yield Chunk(values, places, part, content)

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
        self._seen = np.zeros(math.prod(map(len, self._supports)), dtype=bool)

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
        for column, support in zip(values.T, self._supports, strict=True):
            index = index * len(support) + np.searchsorted(support, np.where(np.isnan(column), support[0], column))
        found, first = np.unique(index, return_index=True)
        is_new = ~self._seen[found]
        self._seen[found] = True
        return first[is_new]


def _support(column: Column) -> np.ndarray:
    """Values of a closed support, codes of labels; empty for an open one."""
    return np.arange(len(column.categories)) * 1.0 if column.categories is not None else np.asarray(column.values)


@dataclass(frozen=True, eq=False)
class StreamedRows:
    """Training rows as successive uniform samples without replacement, each from one pass over the table.

    Every pass of an epoch takes the rows whose random number lies in another of ``num_slices`` equal intervals. So each
    sample is a uniform draw of the training rows, each row is used once in an epoch, and neither the order of the rows nor
    their division into files and row groups matters.

    Attributes:
        passes: passes over the table.
        num_rows: rows of the three parts in the whole table.
        num_slices: samples that use up the training rows once.
        checksum: sum of the hashes of all rows' contents modulo 2^64.
    """

    passes: TablePasses
    num_rows: Parts[int]
    num_slices: int
    checksum: int

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

    def sample(self, number: int, *, is_cancelled: Callable[[], bool] = lambda: False) -> Tensor:
        """Sample ``number`` of the training rows, about ``(sample_size, d)``, float64.

        Args:
            number: samples 0, 1, ... use up all training rows before any row comes again.
            is_cancelled: called between chunks; once it returns true, the pass ends with an error.

        Raises:
            DataError: a table that is no longer what it was, or a cancelled pass.
        """
        found, checksum = [], 0
        for chunk in self.passes:
            if is_cancelled():
                raise DataError(f"{self.passes.source.where}: the reading of a sample was cancelled")
            checksum += wrapped_sum(chunk.content)
            found.append(chunk.values[self.is_in_sample(chunk, number)])
        if checksum % 2**64 != self.checksum:
            raise DataError(f"{self.passes.source.where} has changed since the fit began to read it; start a new fit")
        return torch.as_tensor(np.concatenate(found))

    def is_in_sample(self, chunk: Chunk, number: int) -> np.ndarray:
        """Which rows of a chunk belong to sample ``number``."""
        return (chunk.part == 0) & in_slice(chunk.places, number, self.num_slices, self.passes.split.seed)


def in_slice(places: np.ndarray, number: int, num_slices: int, seed: int) -> np.ndarray:
    """Which rows at ``places`` are in slice ``number``; every epoch of ``num_slices`` slices has its own division."""
    epoch, slot = divmod(number, num_slices)
    position = unit_interval(place_hashes(places, stream_key(seed, ORDER, epoch)))
    return np.floor(position * num_slices) == slot


def wrapped_sum(hashes: np.ndarray) -> int:
    """Sum of 64-bit integers modulo 2^64."""
    return int(hashes.sum(dtype=np.uint64)) if len(hashes) else 0
