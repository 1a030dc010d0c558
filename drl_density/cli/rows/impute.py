"""The command ``impute``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import torch
import tyro

from drl_density.cli.command import OnDevice, printed_seed
from drl_density.cli.tables import as_written, load_run, write_csv
from drl_density.datasets import read_rows


@dataclasses.dataclass
class Impute(OnDevice):
    """Fill the missing values of a table by draws given each row's observed values; writes several imputations."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run."""
    source: Annotated[str, tyro.conf.Positional]
    """Table with the columns of the fit; empty and NaN cells are missing values."""
    out: Path = Path("imputed.csv")
    """CSV file to write; diagnostics go into NAME.diagnostics.csv in the same folder."""
    num_samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 20
    """Number of imputations."""
    seed: int | None = None
    """Seed of the draws; drawn and printed when not given."""

    def run(self) -> None:
        """Impute and write."""
        density = load_run(self.run_folder, self.device)
        rows = read_rows(self.source, density.columns, missing="keep")
        found = density.impute(rows, num_samples=self.num_samples, seed=printed_seed(self.seed))
        names = [column.name for column in density.columns]
        observed = as_written(torch.where(rows.isnan(), 0.0, rows).numpy(), density.columns, on_grid=False)
        written = []
        for index, completed in enumerate(found.rows):
            drawn = as_written(completed.numpy(), density.columns)
            for row, is_missing in enumerate(found.is_missing.tolist()):
                pairs = zip(drawn[row], observed[row], is_missing, strict=True)
                cells = [new if was_missing else old for new, old, was_missing in pairs]
                written.append([index, row, *cells])
        write_csv(self.out, ["imputation", "row", *names], written)
        names = ["least_ess_share", "acceptance_rate", "r_hat", "ess", "log_density", "log_density_error"]
        values = [found.least_ess, found.acceptance_rate, found.r_hat, found.ess]
        figures = [found.is_missing.sum(1), *values, found.log_density, found.log_density_error, found.is_doubtful]
        diagnostics = [[row, *values] for row, values in enumerate(zip(*(f.tolist() for f in figures), strict=True))]
        path = self.out.with_suffix(".diagnostics.csv")
        write_csv(path, ["row", "num_missing", *names, "is_doubtful"], diagnostics)
        print(f"{self.num_samples} imputations of {len(rows)} rows in {self.out}, diagnostics in {path}")
        if not bool(found.is_missing.any()):
            print(
                f"no cell of {self.source} is empty: nothing was imputed, and all {self.num_samples} imputations in "
                f"{self.out} are its rows unchanged",
                file=sys.stderr,
            )
            return
        counts = [found.r_hat > 1.1, found.ess < 100, found.log_density_error > 0.5]
        slow, few, apart = (int(count.sum()) for count in counts)
        print(
            f"{int(found.is_missing.sum())} cells filled; doubtful rows: {int(found.is_doubtful.sum())} (R-hat above 1.1 "
            f"in {slow}, fewer than 100 effective draws in {few}, replicates apart in {apart})",
            file=sys.stderr,
        )
