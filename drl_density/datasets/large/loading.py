"""Loads a table larger than memory: its columns, exact counts, and uniform samples of the rows of each part."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drl_density.datasets.dataset import Dataset, RowSample
from drl_density.datasets.large.dask_table import DaskTable, is_dask_frame
from drl_density.datasets.large.hashing import place_hashes, stream_key, unit_interval
from drl_density.datasets.large.scan import Scan, Treatment, scan_table
from drl_density.datasets.large.source import ChunkSource, count_rows, time_numbers
from drl_density.datasets.large.stream import (
    StreamedRows,
    TablePasses,
    held_out_sample,
    row_sample,
    training_sample,
    wrapped_sum,
)
from drl_density.datasets.splits import Parts, Split
from drl_density.datasets.tables.chunks import is_table, open_table, suffix_of
from drl_density.datasets.tables.meaning import TOKENS
from drl_density.datasets.tables.parquet import PARQUET_SUFFIXES
from drl_density.datasets.tables.reading import ReadOptions
from drl_density.errors import DataError, DataWarning, see

LARGEST_IN_MEMORY = 2**26
"""Cells of a table that is loaded whole by default: half a gibibyte of numbers."""

LARGEST_TEXT = 2**28
"""Bytes of a text file, compressed or not, above which its rows are counted first: a cell takes at least two."""

MOST_SAMPLE_ROWS, SAMPLE_CELLS = 1_000_000, 2**25
"""Rows of one sample of a larger table, and cells: a quarter of a gibibyte of numbers."""

HELD_OUT_SHARE = 0.1
"""Most validation rows and most test rows in memory, as a share of the rows of a sample."""

HELD_OUT = 2
"""Number of the stream of random numbers that chooses the validation and test rows in memory."""


def most_rows(num_columns: int, max_rows_in_memory: int | None) -> int:
    """Rows of a table of that many columns up to which it is loaded whole.

    Args:
        num_columns: columns of the table.
        max_rows_in_memory: the user's limit, or None for :data:`LARGEST_IN_MEMORY` cells.

    Raises:
        DataError: a limit that leaves no room for a fit.
    """
    if max_rows_in_memory is None:
        return LARGEST_IN_MEMORY // max(1, num_columns)
    if max_rows_in_memory < 100:
        raise DataError(f"max_rows_in_memory must be at least 100, got {max_rows_in_memory}")
    return max_rows_in_memory


class LargeTable(NamedTuple):
    """A table that is read in chunks.

    Attributes:
        source: the table.
        name: short name that reports show.
        path: path from which it can be loaded again, or "".
        tokens: texts that mean a missing value, in lower case.
    """

    source: ChunkSource
    name: str
    path: str
    tokens: frozenset[str] = TOKENS


def large_table(
    source: Any,
    *,
    reading: ReadOptions | None = None,
    labels: Sequence[str] = (),
    max_rows_in_memory: int | None = None,
) -> LargeTable | None:
    """The table behind ``source`` if it is to be read in chunks; None for anything that is loaded whole.

    Parquet files, folders of them, Dask DataFrames and text files can be read in chunks. They are if they have more than
    ``max_rows_in_memory`` rows, or by default more than :data:`LARGEST_IN_MEMORY` cells. The rows of a text file are
    counted if it has more than :data:`LARGEST_TEXT` bytes, or if ``max_rows_in_memory`` is given.

    Args:
        source: anything that :func:`~drl_density.datasets.load_dataset` takes.
        reading: options of reading.
        labels: names of columns whose cells are texts, whatever they look like.
        max_rows_in_memory: rows up to which a table is loaded whole.
    """
    if is_dask_frame(source):
        table: ChunkSource = DaskTable(source)
        is_larger = count_rows(table) > most_rows(len(table.names), max_rows_in_memory)
        return LargeTable(table, "table", "") if is_larger else None
    if not isinstance(source, str | os.PathLike) or not _is_chunked(Path(source), max_rows_in_memory):
        return None
    with warnings.catch_warnings(record=True) as notes:  # a table that is loaded whole gives its notes then
        warnings.simplefilter("always")
        table = open_table(source, reading=reading, labels=labels)
        num_rows = count_rows(table)
    if num_rows <= most_rows(len(table.names), max_rows_in_memory):
        return None
    for note in notes:
        warnings.warn(note.message, stacklevel=4)
    path = os.fspath(source)
    tokens = (reading or ReadOptions()).tokens
    return LargeTable(table, Path(path).stem, path, tokens)


def _is_chunked(path: Path, max_rows_in_memory: int | None) -> bool:
    """Whether ``path`` is a table that can be read in chunks and may be too large to be loaded whole."""
    if not (path.is_file() or path.is_dir()) or not is_table(path):
        return False
    is_counted = path.is_dir() or suffix_of(path) in PARQUET_SUFFIXES
    return is_counted or max_rows_in_memory is not None or path.stat().st_size > LARGEST_TEXT


def load_large(
    table: LargeTable,
    *,
    split: Split,
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    drop: Sequence[str] = (),
    missing: Treatment = "refuse",
    max_rows_in_memory: int | None = None,
) -> Dataset:
    """Loads a table in two passes over it; see :func:`~drl_density.datasets.load_dataset`.

    Args:
        table: the table.
        split: shares of the parts, the seed, and the columns that group or order the rows.
        columns: declared properties of columns.
        drop: names of columns to leave out.
        missing: treatment of rows with missing values: "refuse" them, "drop" them, or "draw" the values while fitting.
        max_rows_in_memory: rows of a sample; by default a million, or fewer in wide tables.

    Raises:
        DataError: data that cannot be used, or row weights together with missing values that are drawn.
    """
    source, name, path, tokens = table
    names, further = _chosen(source, split, drop)
    scan = scan_table(
        source,
        names,
        declared=columns or {},
        missing=missing,
        seed=split.seed,
        tokens=tokens,
        further=further if split.time is not None else (),
        weights=split.weights,
    )
    _check_missing(source, scan, missing, split)
    first_test_time = _first_test_time(source, scan, split)
    passes = TablePasses(source, scan.columns, split, first_test_time, missing, tokens, scan.mean_weight or 1.0)
    most = max_rows_in_memory or min(MOST_SAMPLE_ROWS, max(1000, SAMPLE_CELLS // len(names)))
    num_used = scan.num_complete if missing == "drop" else scan.num_rows - scan.num_empty
    has_missing = missing == "draw" and scan.first_missing is not None
    (train, validation, test), stream = _first_samples(passes, num_used, most, has_missing=has_missing)
    for column in scan.columns:
        if column.kind == "categorical":
            warnings.warn(
                f"column {column.name!r} has labels; they are coded 0, 1, ... in the order {column.first_labels}, which the "
                "density treats as an order, unless a tilt learns each label by itself",
                DataWarning,
                stacklevel=4,
            )
    return Dataset(
        name=name,
        train=train.rows,
        validation=validation.rows,
        test=test.rows,
        columns=scan.columns,
        event_shape=(len(scan.columns),),
        weights=train.weights,
        source=path,
        validation_weights=validation.weights,
        stream=stream,
    )


def _chosen(source: ChunkSource, split: Split, drop: Sequence[str]) -> tuple[list[str], list[str]]:
    """(names of the columns to model, of those to split by)."""
    where = source.where
    unknown = [column for column in drop if column not in source.names]
    if unknown:
        raise DataError(f"{where}: cannot drop {', '.join(unknown)}; columns are {', '.join(source.names)}")
    further = [column for column in (split.group, split.time) if column is not None]
    aside = [*further, *([] if split.weights is None else [split.weights])]
    lacking = [column for column in aside if column not in source.names]
    if lacking:
        raise DataError(
            f"{where}: there is no column {', '.join(lacking)} to split or weigh by; columns are {', '.join(source.names)}"
        )
    names = [column for column in source.names if column not in {*drop, *aside}]
    if not names:
        raise DataError("every column was dropped; keep at least one")
    return names, further


def _check_missing(source: ChunkSource, scan: Scan, missing: Treatment, split: Split) -> None:
    if scan.first_missing is None:
        return
    if missing == "draw":
        if split.weights is not None:
            raise DataError('row weights and missing="draw" cannot be combined yet; drop the rows with missing="drop"')
        if scan.num_empty:
            warnings.warn(f"left out {scan.num_empty} rows without a single value", DataWarning, stacklevel=5)
        return
    num_incomplete = scan.num_rows - scan.num_complete
    if missing == "drop":
        warnings.warn(
            f"dropped {num_incomplete} of {scan.num_rows} rows with missing values; the density is that of complete rows",
            DataWarning,
            stacklevel=5,
        )
        return
    column, place = scan.first_missing
    raise DataError(
        f"{source.where}: {scan.num_missing} cells in {num_incomplete} rows are missing, the first in column {column!r}, "
        f'row {source.first_row + place}. Choose: drop those rows with missing="drop" (--missing drop), or have the '
        'missing cells drawn from the model while it is fitted with missing="draw" (--missing draw), which assumes that '
        "the reason may depend on observed cells alone; "
        + see("Questions and answers", "How are missing values and labels treated?")
    )


def _first_test_time(source: ChunkSource, scan: Scan, split: Split) -> float:
    """The time from which on rows belong to the test, from the sample of the first pass."""
    if split.time is None:
        return math.inf
    times = np.sort(time_numbers(scan.sample[split.time], where=source.where, first_row=source.first_row))
    return float(times[len(times) - max(1, round(split.test * len(times)))])


def _first_samples(
    passes: TablePasses, num_rows: int, most: int, *, has_missing: bool
) -> tuple[list[RowSample], StreamedRows]:
    """Sample 0 of the training rows, samples of the validation and test rows, and the stream of further samples."""
    split = passes.split
    num_slices = max(1, math.ceil(num_rows * (1 - split.validation - split.test) / most))
    key = stream_key(split.seed, HELD_OUT)
    shares = [HELD_OUT_SHARE * most / max(1.0, num_rows * share) for share in (split.validation, split.test)]
    rows: tuple[list[np.ndarray], ...] = ([], [], [])
    weights: tuple[list[np.ndarray | None], ...] = ([], [], [])
    counts, checksum = np.zeros(3, dtype=np.int64), 0
    for chunk in passes:
        counts += np.bincount(chunk.part, minlength=3)
        checksum += wrapped_sum(chunk.content)
        position = unit_interval(place_hashes(chunk.places, key))
        chosen = [
            training_sample(chunk, 0, num_slices, split.seed),
            held_out_sample(chunk, 1, shares[0], position, has_weights=True),
            held_out_sample(chunk, 2, shares[1], position, has_weights=False),
        ]
        for part, (is_chosen, own) in enumerate(chosen):
            rows[part].append(chunk.values[is_chosen])
            weights[part].append(own)
    found = [row_sample(*part) for part in zip(rows, weights, strict=True)]
    sizes = [len(part.rows) for part in found]
    if not sizes[0] or not sizes[1] or (split.test and not sizes[2]):
        what = "the groups" if split.group else "the rows"
        raise DataError(
            f"{passes.source.where}: {what} cannot be split: {counts[0]} training, {counts[1]} validation and {counts[2]} "
            "test rows; give another seed, other shares, or a column with more groups"
        )
    stream = StreamedRows(passes, Parts(*counts.tolist()), num_slices, checksum % 2**64, has_missing)
    return found, stream
