"""The command line: ``drl-density fit | sample | score | impute | evaluate | diagnose | report | compare | demo``."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from drl_density.datasets import Dataset, Split, load_again, load_dataset, memorization_check, read_rows
from drl_density.density import Density, FitSettings, LikelihoodReport, compare, dequantized_rows, fit, prepare_table
from drl_density.density.demo import run_demo
from drl_density.errors import DataError, DRLDensityWarning, NumericalError, RunFolderError
from drl_density.partition import SandwichSettings
from drl_density.run_folder import RunFolder


@dataclasses.dataclass
class Fit:
    """Learn a density from a table, small images or a toy, and save it in a run folder."""

    source: Annotated[str, tyro.conf.Positional]
    """A file (.csv, .tsv, .parquet, .npy, .npz, .nc), a bundled set (digits, wine, ...), or a toy (eight_gaussians, ...)."""
    out: Path = Path("runs/fit")
    """Run folder."""
    seed: int = 0
    """Of the split, the network and training."""
    drop: tuple[str, ...] = ()
    """Columns to leave out."""
    bounds: tuple[str, ...] = ()
    """Declared bounds, one NAME=LOWER:UPPER per column; an end may be left out (age=0: share=0:1)."""
    missing: str = "refuse"
    """Rows with holes: refuse or drop_rows."""
    group: str | None = None
    """Column whose equal values stay on one side of the split."""
    time: str | None = None
    """Column by which the latest rows become the test."""
    weights: str | None = None
    """Column of row weights."""
    max_minutes: float | None = None
    """Bound on the whole fit."""
    resume: bool = False
    """Go on with the run in the folder."""
    force: bool = False
    """Overwrite the run in the folder."""
    dry_run: bool = False
    """Print the resolved settings and stop."""
    settings: FitSettings = dataclasses.field(default_factory=FitSettings)
    """Choices of the fit; see --help for each."""

    def run(self) -> None:
        """Fit, save, and say what came out."""
        split = Split(seed=self.seed, group=self.group, time=self.time, weights=self.weights)
        columns = dict(_bounds(text) for text in self.bounds)
        data = load_dataset(self.source, split=split, columns=columns, drop=self.drop, missing=self.missing)
        print(data.describe())
        if self.dry_run:
            self._print_settings(data)
            return
        density = fit(
            data,
            seed=self.seed,
            out=self.out,
            settings=self.settings,
            max_minutes=self.max_minutes,
            resume=self.resume,
            force=self.force,
        )
        print(density.summary())
        samples = density.pool[: len(data.test) * 4]
        table = prepare_table(data, density.settings.transform)
        check = memorization_check(samples, data.train, table.rows(data.test, torch.Generator().manual_seed(self.seed)))
        print(
            f"nearest training row: samples {check.sample_distance:.3g}, test {check.test_distance:.3g}; {check.verdict}"
        )
        print(f"saved in {self.out}")

    def _print_settings(self, data: Dataset) -> None:
        table = prepare_table(data, self.settings.transform, base=self.settings.base)
        num_features, transform = data.train[0].numel(), table.transform
        settings = self.settings.resolve(len(data.train), num_features, table.bases.sigma_min)
        describe = getattr(transform, "describe", None)
        print("\n".join(describe()) if describe else f"transform: {transform}")
        print(json.dumps({"out": str(self.out), "seed": self.seed, **settings.to_dict()}, indent=1))


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
        rows = _as_written(rows, density)
        _write_csv(self.out, [column.name for column in density.columns], rows)
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
        rows = _rows_for(density, self.source)
        scores = density.outlier_scores(rows)
        names = ["log_density", "log_density_lower", "log_density_upper", "p_value", "typicality_p_value"]
        _write_csv(self.out, names, np.stack([scores[name].values for name in names], 1))
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
        observed = _as_written(torch.where(rows.isnan(), 0.0, rows).numpy(), density, on_grid=False)
        written = []
        for index, completed in enumerate(found.rows):
            drawn = _as_written(completed.numpy(), density)
            for row, holes in enumerate(found.is_missing.tolist()):
                cells = [new if hole else old for new, old, hole in zip(drawn[row], observed[row], holes, strict=True)]
                written.append([index, row, *cells])
        _write_csv(self.out, ["imputation", "row", *names], written)
        figures = [found.is_missing.sum(1), found.least_ess, found.acceptance_rate, found.r_hat]
        diagnostics = [[row, *values] for row, values in enumerate(zip(*(f.tolist() for f in figures), strict=True))]
        path = self.out.with_suffix(".diagnostics.csv")
        _write_csv(path, ["row", "num_missing", "least_ess_share", "acceptance_rate", "r_hat"], diagnostics)
        slow = int((found.r_hat > 1.1).sum())
        print(f"{self.m} imputations of {len(rows)} rows in {self.out}, diagnostics in {path}")
        print(f"{int(found.is_missing.sum())} cells filled; R-hat above 1.1 in {slow} rows", file=sys.stderr)


@dataclasses.dataclass
class Evaluate:
    """Likelihood of rows with the two-sided interval of log Z; writes report.nc and report.html into the run folder."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run."""
    source: Annotated[str | None, tyro.conf.Positional] = None
    """Table with the columns of the fit; the test rows of the fit's own data when not given."""
    seed: int = 0
    """Of the estimate."""
    particles: int = 512
    """Particles per replicate."""
    replicates: int = 8
    """Independent replicates."""

    def run(self) -> None:
        """Evaluate, print and write."""
        density = Density.load(self.run_folder)
        if min(self.particles, self.replicates) < 2:
            raise DataError(f"expected at least 2 particles and 2 replicates, got {self.particles}, {self.replicates}")
        if self.source is None:
            rows = _own_test_rows(density)
        else:
            rows = _rows_for(density, self.source)
        settings = SandwichSettings(num_particles=self.particles, num_replicates=self.replicates)
        report = density.evaluate(rows, seed=self.seed, settings=settings)
        folder = RunFolder.open(self.run_folder)
        folder.write_dataset("report.nc", report.tree)
        folder.write_text("report.html", report.page().to_html())
        print(report.summary())
        print(f"report: {self.run_folder / 'report.html'}")


@dataclasses.dataclass
class Diagnose:
    """Long adjusted chains from data and from noise; writes diagnosis.nc and diagnosis.html into the run folder."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run."""
    source: Annotated[str | None, tyro.conf.Positional] = None
    """Table with the columns of the fit; the test rows of the fit's own data when not given."""
    level: float = 0.0
    """Noise level of the chains."""
    steps: int = 10_000
    """Kept steps of every chain."""
    chains: int = 64
    """Chains, half begun at data and half at noise."""
    seed: int = 0
    """Of the chains."""

    def run(self) -> None:
        """Run, print and write."""
        density = Density.load(self.run_folder)
        rows = _own_test_rows(density) if self.source is None else _rows_for(density, self.source)
        rows = dequantized_rows(density, rows, torch.Generator().manual_seed(self.seed))[0]
        found = density.diagnose(rows, level=self.level, num_steps=self.steps, num_chains=self.chains, seed=self.seed)
        folder = RunFolder.open(self.run_folder)
        folder.write_dataset("diagnosis.nc", found.tree)
        folder.write_text("diagnosis.html", found.page().to_html())
        print(found.summary())
        print(f"page: {self.run_folder / 'diagnosis.html'}")


@dataclasses.dataclass
class Report:
    """Print the last evaluation of a run and write its page again."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a run that was evaluated."""

    def run(self) -> None:
        """Read, print and write."""
        report = LikelihoodReport.load(self.run_folder / "report.nc")
        RunFolder.open(self.run_folder).write_text("report.html", report.page().to_html())
        print(report.summary())
        print(f"report: {self.run_folder / 'report.html'}")


@dataclasses.dataclass
class Compare:
    """Mean log densities of several fits on the same rows, with paired differences to the first."""

    run_folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of at least two finished runs of the same columns."""
    source: str | None = None
    """Table with the columns of the fits; the test rows of the first fit when not given."""
    seed: int = 0
    """Of the dequantisation, which all fits share."""

    def run(self) -> None:
        """Score and print."""
        densities = {str(folder): Density.load(folder) for folder in self.run_folders}
        first = next(iter(densities.values()), None)
        for name, density in densities.items():
            if [c.name for c in density.columns] != [c.name for c in first.columns]:
                raise DataError(
                    f"{name} has other columns than {self.run_folders[0]}; fits of the same columns compare"
                )
        if len(densities) < 2:
            raise DataError(f"expected at least two run folders to compare, got {len(densities)}")
        rows = _own_test_rows(first) if self.source is None else _rows_for(first, self.source)
        rows = dequantized_rows(first, rows, torch.Generator().manual_seed(self.seed))[0]
        print(f"{'run':32s} {'nats/row':>10s} {'first - it':>10s} {'s.e.':>8s} log Z")
        for row in compare(densities, rows):
            estimate = densities[row.name].estimate
            print(
                f"{row.name:32s} {row.mean:10.4f} {row.difference:10.4f} {row.standard_error:8.4f} "
                f"+- {estimate.standard_error:.4f}, {estimate.verdict}"
            )


@dataclasses.dataclass
class Demo:
    """Fit a bundled real set, compare with Gaussian and KDE on the same split and transform, and write a report page."""

    out: Path = Path("runs/demo")
    """Run folder."""
    source: str = "digits"
    """Data set."""
    seed: int = 0
    """Of everything."""
    max_minutes: float = 3.0
    """Bound on the fit."""
    force: bool = False
    """Overwrite the run in the folder."""

    def run(self) -> None:
        """Run the demo.

        Raises:
            NumericalError: for a likelihood that is not to be believed; the report is written all the same.
        """
        done = run_demo(self.source, self.out, seed=self.seed, max_minutes=self.max_minutes, force=self.force)
        print(done.text)
        if done.verdict not in ("reliable", "doubtful"):
            raise NumericalError(f"the verdict on log Z is {done.verdict}: see the report for the reasons")


def _bounds(text: str) -> tuple[str, dict[str, float]]:
    """``NAME=LOWER:UPPER`` as what ``load_dataset`` takes in ``columns``."""
    name, _, ends = text.rpartition("=")
    lower, colon, upper = ends.partition(":")
    try:
        if not (name and colon):
            raise ValueError(text)
        return name, {key: float(end) for key, end in (("lower", lower), ("upper", upper)) if end}
    except ValueError as error:
        raise DataError(f"--bounds wants NAME=LOWER:UPPER such as age=0: or share=0:1, got {text!r}") from error


def _rows_for(density: Density, source: str) -> torch.Tensor:
    """Rows of a table in the columns of the fit, coded as the fit coded them."""
    return read_rows(source, density.columns)


def _own_test_rows(density: Density) -> torch.Tensor:
    """The test rows of the split that the fit was made on."""
    return load_again(density.details["source"], density.details["loading"]).test


def _as_written(rows: np.ndarray, density: Density, *, on_grid: bool = True) -> list[list[Any]]:
    """Draws on each column's own grid (values as they are without ``on_grid``), labels in place of codes."""
    written = []
    for index, column in enumerate(density.columns):
        values = rows[:, index]
        if column.categories is not None:
            codes = np.minimum(np.maximum(np.round(values), 0), len(column.categories) - 1).astype(int)
            written.append([column.categories[code] for code in codes])
        elif column.width and on_grid:
            written.append([float(f"{v:.12g}") for v in np.round(values / column.width) * column.width])
        else:
            written.append(values.tolist())
    return [list(row) for row in zip(*written, strict=True)]


def _write_csv(path: Path | None, names: list[str], rows: Any) -> None:
    stream = sys.stdout if path is None else path.open("w", newline="", encoding="utf-8")
    try:
        writer = csv.writer(stream)
        writer.writerow(names)
        writer.writerows(rows)
    finally:
        if path is not None:
            stream.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 1 refused or failed with a message, 130 interrupted."""
    warnings.simplefilter("always", DRLDensityWarning)
    warnings.showwarning = _say_warning
    started = time.monotonic()
    try:
        command = tyro.cli(
            Fit | Sample | Score | Impute | Evaluate | Diagnose | Report | Compare | Demo,
            args=arguments,
            prog="drl-density",
        )
        command.run()
    except (DataError, RunFolderError, NumericalError, ValueError) as error:
        print(f"drl-density: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("drl-density: interrupted; go on with the same command and --resume", file=sys.stderr)
        return 130
    print(f"done in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0


def _say_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, DRLDensityWarning):
        print(f"note: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
