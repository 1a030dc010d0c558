"""Commands that learn: ``fit`` and ``demo``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
import tyro

from drl_density.cli.command import OnDevice, printed_seed
from drl_density.cli.demo import run_demo
from drl_density.cli.help_texts import REGISTRY
from drl_density.cli.output import result, say, shows_progress
from drl_density.cli.reading import ReadsTable
from drl_density.cli.tables import complete_rows, density_values
from drl_density.datasets import Dataset, Split, load_dataset, memorization_check
from drl_density.density.density import Density
from drl_density.density.fitting.fit import fit, usual_settings
from drl_density.density.fitting.forecast import check_memory, check_minutes, footprint
from drl_density.density.fitting.plan import plan_fit
from drl_density.density.fitting.run import choose_seed, refuse_folder
from drl_density.density.fitting.table import prepare_table
from drl_density.density.settings import FitSettings
from drl_density.density.settings.presets import find_preset
from drl_density.density.storage.finished import run_stage
from drl_density.density.storage.training_folder import was_begun_here
from drl_density.devices import find_device
from drl_density.errors import UNUSABLE_VERDICTS, DataError, NumericalError, RunFolderError
from drl_density.parallel import Workers, joined_workers, num_restarts
from drl_density.run_folder import RunFolder


@dataclasses.dataclass(kw_only=True)
class Kinds:
    """The options that decide which settings there are."""

    preset: str | None = None
    """Named settings, such as digits, images, mnist or cifar10. Other options override them. By default none."""
    objective: Literal["contrast", "adjusted", "langevin", "normal", "cooperative", "denoising"] | None = None
    """Training objective. By default contrast for tables, and adjusted with a network other than columns."""
    network: Literal["columns", "mlp", "residual", "unet"] | None = None
    """Energy network. By default columns for the contrast objective, and mlp for the others."""
    schedule: Literal["log_spaced", "linear_beta", "cosine"] | None = None
    """Spacing of the noise levels. By default log_spaced."""

    def settings_of_kinds(self) -> FitSettings:
        """The preset, or the defaults, with the chosen kinds."""
        settings = FitSettings() if self.preset is None else FitSettings.preset(self.preset)
        return settings.with_kinds(objective=self.objective, network=self.network, schedule=self.schedule)


@dataclasses.dataclass
class Fit(OnDevice, Kinds, ReadsTable):
    """Learn a density from a table, small images or toy data, and save it in a run folder.

    Tables may be .csv, .tsv, .txt, .parquet, .npy, .npz or .nc files, and text may be compressed. Images may be idx files
    or a folder. The options of the chosen objective, network and schedule follow under --settings.
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """File, folder of Parquet files or images, bundled set (wine), toy (eight_gaussians), or - for standard input."""
    out: Path = Path("runs/fit")
    """Folder to save the run in."""
    seed: int | None = None
    """Seed of the split, the networks and training. By default one is drawn, printed, and saved for --resume."""
    drop: tuple[str, ...] = ()
    """Columns to leave out. By default none."""
    categorical: tuple[str, ...] = ()
    """Columns whose values are labels, whatever they look like. By default columns of text."""
    bounds: tuple[str, ...] = ()
    """Declared bounds, one NAME=LOWER:UPPER per column; an end may be left out (age=0: share=0:1). By default none."""
    missing: str = "refuse"
    """Rows with missing values: refuse them, drop them, or draw the missing values from the model during the fit."""
    group: str | None = None
    """Column whose equal values stay on one side of the split. By default only equal rows stay together."""
    time: str | None = None
    """Column of times; the latest rows become the test rows. By default test rows are drawn at random."""
    weights: str | None = None
    """Column of row weights. By default all rows count equally."""
    max_rows_in_memory: int | None = None
    """Most rows held in memory; larger tables are streamed, in samples of at most as many. By default 2^26 cells."""
    image_size: int | None = None
    """Side in pixels to which image files are scaled. By default they keep their size."""
    max_minutes: float | None = None
    """Minutes to aim at for the whole fit; some parts may take longer. By default the time is not limited."""
    resume: bool = False
    """Continue the run in the folder."""
    force: bool = False
    """Overwrite the run in the folder, which stays there until the new one has saved its first state."""
    dry_run: bool = False
    """Fit the reference, print the settings, and stop. For image networks, also print size, memory and estimated time."""
    settings: FitSettings = dataclasses.field(default_factory=FitSettings)
    """Settings of the fit. Those that are not given are chosen from the data."""

    @classmethod
    def parse(cls, words: Sequence[str], *, program: str) -> Self:
        """The command; the preset and the kinds are read first, since they decide which settings there are.

        Raises:
            ValueError: An unknown preset, or kinds that do not go together.
        """
        common: dict[str, Any] = {"args": list(words), "prog": program, "registry": REGISTRY}
        kinds, _ = tyro.cli(Kinds, return_unknown_args=True, add_help=False, **common)
        default = cls(tyro.MISSING, settings=kinds.settings_of_kinds())
        config = (tyro.conf.AvoidSubcommands,)
        return tyro.cli(cls, default=default, config=config, description=cls.description(), **common)

    @classmethod
    def completed(cls, name: str) -> Any:
        """The type from which completion scripts are made, with the settings of no choice.

        Args:
            name: name of the command.
        """
        default = cls(tyro.MISSING, settings=Kinds().settings_of_kinds())
        return Annotated[cls, tyro.conf.subcommand(name, default=default, prefix_name=False)]

    def run(self) -> None:
        """Fit, save, and print a summary; under torchrun in all processes together."""
        with joined_workers() as workers:
            self._run(workers)

    def advice(self) -> str:
        """How to continue the interrupted fit."""
        try:
            stage = run_stage(self.out)
            if self.force and not self.resume and stage != "none" and not was_begun_here(self.out):
                return f" before anything was saved; the earlier run in {self.out} is untouched"
        except RunFolderError:
            return ""
        return {
            "saved": "; continue with the same command and --resume",
            "begun": " before anything was saved; start again with the same command and --force",
        }.get(stage, "")

    def _run(self, workers: Workers) -> None:
        # A run that torchrun restarts after a process died continues where it was saved.
        # One that was begun with --force finds the earlier run there as long as the new one has no saved state.
        is_begun = was_begun_here(self.out) if self.force else RunFolder(self.out).settings.is_file()
        resume = self.resume or (num_restarts() > 0 and is_begun)
        if not self.dry_run:
            refuse_folder(self.out, resume=resume, force=self.force)
        seed = choose_seed(self.seed, out=self.out, resume=resume)
        data = load_dataset(
            self.source,
            split=Split(seed=seed, group=self.group, time=self.time, weights=self.weights),
            columns=self._declared(),
            drop=self.drop,
            missing=self.missing,
            reading=self.reading(),
            max_rows_in_memory=self.max_rows_in_memory,
            image_size=self.image_size,
        )
        if workers.is_first:
            say(data.describe() if self.seed is not None else f"{data.describe()}\nseed {seed}")
        if self.dry_run:
            self._print_plan(data, seed)
            return
        density = fit(
            data,
            seed=seed,
            out=self.out,
            settings=self.settings,
            max_minutes=self.max_minutes,
            resume=resume,
            force=self.force,
            progress=shows_progress(),
            device=self.device,
        )
        if workers.is_first:
            nearest = _memorization(data, density, seed)
            values = {"run": self.out, **density_values(density), "nearest_training_row": nearest}
            result(f"{density.summary()}\n{nearest}", values)
            say(f"saved in {self.out}")

    def _declared(self) -> dict[str, dict[str, Any]]:
        """Declared properties of columns, as ``load_dataset`` takes them."""
        declared: dict[str, dict[str, Any]] = {name: {"kind": "categorical"} for name in self.categorical}
        for text in self.bounds:
            name, ends = _bounds(text)
            declared[name] = {**declared.get(name, {}), **ends}
        return declared

    def _print_plan(self, data: Dataset, seed: int) -> None:
        place = None if self.device is None else find_device(self.device)
        check_minutes(self.max_minutes)
        plan = plan_fit(
            data, usual_settings(data, self.settings), seed=seed, device=place, max_minutes=self.max_minutes
        )
        say(plan.table.describe())
        values = {"out": str(self.out), "seed": seed, **plan.settings.to_dict()}
        result(json.dumps(values, indent=1), values)
        if self.preset is not None:
            say(find_preset(self.preset).describe())
        if plan.is_over_images:
            say(footprint(plan).describe())
            check_memory(plan)


@dataclasses.dataclass
class Demo(OnDevice):
    """Fit a bundled real data set, compare it with other estimators on the same split and transform, and write a page."""

    out: Path = Path("runs/demo")
    """Folder to save the run in."""
    source: str = "digits"
    """Data set to fit."""
    seed: int | None = None
    """Seed of the split, the fit and the estimates. By default one is drawn and printed."""
    max_minutes: float = 3.0
    """Time to aim at for the fit, in minutes."""
    force: bool = False
    """Overwrite the run in the folder."""

    def run(self) -> None:
        """Run the demonstration.

        Raises:
            NumericalError: A likelihood that cannot be used; the report is written all the same.
        """
        seed = printed_seed(self.seed)
        done = run_demo(
            self.source,
            self.out,
            seed=seed,
            max_minutes=self.max_minutes,
            force=self.force,
            progress=shows_progress(),
            device=self.device,
        )
        result(done.text, {"run": self.out, "seed": seed, **done.values})
        if done.verdict in UNUSABLE_VERDICTS:  # a doubtful number has an interval that covers the doubt
            raise NumericalError(f"the verdict on log Z is {done.verdict}: see the report for the reasons")


def _memorization(data: Dataset, density: Density, seed: int) -> str:
    """One line about the distance of samples to training rows, against that of test rows."""
    train, test = complete_rows(data.train), complete_rows(data.test)
    if not (len(train) and len(test)):
        return "nearest training row: not searched for, since no row is complete"
    table = prepare_table(data, density.settings.transform)
    noisy = table.rows(test, generator=torch.Generator().manual_seed(seed))
    check = memorization_check(density.pool[: len(data.test) * 4], train, noisy)
    return (
        f"nearest training row: samples {check.sample_distance:.3g}, test {check.test_distance:.3g}; {check.conclusion}"
    )


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
