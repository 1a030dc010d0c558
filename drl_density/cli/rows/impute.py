"""The command ``impute``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import tyro

from drl_density.cli.output import summary
from drl_density.cli.rows.command import OnTable
from drl_density.cli.rows.row_groups import Finished, TableGroup, group_seed
from drl_density.cli.tables import load_run
from drl_density.datasets import Column
from drl_density.datasets.tables.coding import decode_column
from drl_density.datasets.tables.frames import filled_column
from drl_density.datasets.tables.meaning import composed
from drl_density.datasets.tables.writing import has_saved_index, table_format
from drl_density.density import Imputation

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ROWS_AT_ONCE = 4_096
"""Rows of a group; their particles, not their cells, need the memory."""
NAMES = ("row", "imputation")
FIGURES = ("least_ess_share", "acceptance_rate", "r_hat", "ess", "log_density", "log_density_error")


@dataclasses.dataclass
class Impute(OnTable):
    """Fill the missing values of a table with draws, given the observed values of each row.

    Each row is written once for each imputation. The columns ``row`` and ``imputation`` number both from 0. Observed
    cells and further columns stay as they are.
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run."""
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TABLE")]
    """Table with the columns of the fit, or - for standard input. Empty and NaN cells are missing values."""
    out: Path | None = dataclasses.field(default=Path("imputed.csv"), kw_only=True)
    """File to write: .csv, .tsv, .csv.gz, .tsv.gz or .parquet; - for CSV on standard output."""
    diagnostics: Path | None = None
    """File of the diagnostics of each row. By default NAME.diagnostics.csv beside OUT, or none for standard output."""
    num_samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 20
    """Number of imputations."""
    seed: int | None = None
    """Seed of the draws. By default one is drawn and printed."""

    def run(self) -> None:
        """Impute and write."""
        density = load_run(self.run_folder, self.device)
        beside = self._diagnostics()
        further = {} if beside is None else {"diagnostics": beside}
        table = self.open_source(self.source, density, further=further.values(), missing="keep")
        table.say_renamed(NAMES, self.columns)
        seed = self.chosen_seed(self.seed)
        known = {composed(column.name) for column in density.columns}

        def work(group: TableGroup) -> Finished:
            rows = table.encode(group)
            frame = group.frame
            if not len(rows):
                written = table.beside(frame, _numbers(group, 0), self.columns)
                return Finished({"rows": written, "diagnostics": _diagnosed(group, None)}, {"rows": 0})
            found = density.impute(rows, num_samples=self.num_samples, seed=group_seed(seed, group.index))
            places = np.repeat(np.arange(len(rows)), self.num_samples)
            completed = found.rows.transpose(0, 1).reshape(len(places), -1)
            repeated = frame.iloc[places] if has_saved_index(frame) else frame.iloc[places].reset_index(drop=True)
            filled = _filled(repeated, completed, found.is_missing[places], density.columns)
            written = table.beside(filled, _numbers(group, self.num_samples))
            if self.columns == "ours":
                written = written.drop(columns=[name for name in frame.columns if composed(str(name)) not in known])
            doubts = [found.is_doubtful, found.r_hat > 1.1, found.ess < 100, found.log_density_error > 0.5]
            figures = {"rows": len(rows), "cells": int(found.is_missing.sum())}
            figures |= dict(
                zip(("doubtful", "slow", "few", "apart"), (int(each.sum()) for each in doubts), strict=True)
            )
            return Finished({"rows": written, "diagnostics": _diagnosed(group, found)}, figures)

        figures = self.written_for(
            table,
            ROWS_AT_ONCE,
            work if further else lambda group: _without_diagnostics(work(group)),
            run=self.run_folder,
            job={"--seed": seed, "--num-samples": self.num_samples},
            further=further,
            schema=None if table.schema is None else _widened(table.schema, density.columns),
        )
        self._say(figures, beside)

    def _diagnostics(self) -> Path | None:
        if self.diagnostics is not None or self.target is None:
            return self.diagnostics
        ending = table_format(self.target).ending
        return self.target.with_name(f"{self.target.name.removesuffix(ending)}.diagnostics.csv")

    def _say(self, figures: Sequence[Any], beside: Path | None) -> None:
        rows, cells, doubtful, slow, few, apart = (
            sum(each.get(name, 0) for each in figures) for name in ("rows", "cells", "doubtful", "slow", "few", "apart")
        )
        where = "" if self.target is None else f" in {self.target}"
        written = f"{self.num_samples} imputations of {rows} rows{where}"
        written += "" if beside is None else f", diagnostics in {beside}"
        found = (
            f"{cells} cells filled; doubtful rows: {doubtful} (R-hat above 1.1 in {slow}, fewer than 100 effective draws in "
            f"{few}, replicates apart in {apart})"
        )
        if not cells:
            found = (
                f"no cell of {self.source} is empty: nothing was imputed, and all {self.num_samples} imputations{where} are "
                "its rows unchanged"
            )
        values = {"rows": rows, "imputations": self.num_samples, "cells_filled": cells, "doubtful_rows": doubtful}
        summary(f"{written}\n{found}", values | {"out": self.out, "diagnostics": beside})


def _numbers(group: TableGroup, num_samples: int) -> pd.DataFrame:
    """The number of the row and of the imputation of every row written."""
    import pandas as pd

    rows = np.repeat(np.arange(group.first_row, group.first_row + group.num_rows), num_samples)
    samples = np.tile(np.arange(num_samples), group.num_rows if num_samples else 0)
    return pd.DataFrame(dict(zip(NAMES, (rows, samples), strict=True)))


def _filled(
    frame: pd.DataFrame, rows: torch.Tensor, is_missing: torch.Tensor, columns: Sequence[Column]
) -> pd.DataFrame:
    """The frame with drawn values in its missing cells, and every other cell as it is."""
    filled = frame.copy(deep=False)
    own = {composed(str(name)): name for name in frame.columns}
    for place, column in enumerate(columns):
        gone, name = is_missing[:, place].numpy(), own.get(composed(column.name))
        if gone.any() and name is not None:
            drawn = decode_column(rows[:, place].numpy(), column)
            filled[name] = _put(filled.loc[:, name], drawn.to_numpy(dtype=object), gone)
    return filled


def _put(own: pd.Series, drawn: np.ndarray, gone: np.ndarray) -> pd.Series:
    """A column with drawn values in some cells, in its own type where that type holds them."""
    import pandas as pd

    if not (pd.api.types.is_integer_dtype(own.dtype) or pd.api.types.is_bool_dtype(own.dtype)):
        return filled_column(own, gone, pd.Series(drawn[gone], dtype=object))
    # A wider type would write the observed 5 as 5.0 where fractions are drawn.
    cells = own.to_numpy(dtype=object, copy=True)
    cells[gone] = drawn[gone]
    return pd.Series(cells, index=own.index, name=own.name, dtype=object)


def _widened(schema: pa.Schema, columns: Sequence[Column]) -> pa.Schema:
    """The schema with fractions for columns that hold whole numbers here and fractions in the fit."""
    import pyarrow as pa

    for column in columns:
        place = schema.get_field_index(column.name)
        is_whole = (
            column.categories is not None or column.is_discrete or column.storage.startswith(("int", "uint", "bool"))
        )
        if place >= 0 and pa.types.is_integer(schema.field(place).type) and not is_whole:
            schema = schema.set(place, schema.field(place).with_type(pa.float64()))
    return schema


def _diagnosed(group: TableGroup, found: Imputation | None) -> pd.DataFrame:
    """Figures of every row, one line each."""
    import pandas as pd

    names = ["row", "num_missing", *FIGURES, "is_doubtful"]
    if found is None:
        return pd.DataFrame({name: pd.Series(dtype=float) for name in names})
    values = [
        found.least_ess,
        found.acceptance_rate,
        found.r_hat,
        found.ess,
        found.log_density,
        found.log_density_error,
    ]
    rows = np.arange(group.first_row, group.first_row + group.num_rows)
    columns = [rows, found.is_missing.sum(1).numpy(), *(each.numpy() for each in values), found.is_doubtful.numpy()]
    return pd.DataFrame(dict(zip(names, columns, strict=True)))


def _without_diagnostics(done: Finished) -> Finished:
    return Finished({"rows": done.tables["rows"]}, done.figures)
