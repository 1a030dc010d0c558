"""The command ``predict``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from drl_density.cli.output import summary
from drl_density.cli.rows.command import OnTable
from drl_density.cli.rows.row_groups import Finished, TableGroup, group_seed
from drl_density.cli.tables import load_run
from drl_density.datasets import Column
from drl_density.density import Prediction

if TYPE_CHECKING:
    import pandas as pd

ROWS_AT_ONCE = 4_096
"""Rows of a group; their slices, not their cells, need the memory."""


@dataclasses.dataclass
class Predict(OnTable):
    """Predict one column from the others: its mean and quantiles, or the probabilities of its labels.

    Rows that have a value in the column also get its log density.
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run."""
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TABLE")]
    """Table with the columns of the fit, or - for standard input. The predicted column and any cell may be absent."""
    column: str
    """Name of the column to predict."""
    quantiles: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)
    """Levels of the quantiles, between 0 and 1."""
    seed: int | None = None
    """Seed of the draws for other missing values. By default one is drawn and printed."""

    def run(self) -> None:
        """Predict and write."""
        density = load_run(self.run_folder, self.device)
        column = density.columns[density.column_index(self.column)]
        table = self.open_source(self.source, density, missing="keep", absent=(self.column,))
        empty = _nothing(column, self.quantiles)
        table.say_renamed(list(empty.columns), self.columns)
        seed = self.chosen_seed(self.seed)

        def work(group: TableGroup) -> Finished:
            rows = table.encode(group)
            if not len(rows):
                figures = {"rows": 0, "known": 0, "sum": 0.0}
                return Finished({"rows": table.beside(group.frame, empty, self.columns)}, figures)
            found = density.predict(rows, self.column, quantiles=self.quantiles, seed=group_seed(seed, group.index))
            known = found.log_density[~found.log_density.isnan()]
            figures = {"rows": len(rows), "known": len(known), "sum": float(known.sum())}
            return Finished({"rows": table.beside(group.frame, predicted(found), self.columns)}, figures)

        job = {"--seed": seed, "--column": self.column, "--quantiles": list(self.quantiles)}
        figures = self.written_for(table, ROWS_AT_ONCE, work, run=self.run_folder, job=job)
        rows, known, total = (sum(each[name] for each in figures) for name in ("rows", "known", "sum"))
        mean = f", mean log density of the {known} values given {total / known:.4f} nats" if known else ""
        values = {"rows": rows, "column": self.column, "rows_with_value": known, "out": self.out}
        values["mean_log_density"] = total / known if known else None
        summary(f"{rows} rows of {self.column}{mean}", values)


def predicted(found: Prediction) -> pd.DataFrame:
    """A prediction as columns: labels with their probabilities, or mean and quantiles; then the log density."""
    import pandas as pd

    if found.probabilities is not None and found.values is not None:
        labels = labels_of(found.column, found.values.tolist())
        parts = {"most_probable": [labels[index] for index in found.probabilities.argmax(1).tolist()]}
        parts |= {f"probability_{label}": p.numpy() for label, p in zip(labels, found.probabilities.T, strict=True)}
    else:
        parts = {"mean": found.mean.numpy()}
        parts |= {f"quantile_{level:.12g}": q.numpy() for level, q in zip(found.levels, found.quantiles.T, strict=True)}
    names = ("log_density", "log_density_lower", "log_density_upper")
    values = (found.log_density, *found.interval())
    return pd.DataFrame(parts | {name: value.numpy() for name, value in zip(names, values, strict=True)})


def labels_of(column: Column, values: list[float]) -> list[str]:
    """Labels behind the values of a column: its categories, or numbers with all their digits.

    >>> labels_of(Column("a", "binary", 1.0), [0.0, 0.5])
    ['0', '0.5']
    """
    if column.categories is not None:
        return list(column.categories)
    if column.storage == "bool":
        return [str(bool(value)) for value in values]
    return [str(int(value)) if value.is_integer() else repr(value) for value in values]


def _nothing(column: Column, quantiles: tuple[float, ...]) -> pd.DataFrame:
    """The columns of a prediction of no rows."""
    import pandas as pd

    if column.is_label:
        values = [float(value) for value in column.values]
        names = ["most_probable", *(f"probability_{label}" for label in labels_of(column, values))]
    else:
        names = ["mean", *(f"quantile_{level:.12g}" for level in quantiles)]
    names += ["log_density", "log_density_lower", "log_density_upper"]
    return pd.DataFrame({name: pd.Series(dtype=str if name == "most_probable" else float) for name in names})
