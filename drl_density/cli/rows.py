"""Commands on rows: ``sample``, ``score`` and ``impute``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from drl_density.cli.tables import as_written, rows_of, write_csv
from drl_density.datasets import read_rows
from drl_density.density import Density
from drl_density.errors import DataError


@dataclasses.dataclass
class Sample:
    """Draw rows from a fitted density and write them as CSV."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    """Rows to draw."""
    seed: int = 0
    """Of the draws."""
    out: Path | None = None
    """CSV file; standard output when not given."""

    def run(self) -> None:
        """Draw and write."""
        if self.n < 1:
            raise DataError(f"-n must be at least 1, got {self.n}")
        density = Density.load(self.run_folder)
        result = density.run(self.n, generator=torch.Generator().manual_seed(self.seed))
        rows = result.draws.reshape(self.n, -1).numpy()
        rows = as_written(rows, density)
        write_csv(self.out, [column.name for column in density.columns], rows)
        print(f"{self.n} draws, mean acceptance {result.acceptance_rate:.2f}", file=sys.stderr)


@dataclasses.dataclass
class Score:
    """Write the normalised log density of every row of a table with its interval, and p-values against the model."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run."""
    source: Annotated[str, tyro.conf.Positional]
    """Table with the columns of the fit."""
    out: Path | None = None
    """CSV file; standard output when not given."""

    def run(self) -> None:
        """Score and write."""
        density = Density.load(self.run_folder)
        rows = rows_of(density, self.source)
        scores = density.outlier_scores(rows)
        names = ["log_density", "log_density_lower", "log_density_upper", "p_value", "typicality_p_value"]
        write_csv(self.out, names, np.stack([scores[name].values for name in names], 1))
        log_density = scores["log_density"]
        estimate = density.estimate
        print(
            f"{len(rows)} rows, mean {float(log_density.mean()):.4f} nats "
            f"(log Z error {estimate.standard_error:.4f}, verdict {estimate.verdict})",
            file=sys.stderr,
        )


@dataclasses.dataclass
class Impute:
    """Fill the holes of a table by draws given each row's own observed cells; several imputations, and diagnostics."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run."""
    source: Annotated[str, tyro.conf.Positional]
    """Table with the columns of the fit; empty or NaN cells are holes."""
    out: Path = Path("imputed.csv")
    """CSV file; diagnostics go beside it as NAME.diagnostics.csv."""
    m: Annotated[int, tyro.conf.arg(aliases=["-m"])] = 20
    """Imputations."""
    seed: int = 0
    """Of the draws."""

    def run(self) -> None:
        """Impute and write."""
        density = Density.load(self.run_folder)
        rows = read_rows(self.source, density.columns, missing="keep")
        found = density.impute(rows, num_imputations=self.m, seed=self.seed)
        names = [column.name for column in density.columns]
        observed = as_written(torch.where(rows.isnan(), 0.0, rows).numpy(), density, on_grid=False)
        written = []
        for index, completed in enumerate(found.rows):
            drawn = as_written(completed.numpy(), density)
            for row, holes in enumerate(found.is_missing.tolist()):
                cells = [new if hole else old for new, old, hole in zip(drawn[row], observed[row], holes, strict=True)]
                written.append([index, row, *cells])
        write_csv(self.out, ["imputation", "row", *names], written)
        figures = [found.is_missing.sum(1), found.least_ess, found.acceptance_rate, found.r_hat]
        diagnostics = [[row, *values] for row, values in enumerate(zip(*(f.tolist() for f in figures), strict=True))]
        path = self.out.with_suffix(".diagnostics.csv")
        write_csv(path, ["row", "num_missing", "least_ess_share", "acceptance_rate", "r_hat"], diagnostics)
        slow = int((found.r_hat > 1.1).sum())
        print(f"{self.m} imputations of {len(rows)} rows in {self.out}, diagnostics in {path}")
        print(f"{int(found.is_missing.sum())} cells filled; R-hat above 1.1 in {slow} rows", file=sys.stderr)
