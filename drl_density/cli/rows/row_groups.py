"""Runs a command over row groups with bounded memory, a progress line, and finished groups kept for ``--resume``.

A row group is a fixed number of rows, whatever the table is read or written in. Its random numbers follow from the seed and
the group's number alone. So results are equal whether a command was interrupted or not.
"""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from drl_density.cli.output import complain, note
from drl_density.cli.rows.part_folder import PartFolder
from drl_density.datasets.tables.writing import TableWriter
from drl_density.errors import DataError, DRLDensityWarning

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["Finished", "PlacedError", "RowGroup", "TableGroup", "group_seed", "numbered_groups", "run_row_groups"]

EVERY = 5.0
"""Seconds between lines of progress where standard error is no terminal, and before the first one."""
OFTEN = 0.2
"""Seconds between updates of the line of progress on a terminal."""


@dataclass(frozen=True)
class RowGroup:
    """Consecutive rows that are computed together.

    Attributes:
        index: number of the group, from 0.
        first_row: number of its first row, from 0.
        num_rows: number of its rows.
    """

    index: int
    first_row: int
    num_rows: int


@dataclass(frozen=True)
class TableGroup(RowGroup):
    """A row group of a table.

    Attributes:
        frame: its rows as they were read.
    """

    frame: pd.DataFrame


Group = TypeVar("Group", bound=RowGroup)


@dataclass(frozen=True)
class Finished:
    """What was made of a row group.

    Attributes:
        tables: rows to write, by output.
        figures: numbers about the group that JSON can hold.
    """

    tables: Mapping[str, pd.DataFrame]
    figures: Mapping[str, Any] = field(default_factory=dict)


def group_seed(seed: int, index: int) -> int:
    """The seed of a row group: ``seed`` itself for the first, and an independent one for every other.

    >>> group_seed(7, 0), group_seed(7, 1) == group_seed(7, 1) != group_seed(7, 2)
    (7, True)
    """
    return seed if index == 0 else int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0] >> 1)


def numbered_groups(num_rows: int, size: int) -> Iterator[RowGroup]:
    """Groups of ``size`` rows of no table, such as draws; one empty group where there are no rows.

    >>> [(group.first_row, group.num_rows) for group in numbered_groups(5, 2)]
    [(0, 2), (2, 2), (4, 1)]
    """
    for index, first in enumerate(range(0, max(num_rows, 1), size)):
        yield RowGroup(index, first, min(size, num_rows - first))


def run_row_groups(
    groups: Iterable[Group],
    work: Callable[[Group], Finished],
    *,
    outputs: Mapping[str, Path | None],
    parts: PartFolder | None,
    schemas: Mapping[str, pa.Schema | None] | None = None,
    total: int | None = None,
    resume: bool = False,
) -> list[Mapping[str, Any]]:
    """Work on every row group and write what comes out; returns the figures of all groups.

    Args:
        groups: groups in order, at least one.
        work: makes rows of a group.
        outputs: where the rows go, by name; None or "-" for standard output.
        parts: folder of finished groups; None to write at once, which cannot be continued.
        schemas: Arrow schema that the rows of an output come from, for Parquet.
        total: number of rows, where it is known.
        resume: whether to continue behind the finished groups.

    Raises:
        DataError: a fault in a group, with its rows; finished groups without ``resume``.
        RunFolderError: the disk is full.
    """
    if parts is None:
        if resume:
            raise DataError("rows on standard output cannot be continued: --resume needs --out with the name of a file")
        with _closing(groups):
            return _stream(groups, work, outputs, schemas or {}, total)
    parts.open(resume=resume)
    try:
        if resume:
            kept = f"{parts.num_finished} row groups are finished" if parts.num_finished else "no row group was finished"
            note(f"resuming: {kept}")
        with _closing(groups), Progress(total) as progress, _few_notes():
            for group in groups:
                if group.index < parts.num_finished:
                    progress.skip(group.num_rows)
                    continue
                done = _worked(work, group)
                parts.add(done.tables, done.figures, schemas or {})
                progress.add(group.num_rows)
        parts.join()
    except BaseException as error:  # an interruption by the keyboard keeps the finished groups, and releases the lock
        parts.close(is_hopeless=isinstance(error, DataError))
        if not isinstance(error, KeyboardInterrupt | DataError) and parts.advice():
            complain(f"note: {parts.advice().removeprefix('; ')}")
        raise
    return list(parts.figures)


def _stream(
    groups: Iterable[Group],
    work: Callable[[Group], Finished],
    outputs: Mapping[str, Path | None],
    schemas: Mapping[str, pa.Schema | None],
    total: int | None,
) -> list[Mapping[str, Any]]:
    figures = []
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(total))
        stack.enter_context(_few_notes())
        writers = {
            name: stack.enter_context(TableWriter(target, schema=schemas.get(name))) for name, target in outputs.items()
        }
        for group in groups:
            done = _worked(work, group)
            for name, writer in writers.items():
                writer.append(done.tables[name])
            figures.append(done.figures)
            progress.add(group.num_rows)
    return figures


def _worked(work: Callable[[Group], Finished], group: Group) -> Finished:
    """The work on a group; a fault names the rows of the group, since rows in it are counted from its own first one."""
    try:
        return work(group)
    except PlacedError:
        raise
    except DataError as error:
        if not group.first_row:
            raise
        last = group.first_row + group.num_rows - 1
        raise DataError(f"in rows {group.first_row} to {last}, counted from the first of them: {error}") from error


class PlacedError(DataError):
    """A fault in a table whose message names the row within the whole table."""


class Progress:
    """A line on standard error with the rows done, their rate and the time left; lines in a log are few.

    Args:
        total: number of rows, where it is known.

    >>> with Progress(10) as progress:
    ...     progress.add(4)
    >>> progress.words()[:12]
    '4 of 10 rows'
    """

    def __init__(self, total: int | None) -> None:
        self.total, self.done, self.skipped = total, 0, 0
        self.is_terminal = bool(getattr(sys.stderr, "isatty", lambda: False)())
        self.started = self.shown = time.monotonic()
        self.has_line = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.has_line and self.is_terminal:
            note(f"\r{self.words()}\x1b[K")

    def skip(self, num_rows: int) -> None:
        """Count rows that were finished before, which say nothing about the rate."""
        self.done += num_rows
        self.skipped += num_rows

    def add(self, num_rows: int) -> None:
        """Count finished rows, and show the line where it is time."""
        self.done += num_rows
        now = time.monotonic()
        if now - self.shown < (OFTEN if self.is_terminal else EVERY):
            return
        self.shown, self.has_line = now, True
        if self.is_terminal:
            note(f"\r{self.words()}\x1b[K", end="")
        else:
            note(self.words())

    def words(self) -> str:
        """The line of progress."""
        rate = (self.done - self.skipped) / max(time.monotonic() - self.started, 1e-9)
        shown = f"{self.done:,} rows" if self.total is None else f"{self.done:,} of {self.total:,} rows"
        shown += f", {rate:,.0f} rows/s"
        if self.total is not None and rate > 0 and self.done < self.total:
            shown += f", {_duration((self.total - self.done) / rate)} left"
        return shown


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _closing(groups: Iterable[Group]) -> contextlib.AbstractContextManager[Any]:
    """Ends the reading of a table with the work on it, also after a failure."""
    return contextlib.closing(groups) if isinstance(groups, Generator) else contextlib.nullcontext()


@contextlib.contextmanager
def _few_notes() -> Iterator[None]:
    """Show the first of several notes that come from one place of the code, and count the others."""
    shown: dict[tuple[str, int], int] = {}
    with warnings.catch_warnings():
        plain = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any, **more: Any
        ) -> None:
            if not issubclass(category, DRLDensityWarning):
                plain(message, category, filename, lineno, *rest, **more)
                return
            place = (filename, lineno)
            shown[place] = shown.get(place, 0) + 1
            if shown[place] == 1:
                plain(message, category, filename, lineno, *rest, **more)

        warnings.showwarning = show
        yield
    more = sum(shown.values()) - len(shown)
    if more:
        note(f"note: {more} more notes like the ones above")
