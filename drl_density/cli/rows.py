"""Commands on rows: ``sample``, ``score``, ``impute`` and ``predict``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from drl_density.cli.command import OnDevice, printed_seed
from drl_density.cli.tables import as_written, load_run, rows_of, say_remarks, write_csv
from drl_density.datasets import read_rows
from drl_density.density import Density, DrawSettings, FittedModel, load_generator
from drl_density.density.fitted import dequantized_rows
from drl_density.errors import DataError
from drl_density.samplers import RefinementSettings


@dataclasses.dataclass
class Sample(OnDevice):
    """Draw rows from a fitted density and write them as CSV."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run."""
    num_samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    """Number of rows to draw."""
    method: Literal["progressive", "ancestral", "ddim", "predictor-corrector", "flow", "generator"] = "progressive"
    """Sampler. All but progressive are approximate; generator draws from the network that distill trained."""
    steps: int | None = None
    """Number of steps through the noise levels; for progressive, kernel steps on each conditional."""
    eta: float | None = None
    """Share of fresh noise in ddim and predictor-corrector, from 0 (deterministic) to 1 (ancestral)."""
    chain_steps: int = 0
    """Number of adjusted steps on the density itself after drawing, which correct the draws of any method."""
    seed: int | None = None
    """Seed of the draws; drawn and printed when not given."""
    out: Path | None = None
    """CSV file to write; standard output when not given."""

    def run(self) -> None:
        """Draw and write."""
        if self.num_samples < 1:
            raise DataError(f"--num-samples must be at least 1, got {self.num_samples}")
        seed = printed_seed(self.seed)
        if self.method == "generator":
            density, draws, stats = self._generated(seed)
        else:
            density = load_run(self.run_folder, self.device)
            settings = DrawSettings(self.method, self.steps, self.eta, self.chain_steps)
            found = density.draw(self.num_samples, settings=settings, seed=seed)
            draws, stats = found.draws, found.stats
        rows = as_written(draws.reshape(self.num_samples, -1).numpy(), density.columns)
        write_csv(self.out, [column.name for column in density.columns], rows)
        print(f"{self.num_samples} draws{self._origin(stats)}", file=sys.stderr)

    def _generated(self, seed: int) -> tuple[FittedModel, torch.Tensor, dict[str, torch.Tensor]]:
        if self.steps is not None or self.eta is not None:
            raise DataError("the steps of a generator were chosen by distill: leave out --steps and --eta")
        made = load_generator(self.run_folder, device=self.device)
        say_remarks(made.density)
        if not self.chain_steps:
            return made.density, made.sample(self.num_samples, seed=seed), {}
        settings = RefinementSettings(num_steps=self.chain_steps)
        found = made.correct(self.num_samples, settings=settings, seed=seed)
        return made.density, found.draws, found.stats

    def _origin(self, stats: dict[str, torch.Tensor]) -> str:
        """What a user should know about the draws."""
        said = ""
        if "acceptance_rate" in stats:
            said += f", mean acceptance {float(stats['acceptance_rate'].mean()):.2f}"
        if "r_hat" in stats:
            said += f", largest R-hat of the chains {float(stats['r_hat'].max()):.2f}"
        if self.method == "progressive" or self.chain_steps:
            return said
        whose = "a generator, not the density" if self.method == "generator" else f"{self.method}, an approximation"
        return f"{said}; from {whose}"


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
    """Table whose rows the p-values rank against. When not given, the test rows of the fit, or draws of the model where the
    fit has fewer than 20 test rows."""
    out: Path | None = None
    """CSV file to write; standard output when not given."""

    def run(self) -> None:
        """Score and write."""
        density = load_run(self.run_folder, self.device)
        rows = rows_of(density, self.source)
        reference, words = self._reference(density)
        scores = density.outlier_scores(rows, reference=reference, seed=0)
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
            f"(log Z error {estimate.standard_error:.4f}, verdict {estimate.verdict}); p-values against {words}",
            file=sys.stderr,
        )

    def _reference(self, density: Density) -> tuple[torch.Tensor | None, str]:
        """(rows to rank against or None for the model's draws, what they are in words)."""
        generator = torch.Generator().manual_seed(0)
        if self.reference is not None:
            rows = dequantized_rows(density, rows_of(density, self.reference), generator=generator)[0]
            return rows, f"{len(rows)} rows of {self.reference}"
        if density.provenance.source:
            rows = rows_of(density, None)
            rows = dequantized_rows(density, rows, generator=generator)[0] if len(rows) >= 20 else rows
            if len(rows) >= 20 and bool(density.log_prob(rows).isfinite().all()):
                return rows, f"the fit's {len(rows)} test rows"
        return None, f"{len(density.pool)} draws of the model"


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
