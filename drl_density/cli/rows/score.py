"""The command ``score``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from drl_density.cli.output import summary
from drl_density.cli.rows.command import OnTable
from drl_density.cli.rows.row_groups import Finished, TableGroup
from drl_density.cli.tables import load_run
from drl_density.records.intervals import normal_interval

ROWS_AT_ONCE = 65_536
"""Rows of a group; about 100 MB with 20 columns."""
NAMES = ("log_density", "log_density_lower", "log_density_upper")


@dataclasses.dataclass
class Score(OnTable):
    """Write the log density of each row of a table, with an interval from the error of log Z.

    The interval has the same width for all rows. ``outliers`` adds p-values and scores by noise level.
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run."""
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TABLE")]
    """Table with the columns of the fit, or - for standard input."""
    incomplete: Literal["refuse", "nan"] = "refuse"
    """Rows with missing values: refuse the table before anything is written, or leave their score empty."""

    def run(self) -> None:
        """Score and write."""
        import pandas as pd

        density = load_run(self.run_folder, self.device)
        table = self.open_source(self.source, density, missing="refuse" if self.incomplete == "refuse" else "keep")
        table.say_renamed(NAMES, self.columns)

        def work(group: TableGroup) -> Finished:
            coded = table.encode(group)
            values = density.log_prob(coded)
            parts = (values, *normal_interval(values, density.estimate.standard_error))
            ours = pd.DataFrame({name: part.numpy() for name, part in zip(NAMES, parts, strict=True)})
            inside = values[values.isfinite()]
            gaps = int(coded.isnan().any(1).sum())
            figures = {"rows": len(values), "inside": len(inside), "gaps": gaps, "sum": float(inside.sum())}
            return Finished({"rows": table.beside(group.frame, ours, self.columns)}, figures)

        figures = self.written_for(table, ROWS_AT_ONCE, work, run=self.run_folder)
        names = ("rows", "inside", "gaps", "sum")
        rows, inside, gaps, total = (sum(each[name] for each in figures) for name in names)
        estimate, num_outside = density.estimate, rows - inside - gaps
        outside = f", {num_outside} rows outside the bounds" if num_outside else ""
        outside += f", {gaps} rows with missing values, which have no score" if gaps else ""
        mean = f", mean {total / inside:.4f} nats" if inside else ""
        text = f"{rows} rows{mean} (log Z error {estimate.standard_error:.4f}, verdict {estimate.verdict}){outside}"
        values = {"rows": rows, "rows_outside": num_outside, "rows_incomplete": gaps}
        values |= {"mean_log_density": total / inside if inside else None}
        values |= {"log_z_standard_error": estimate.standard_error, "verdict": estimate.verdict, "out": self.out}
        summary(text, values)
