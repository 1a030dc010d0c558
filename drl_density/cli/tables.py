"""Runs and the rows that commands judge."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from drl_density.datasets import ReadOptions, read_rows
from drl_density.density import Density, FittedModel
from drl_density.density.storage.fit_rows import load_fit_rows
from drl_density.errors import DataError


def load_run(path: Path, device: str | None = None) -> Density:
    """The density of a run on ``device``; remarks about the fit itself are printed on standard error."""
    density = Density.load(path, device=device)
    say_remarks(density)
    return density


def say_remarks(density: FittedModel, name: str = "the fit") -> None:
    """Print the remarks of a fit on standard error, so that a failed fit is not used by mistake."""
    for remark in density.remarks:
        if density.provenance.is_left_at_reference and remark == density.provenance.untrained_remark:
            print(f"note: about {name}: {remark}", file=sys.stderr)
            continue
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
