"""Commands that judge a fit: ``evaluate``, ``diagnose``, ``report`` and ``compare``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import torch
import tyro

from drl_density.cli.command import Command, OnDevice, printed_seed
from drl_density.cli.output import note, result, say, shows_progress
from drl_density.cli.reading import ReadsTable
from drl_density.cli.tables import diagnosis_values, load_run, report_values, rows_of, say_remarks
from drl_density.density import Density, DiagnoseSettings, Diagnosis, LikelihoodReport, compare
from drl_density.density.evaluation.run_page import diagnosis_name, write_run_page
from drl_density.density.fitted import dequantized_rows
from drl_density.errors import DataError
from drl_density.partition_function import SandwichSettings
from drl_density.run_folder import RunFolder


@dataclasses.dataclass
class Evaluate(OnDevice, ReadsTable):
    """Estimate the likelihood of rows with a two-sided interval for log Z; writes report.nc and report.html."""

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run."""
    source: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[TABLE]")] = None
    """Table with the columns of the fit. By default the test rows of the fit."""
    seed: int | None = None
    """Seed of the estimate. By default one is drawn and printed."""
    particles: int = 512
    """Number of particles in each replicate."""
    replicates: int = 8
    """Number of independent replicates."""
    mixing_steps: int = 50
    """Chain steps that mix the draws for the upper side. Increase them if the report names slow chains."""

    def run(self) -> None:
        """Evaluate, print and write."""
        settings = SandwichSettings(
            num_particles=self.particles, num_replicates=self.replicates, num_mixing_steps=self.mixing_steps
        )
        with RunFolder.writing(self.run_folder) as folder:
            density = Density.load(self.run_folder, device=self.device)
            rows = rows_of(density, self.source, self.reading_for(density))
            seed = printed_seed(self.seed)
            report = density.evaluate(rows, seed=seed, settings=settings, progress=shows_progress())
            folder.write_dataset(folder.report, report.tree)
            page = write_run_page(self.run_folder)
            result(report.summary(), {"run": self.run_folder, "seed": seed, "page": page, **report_values(report)})
            say(f"report: {page}")


@dataclasses.dataclass
class Diagnose(OnDevice, ReadsTable):
    """Run long adjusted chains from data and from noise, and write their verdict into report.html of the run folder."""

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run."""
    source: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[TABLE]")] = None
    """Table with the columns of the fit. By default the test rows of the fit."""
    level: float = 0.0
    """Noise level of the chains."""
    recovery: bool = False
    """Run on the conditionals p(x_level | x_{level+1}) of noised rows."""
    tempering: bool | None = None
    """Also run parallel tempering over the noise levels. By default it runs if single-level chains are slow."""
    steps: int = 10_000
    """Number of kept steps of every chain."""
    chains: int = 64
    """Number of chains; half of them start at data and half at noise."""
    seed: int | None = None
    """Seed of the chains. By default one is drawn and printed."""

    def run(self) -> None:
        """Run, print and write."""
        settings = DiagnoseSettings(
            level=self.level,
            is_recovery=self.recovery,
            has_tempering=self.tempering,
            num_steps=self.steps,
            num_chains=self.chains,
        )
        with RunFolder.writing(self.run_folder) as folder:
            density = load_run(self.run_folder, self.device)
            rows = rows_of(density, self.source, self.reading_for(density))
            seed = printed_seed(self.seed)
            rows = dequantized_rows(density, rows, generator=torch.Generator().manual_seed(seed))[0]
            found = density.diagnose(rows, settings=settings, seed=seed)
            folder.write_dataset(folder.diagnosis(diagnosis_name(found)), found.tree)
            page = write_run_page(self.run_folder)
            result(found.summary(), {"run": self.run_folder, "seed": seed, "page": page, **diagnosis_values(found)})
            say(f"report: {page}")


@dataclasses.dataclass
class Report(Command):
    """Print the last evaluation and the diagnoses of a run, and write its page again."""

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run that was evaluated or diagnosed."""

    def run(self) -> None:
        """Read, print and write."""
        folder = RunFolder.open(self.run_folder)
        page = write_run_page(self.run_folder)
        report = LikelihoodReport.load(folder.report) if folder.report.is_file() else None
        diagnoses = [Diagnosis.load(file) for file in folder.diagnoses]
        values = {"run": self.run_folder, "page": page, "evaluation": None if report is None else report_values(report)}
        values["diagnoses"] = [diagnosis_values(found) for found in diagnoses]
        result("\n".join(found.summary() for found in (report, *diagnoses) if found is not None), values)
        say(f"report: {page}")


@dataclasses.dataclass
class Compare(OnDevice, ReadsTable):
    """Compare the mean log densities of several fits on the same rows, by paired differences to the first."""

    run_folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Folders of at least two finished runs of the same columns."""
    source: str | None = None
    """Table with the columns of the fits. By default the test rows of the first fit."""
    seed: int | None = None
    """Seed of the dequantisation, which is the same for all fits. By default one is drawn and printed."""

    def run(self) -> None:
        """Score and print."""
        folders = list(dict.fromkeys(self.run_folders))
        if len(folders) < 2:
            raise DataError(f"expected at least two run folders to compare, got {len(folders)}")
        densities = {str(folder): Density.load(folder, device=self.device) for folder in folders}
        first = densities[str(folders[0])]
        for name, density in densities.items():
            if [column.name for column in density.columns] != [column.name for column in first.columns]:
                raise DataError(f"{name} has other columns than {folders[0]}; only fits of the same columns compare")
            say_remarks(density, name)
            if self.source is None and density.provenance.rows != first.provenance.rows:
                note(
                    f"note: {name} was fitted to another split, so it may have been trained on the test rows of "
                    f"{folders[0]}: fit both with the same --seed, or give rows that are new to both (--source)"
                )
        seed = printed_seed(self.seed)
        generator = torch.Generator().manual_seed(seed)
        rows = dequantized_rows(first, rows_of(first, self.source, self.reading_for(first)), generator=generator)[0]
        lines = [f"{'run':32s} {'nats/row':>10s} {'first - it':>10s} {'s.e.':>8s} log Z"]
        values = []
        for row in compare(densities, rows):
            estimate = densities[row.name].estimate
            lines.append(
                f"{row.name:32s} {row.mean:10.4f} {row.difference:10.4f} {row.standard_error:8.4f} "
                f"+- {estimate.standard_error:.4f}, {estimate.verdict}"
            )
            found = {"log_z_standard_error": estimate.standard_error, "verdict": estimate.verdict}
            values.append(dataclasses.asdict(row) | found)
        result("\n".join(lines), {"num_rows": len(rows), "seed": seed, "runs": values})
