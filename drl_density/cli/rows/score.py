"""The command ``score``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import torch
import tyro

from drl_density.cli.command import OnDevice
from drl_density.cli.tables import load_run, rows_of, write_csv
from drl_density.density import Density
from drl_density.density.evaluation.outlier_scores import reference_scores
from drl_density.density.fitted import dequantized_rows
from drl_density.density.reference import ReferenceScores


@dataclasses.dataclass
class Score(OnDevice):
    """Write the log density of every row of a table with its interval, p-values, strangeness and profile over levels.

    Strangeness ranks the rows: it is higher for stranger rows.
    """

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run."""
    source: Annotated[str, tyro.conf.Positional]
    """Table with the columns of the fit."""
    reference: str | None = None
    """Table whose rows the p-values rank against. When not given, the test rows of the fit, whose scores are kept in the
    run folder, or draws of the model where the fit has fewer than 20 test rows."""
    out: Path | None = None
    """CSV file to write; standard output when not given."""

    def run(self) -> None:
        """Score and write."""
        density = load_run(self.run_folder, self.device)
        rows = rows_of(density, self.source)
        scores = density.outlier_scores(rows, reference=self._reference(density), seed=0)
        lower, upper = scores.interval()
        columns = {
            "log_density": scores.log_density,
            "log_density_lower": lower,
            "log_density_upper": upper,
            "p_value": scores.p_value,
            "typicality_p_value": scores.typicality_p_value,
            "strangeness": scores.strangeness,
        }
        header = [*columns, *(f"level_{level}" for level in range(scores.profile.shape[1]))]
        write_csv(self.out, header, torch.cat([torch.stack(list(columns.values()), 1), scores.profile], 1).tolist())
        log_density = scores.log_density
        estimate = density.estimate
        print(
            f"{len(rows)} rows, mean {float(log_density.mean()):.4f} nats "
            f"(log Z error {estimate.standard_error:.4f}, verdict {estimate.verdict}); p-values against {scores.reference}",
            file=sys.stderr,
        )

    def _reference(self, density: Density) -> ReferenceScores | None:
        """Scores of the rows to rank against; None for those that are kept with the fit."""
        if self.reference is None:
            return None
        generator = torch.Generator().manual_seed(0)
        rows = dequantized_rows(density, rows_of(density, self.reference), generator=generator)[0]
        return reference_scores(density, rows, words=f"{len(rows)} rows of {self.reference}", seed=0)
