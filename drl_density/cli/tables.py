"""Runs and the rows that commands judge."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from drl_density.cli.output import complain, note
from drl_density.datasets import ReadOptions, read_rows
from drl_density.density import Density, Diagnosis, FittedModel, LikelihoodReport
from drl_density.density.storage.fit_rows import load_fit_rows
from drl_density.errors import DataError, see
from drl_density.weights import LogPartitionEstimate


def load_run(path: Path, device: str | None = None) -> Density:
    """The density of a run on ``device``; remarks about the fit itself are printed on standard error."""
    density = Density.load(path, device=device)
    say_remarks(density)
    return density


def estimate_values(estimate: LogPartitionEstimate) -> dict[str, Any]:
    """Figures of an estimate of log Z by name."""
    lower, upper = estimate.interval()
    values = {"log_z": estimate.log_z, "log_z_standard_error": estimate.standard_error}
    return values | {"log_z_lower": lower, "log_z_upper": upper, "verdict": estimate.verdict, "advice": estimate.advice}


def density_values(density: FittedModel) -> dict[str, Any]:
    """Figures of a fit by name: its likelihood beside the references, its stages, and log Z."""
    base, provenance = density.baselines, density.provenance
    values = {"name": provenance.name, "seed": provenance.seed, "columns": [column.name for column in density.columns]}
    values |= {f"validation_{name}": part for name, part in dataclasses.asdict(base).items()}
    values["stages"] = [dataclasses.asdict(stage) for stage in provenance.stages]
    return values | estimate_values(density.estimate) | {"remarks": list(density.remarks)}


def report_values(report: LikelihoodReport) -> dict[str, Any]:
    """Figures of a likelihood report by name."""
    names = (
        "num_rows",
        "mean_log_likelihood",
        "mean_log_likelihood_lower",
        "mean_log_likelihood_upper",
        "sampling_error",
    )
    names += ("log_z", "log_z_lower", "log_z_upper", "verdict", "advice", "bits_per_dim", "scheme")
    values: dict[str, Any] = {name: getattr(report, name) for name in names}
    gain = report.gain_over_reference
    if gain is not None:
        values |= {"gain_over_reference": gain.log_z, "gain_standard_error": gain.standard_error}
    values["estimates"] = {
        name.value: {"log_z": found.log_z, "standard_error": found.standard_error}
        for name, found in report.estimates.items()
    }
    return values


def diagnosis_values(diagnosis: Diagnosis) -> dict[str, Any]:
    """Figures of long chains by name."""
    return {"target": diagnosis.target, **{str(name): value for name, value in diagnosis.tree.attrs.items()}}


def say_remarks(density: FittedModel, name: str = "the fit") -> None:
    """Print the remarks of a fit on standard error, so that a failed fit is not used by mistake."""
    for remark in density.remarks:
        if density.provenance.is_left_at_reference and remark == density.provenance.untrained_remark:
            note(f"note: about {name}: {remark}")
            continue
        complain(f"FAILURE: about {name}: {remark}; {see('When a fit fails')}")


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
            note(f"note: {len(rows) - len(complete)} of {len(rows)} test rows have missing values and are left out")
        return complete
    return read_rows(source, density.columns, reading=reading)


def complete_rows(rows: torch.Tensor) -> torch.Tensor:
    """Rows without NaN."""
    return rows if not rows.is_floating_point() else rows[~rows.isnan().any(1)]
