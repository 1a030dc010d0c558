"""The first pass over a table larger than memory: exact statistics, witnesses of what is rare, and a uniform sample."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from drl_density.datasets.column import Column
from drl_density.datasets.columns import notice_columns
from drl_density.datasets.grids.grid import Counts
from drl_density.datasets.large.hashing import place_hashes, stream_key, unit_interval
from drl_density.datasets.large.source import ChunkSource, count_rows, rows_at_once, weight_numbers
from drl_density.datasets.large.summary import ColumnSummary
from drl_density.datasets.tables.cells import MOST_CATEGORIES, read_cells
from drl_density.datasets.tables.meaning import TOKENS, Cells
from drl_density.datasets.tables.raw_table import RawTable, as_table, declared_labels
from drl_density.errors import DataError

Treatment = Literal["refuse", "drop", "draw"]
"""Treatment of rows with missing values."""

MOST_SAMPLED, LEAST_SAMPLED, SAMPLED_CELLS = 100_000, 5_000, 2**22
"""Rows of the sample that shows the common properties of columns: at most, at least, and cells in all."""

MOST_LABELS = 10_000
"""Labels that a column which is declared categorical may have."""

SAMPLE = 3
"""Number of the stream of random numbers that chooses the sample."""


@dataclass(frozen=True, eq=False)
class Scan:
    """What the first pass found.

    Attributes:
        columns: columns of the data set, in order.
        num_rows: rows of the table.
        num_complete: rows without a missing value.
        num_missing: missing cells.
        first_missing: name of the column and place of the first missing cell, or None.
        sample: cells of further columns at the places of the sample, by name.
        num_empty: rows without a single value.
        mean_weight: mean weight of the rows in use; None without weights.
    """

    columns: tuple[Column, ...]
    num_rows: int
    num_complete: int
    num_missing: int
    first_missing: tuple[str, int] | None
    sample: dict[str, Any]
    num_empty: int = 0
    mean_weight: float | None = None


class ColumnScan:
    """What the pass has seen of a column: exact statistics of its numbers, and cells that show everything rare.

    Args:
        name: name of the column.
        is_categorical: whether the column is declared to hold labels, whatever they look like.
    """

    def __init__(self, name: str, *, is_categorical: bool) -> None:
        self.name, self.is_categorical = name, is_categorical
        self.summary = ColumnSummary()
        self.labels: set[str] | None = set()
        self.has_problem = False
        self.pieces: list[Any] = []
        self.places: list[np.ndarray] = []

    def add(self, cells: Any, read: Cells, places: np.ndarray, is_sampled: np.ndarray) -> None:
        """Add the next cells ``(n,)``.

        Args:
            cells: cells in the order of the table.
            read: the same cells as :func:`read_cells` gives them.
            places: place of each cell in the table, counted from 0.
            is_sampled: cells that belong to the sample.
        """
        numbers = read.as_numbers()
        witnesses = set(self.summary.add(numbers.values))
        if numbers.problem is not None and not self.has_problem:
            self.has_problem = True
            witnesses.add(numbers.problem.row)
        if self.is_categorical or read.kind == "text" or read.order is not None:
            witnesses |= self._new_labels(read)
        chosen = is_sampled.copy()
        chosen[sorted(witnesses)] = True
        if chosen.any() or not self.pieces:
            self.pieces.append(cells[chosen])
            self.places.append(places[chosen])

    def _new_labels(self, read: Cells) -> set[int]:
        """Index of the first cell of each label that was not seen before; none once there are too many."""
        if self.labels is None:
            return set()
        codes, labels, _, _ = read.as_labels()
        new = [code for code, label in enumerate(labels) if label not in self.labels]
        most = MOST_LABELS if self.is_categorical else MOST_CATEGORIES
        if len(self.labels) + len(new) > most:
            if self.is_categorical:
                raise DataError(
                    f"column {self.name!r} has more than {MOST_LABELS} labels: drop it, or join rare labels"
                )
            self.labels, new = None, new[: most + 1]
        else:
            self.labels.update(labels)
        # A category that is declared and never used has no cell.
        return {int((codes == code).argmax()) for code in new if (codes == code).any()}

    def table(self, where: str, first_row: int, tokens: frozenset[str]) -> RawTable:
        """The sampled cells and the witnesses as a table of this column; its problems have places in the whole table."""
        import pandas as pd

        cells = self.pieces[0] if len(self.pieces) == 1 else pd.concat(self.pieces, ignore_index=True)
        places = np.concatenate(self.places)
        table = as_table([cells], [self.name], first_row=first_row, tokens=tokens, notes_numbers=False, where=where)
        problems = {name: problem._replace(row=int(places[problem.row])) for name, problem in table.problems.items()}
        return dataclasses.replace(table, problems=problems)

    @property
    def counts(self) -> Counts:
        """Exact counts of a column of numbers."""
        found = self.summary
        return Counts(found.num_values, found.num_distinct, found.num_least, found.num_largest)


def scan_table(
    source: ChunkSource,
    names: Sequence[str],
    *,
    declared: Mapping[str, Mapping[str, Any]],
    missing: Treatment = "refuse",
    seed: int,
    tokens: frozenset[str] = TOKENS,
    further: Sequence[str] = (),
    weights: str | None = None,
) -> Scan:
    """Reads a table once and recognises its columns.

    Whatever a rare value can change is exact: ends, signs, labels, few distinct values, grids and piles. What only common
    values decide is read from a uniform sample of rows.

    Args:
        source: the table.
        names: columns of the data set, in order.
        declared: declared properties of columns, by name.
        missing: "drop" leaves out rows with missing values, "draw" rows without a single value.
        seed: seed of the sample.
        tokens: texts that mean a missing value, in lower case.
        further: columns that are sampled too, such as the times of the rows.
        weights: name of the column of row weights, or None.

    Raises:
        DataError: no rows, or columns that cannot be used; the message names the table, column and row.
    """
    import pandas as pd

    num_rows = count_rows(source)
    most = max(LEAST_SAMPLED, min(MOST_SAMPLED, SAMPLED_CELLS // len(names)))
    share, key = most / max(1, num_rows), stream_key(seed, SAMPLE)
    scans = {name: ColumnScan(name, is_categorical=name in declared_labels(declared)) for name in names}
    beside: dict[str, list[Any]] = {name: [] for name in further}
    place = num_complete = num_missing = num_empty = 0
    total_weight = 0.0
    first_missing: tuple[str, int] | None = None
    for frame in source.chunks(
        rows_at_once(len(names)), names=[*names, *further, *([] if weights is None else [weights])]
    ):
        places = np.arange(place, place + len(frame))
        place += len(frame)
        is_sampled = unit_interval(place_hashes(places, key)) < share
        for name, pieces in beside.items():
            pieces.append(frame[name][is_sampled])
        read = {name: read_cells(frame[name], tokens=tokens) for name in names}
        is_missing = np.stack([cells.is_missing for cells in read.values()], 1)
        is_complete = ~is_missing.any(1)
        num_complete += int(is_complete.sum())
        num_missing += int(is_missing.sum())
        if first_missing is None and not is_complete.all():
            row, column = np.argwhere(is_missing)[0]
            first_missing = names[int(column)], int(places[row])
        is_empty = is_missing.all(1)
        num_empty += int(is_empty.sum())
        is_used = (
            is_complete if missing == "drop" else ~is_empty if missing == "draw" else np.ones(len(frame), dtype=bool)
        )
        if weights is not None:
            first_row = source.first_row + int(places[0]) if len(places) else source.first_row
            own = weight_numbers(frame[weights], where=source.where, first_row=first_row, tokens=tokens)
            with np.errstate(over="ignore"):  # refused below
                total_weight += float(own[is_used].sum())
        if not is_used.all():
            frame, places, is_sampled = frame[is_used], places[is_used], is_sampled[is_used]
            read = {name: read_cells(frame[name], tokens=tokens) for name in names}
        for name, scan in scans.items():
            scan.add(frame[name], read[name], places, is_sampled)
        if any(scan.labels is None and scan.has_problem for scan in scans.values()):
            break  # free text, which the table of witnesses refuses below
    if not num_complete and missing == "drop" and place:
        raise DataError(f"{source.where}: every row has a missing value; drop the columns that cause it")
    columns = _recognised(source, scans, declared, tokens)
    sample = {name: pd.concat(pieces, ignore_index=True) for name, pieces in beside.items()}
    mean_weight = None
    if weights is not None:
        mean_weight = total_weight / {"drop": num_complete, "draw": place - num_empty, "refuse": place}[missing]
        if not math.isfinite(mean_weight):
            raise DataError(
                f"{source.where}: the weights in column {weights!r} add up to more than float64 holds: scale them"
            )
    return Scan(columns, place, num_complete, num_missing, first_missing, sample, num_empty, mean_weight)


def _recognised(
    source: ChunkSource,
    scans: Mapping[str, ColumnScan],
    declared: Mapping[str, Mapping[str, Any]],
    tokens: frozenset[str],
) -> tuple[Column, ...]:
    """The columns, from their sampled cells, witnesses and exact counts."""
    values, categories, storages, counts = [], {}, {}, {}
    for name, scan in scans.items():
        table = scan.table(source.where, source.first_row, tokens).with_declared_labels(declared)
        table.refuse_problems(source.where)
        table.warn_of_guesses(source.where, stacklevel=5)
        found = table.values[:, 0]
        if np.isnan(found).all():
            raise DataError(f"{source.where}: column {name!r} has no value in any row that is used; drop it")
        values.append(found)
        categories |= table.categories
        storages |= table.storage
        if name not in table.categories:
            counts[name] = scan.counts
    longest = max(len(column) for column in values)
    padded = np.full((longest, len(values)), np.nan)
    for index, column in enumerate(values):
        padded[: len(column), index] = column
    return notice_columns(
        padded, list(scans), categories=categories, overrides=declared, storages=storages, counts=counts
    )
