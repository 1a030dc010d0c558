"""The command ``predict``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from drl_density.cli.command import OnDevice, printed_seed
from drl_density.cli.tables import load_run, write_csv
from drl_density.datasets import read_rows


@dataclasses.dataclass
class Predict(OnDevice):
    """Predict one column from the others: its mean and quantiles, or the probabilities of its labels.

    Where the column has a value, its log density is written too.
    """

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run."""
    source: Annotated[str, tyro.conf.Positional]
    """Table with the columns of the fit; the predicted column may be absent, and any cell empty."""
    column: str
    """Name of the column to predict."""
    out: Path | None = None
    """CSV file to write; standard output when not given."""
    quantiles: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)
    """Probabilities of the quantiles."""
    seed: int | None = None
    """Seed of the draws of other missing values; drawn and printed when not given."""

    def run(self) -> None:
        """Predict and write."""
        density = load_run(self.run_folder, self.device)
        rows = read_rows(self.source, density.columns, missing="keep", absent=(self.column,))
        found = density.predict(rows, self.column, quantiles=self.quantiles, seed=printed_seed(self.seed))
        names, columns = [], []
        if found.probabilities is not None and found.values is not None:
            labels = found.column.categories or tuple(f"{value:g}" for value in found.values.tolist())
            best = found.probabilities.argmax(1)
            names, columns = ["most_probable"], [[labels[index] for index in best.tolist()]]
            names += [f"probability_{label}" for label in labels]
            columns += found.probabilities.T.tolist()
        else:
            names = ["mean", *(f"quantile_{level:g}" for level in found.levels)]
            columns = [found.mean.tolist(), *found.quantiles.T.tolist()]
        names += ["log_density", "log_density_lower", "log_density_upper"]
        columns += [v.tolist() for v in (found.log_density, *found.interval())]
        write_csv(self.out, names, zip(*columns, strict=True))
        known = found.log_density[~found.log_density.isnan()]
        told = (
            f", mean log density of the {len(known)} values given {float(known.mean()):.4f} nats" if len(known) else ""
        )
        print(f"{len(rows)} rows of {self.column}{told}", file=sys.stderr)
