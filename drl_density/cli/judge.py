"""Commands that judge a fit: ``evaluate``, ``diagnose``, ``report`` and ``compare``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import torch
import tyro

from drl_density.cli.command import OnDevice
from drl_density.cli.tables import load_run, rows_of, say_remarks
from drl_density.density import Density, DiagnoseSettings, Diagnosis, LikelihoodReport, compare
from drl_density.density.evaluation.run_page import diagnosis_name, write_run_page
from drl_density.errors import DataError
from drl_density.partition_function import SandwichSettings
from drl_density.run_folder import RunFolder


@dataclasses.dataclass
class Evaluate(OnDevice):
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
    mixing_steps: int = 50
    """Steps of the draws that start the upper side; more where the page says that chains are slow."""

    def run(self) -> None:
        """Evaluate, print and write."""
        settings = SandwichSettings(
            num_particles=self.particles, num_replicates=self.replicates, num_mixing_steps=self.mixing_steps
        )
        density = Density.load(self.run_folder, device=self.device)
        rows = rows_of(density, self.source)
        report = density.evaluate(rows, seed=self.seed, settings=settings, progress=True)
        folder = RunFolder.open(self.run_folder)
        folder.write_dataset(folder.report, report.tree)
        print(report.summary())
        print(f"report: {write_run_page(self.run_folder)}")


@dataclasses.dataclass
class Diagnose(OnDevice):
    """Long adjusted chains from data and from noise, with a verdict; writes it into the run folder's report.html."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run."""
    source: Annotated[str | None, tyro.conf.Positional] = None
    """Table with the columns of the fit; the test rows of the fit's own data when not given."""
    level: float = 0.0
    """Noise level of the chains."""
    recovery: bool = False
    """Run on conditionals p(x_level | x_{level+1}) of noised rows."""
    tempering: bool | None = None
    """Also run parallel tempering over the noise levels; by default when single-level chains are slow."""
    steps: int = 10_000
    """Kept steps of every chain."""
    chains: int = 64
    """Chains, half begun at data and half at noise."""
    seed: int = 0
    """Of the chains."""

    def run(self) -> None:
        """Run, print and write."""
        density = load_run(self.run_folder, self.device)
        rows = rows_of(density, self.source)
        rows = density.dequantized_rows(rows, torch.Generator().manual_seed(self.seed))[0]
        found = density.diagnose(
            rows,
            settings=DiagnoseSettings(
                level=self.level,
                is_recovery=self.recovery,
                has_tempering=self.tempering,
                num_steps=self.steps,
                num_chains=self.chains,
            ),
            seed=self.seed,
        )
        folder = RunFolder.open(self.run_folder)
        folder.write_dataset(folder.diagnosis(diagnosis_name(found)), found.tree)
        print(found.summary())
        print(f"report: {write_run_page(self.run_folder)}")


@dataclasses.dataclass
class Report:
    """Print the last evaluation and the diagnoses of a run and write its page again."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a run that was evaluated or diagnosed."""

    def run(self) -> None:
        """Read, print and write."""
        folder = RunFolder(self.run_folder)
        if folder.report.is_file():
            print(LikelihoodReport.load(folder.report).summary())
        for file in folder.diagnoses:
            print(Diagnosis.load(file).summary())
        print(f"report: {write_run_page(self.run_folder)}")


@dataclasses.dataclass
class Compare(OnDevice):
    """Mean log densities of several fits on the same rows, with paired differences to the first."""

    run_folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of at least two finished runs of the same columns."""
    source: str | None = None
    """Table with the columns of the fits; the test rows of the first fit when not given."""
    seed: int = 0
    """Of the dequantisation, which all fits share."""

    def run(self) -> None:
        """Score and print."""
        densities = {str(folder): Density.load(folder, device=self.device) for folder in self.run_folders}
        first = next(iter(densities.values()), None)
        for name, density in densities.items():
            if [c.name for c in density.columns] != [c.name for c in first.columns]:
                raise DataError(
                    f"{name} has other columns than {self.run_folders[0]}; fits of the same columns compare"
                )
        if len(densities) < 2:
            raise DataError(f"expected at least two run folders to compare, got {len(densities)}")
        for name, density in densities.items():
            say_remarks(density, name)
        rows = rows_of(first, self.source)
        rows = first.dequantized_rows(rows, torch.Generator().manual_seed(self.seed))[0]
        print(f"{'run':32s} {'nats/row':>10s} {'first - it':>10s} {'s.e.':>8s} log Z")
        for row in compare(densities, rows):
            estimate = densities[row.name].estimate
            print(
                f"{row.name:32s} {row.mean:10.4f} {row.difference:10.4f} {row.standard_error:8.4f} "
                f"+- {estimate.standard_error:.4f}, {estimate.verdict}"
            )
