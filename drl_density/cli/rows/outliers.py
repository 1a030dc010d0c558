"""The command ``outliers``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import torch
import tyro

from drl_density.cli.output import summary
from drl_density.cli.rows.command import OnTable
from drl_density.cli.rows.row_groups import Finished, TableGroup
from drl_density.cli.rows.source import TableSource
from drl_density.cli.tables import load_run
from drl_density.density import Density
from drl_density.density.evaluation.outlier_scores import reference_scores
from drl_density.density.fitted import dequantized_rows
from drl_density.density.reference import ReferenceScores

ROWS_AT_ONCE = 16_384
"""Rows of a group, whose noised copies are scored at every level."""


@dataclasses.dataclass
class Outliers(OnTable):
    """Write how unusual each row of a table is: log density, p-values, strangeness, and scores by noise level.

    Rank rows by strangeness, which is higher for stranger rows. If you need the log density alone, ``score`` is faster.
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run."""
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TABLE")]
    """Table with the columns of the fit, or - for standard input."""
    reference: str | None = None
    """Table of normal rows for the p-values. By default the test rows of the fit, or draws if there are fewer than 20."""

    def run(self) -> None:
        """Score and write."""
        import pandas as pd

        density = load_run(self.run_folder, self.device)
        also = [] if self.reference is None else [self.reference]
        table = self.open_source(self.source, density, also=also)
        levels = [f"level_{level}" for level in range(density.model.num_levels)]
        names = [
            "log_density",
            "log_density_lower",
            "log_density_upper",
            "p_value",
            "typicality_p_value",
            "strangeness",
        ]
        table.say_renamed([*names, *levels], self.columns)
        known, identity = self._reference(density)

        def work(group: TableGroup) -> Finished:
            rows = table.encode(group)
            if not len(rows):
                ours = pd.DataFrame({name: pd.Series(dtype=float) for name in [*names, *levels]})
                return Finished({"rows": table.beside(group.frame, ours, self.columns)}, {"rows": 0, "rare": 0})
            scores = density.outlier_scores(rows, reference=known)
            parts = (
                scores.log_density,
                *scores.interval(),
                scores.p_value,
                scores.typicality_p_value,
                scores.strangeness,
            )
            values = torch.cat([torch.stack(parts, 1), scores.profile], 1)
            ours = pd.DataFrame(values.numpy(), columns=[*names, *levels])
            figures = {"rows": len(values), "rare": int((scores.p_value < 0.01).sum())}
            return Finished({"rows": table.beside(group.frame, ours, self.columns)}, figures)

        figures = self.written_for(table, ROWS_AT_ONCE, work, run=self.run_folder, job=identity)
        rows, rare = (sum(each[name] for each in figures) for name in ("rows", "rare"))
        summary(
            f"{rows} rows, {rare} of them with a p-value below 0.01, against {known.words}",
            {"rows": rows, "rows_with_p_below_0.01": rare, "reference": known.words, "out": self.out},
        )

    def _reference(self, density: Density) -> tuple[ReferenceScores, dict[str, object]]:
        """Scores of the rows to rank against, and values that change where the rows do."""
        if self.reference is None:
            return reference_scores(density), {}
        table = TableSource(self.reference, density.columns, reading=self.reading_for(density))
        rows = torch.cat([table.encode(group) for group in table.groups(ROWS_AT_ONCE)])
        known = dequantized_rows(density, rows, generator=torch.Generator().manual_seed(0))[0]
        found = reference_scores(density, known, words=f"{len(known)} rows of {self.reference}")
        return found, {f"reference: {name}": value for name, value in table.identity().items()}
