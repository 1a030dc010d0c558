"""Tables in and out of the command line."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drl_density.datasets import Column, ReadOptions, read_rows
from drl_density.density import Density, FittedModel
from drl_density.density.storage.fit_rows import load_fit_rows
from drl_density.errors import DataError
from drl_density.run_folder import write_whole


def load_run(path: Path, device: str | None = None) -> Density:
    """The density of a run on ``device``; remarks about the fit itself are printed on standard error."""
    density = Density.load(path, device=device)
    say_remarks(density)
    return density


def say_remarks(density: FittedModel, name: str = "the fit") -> None:
    """Print the remarks of a fit on standard error, so that nobody uses a failed fit unawares."""
    for remark in density.remarks:
        print(f"FAILURE: about {name}: {remark}; see docs/when_a_fit_fails.md", file=sys.stderr)


def rows_of(density: Density, source: str | None, reading: ReadOptions | None = None) -> torch.Tensor:
    """Rows of a table in the columns of the fit, or the complete test rows of the fit when ``source`` is None.

    Raises:
        DataError: No complete test row, or rows that cannot be loaded again or have changed since the fit.
    """
    if source is None:
        rows = load_fit_rows(density.provenance).test
        complete = complete_rows(rows)
        if not len(complete):
            raise DataError("every test row of the fit has a missing value; give a table of complete rows")
        if len(complete) < len(rows):
            print(
                f"note: {len(rows) - len(complete)} of {len(rows)} test rows have missing values and are left out",
                file=sys.stderr,
            )
        return complete
    return read_rows(source, density.columns, reading=reading)


def complete_rows(rows: torch.Tensor) -> torch.Tensor:
    """Rows without NaN."""
    return rows if not rows.is_floating_point() else rows[~rows.isnan().any(1)]


def as_written(rows: np.ndarray, columns: Sequence[Column], *, on_grid: bool = True) -> list[list[Any]]:
    """Rows as they are written to a table: labels for codes, and rounded columns on their grid if ``on_grid``."""
    written = []
    for index, column in enumerate(columns):
        values = rows[:, index]
        if column.categories is not None:
            written.append([column.categories[int(code)] for code in column.on_support(values)])
        elif column.width and on_grid:
            written.append(column.on_support(values).tolist())
        else:
            written.append(values.tolist())
    return [list(row) for row in zip(*written, strict=True)]


def write_csv(path: Path | None, names: list[str], rows: Any) -> None:
    """Write a header and rows as CSV with LF ends, whole or not at all; to standard output without a path."""
    if path is None:
        csv.writer(sys.stdout, lineterminator="\n").writerows([names, *rows])
        return

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows([names, *rows])

    write_whole(path, write)
