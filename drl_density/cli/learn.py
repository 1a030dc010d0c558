"""Commands that learn: ``fit`` and ``demo``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import torch
import tyro

from drl_density.cli.demo import run_demo
from drl_density.cli.tables import OnDevice, complete_rows
from drl_density.datasets import Dataset, Split, load_dataset, memorization_check
from drl_density.density import FitSettings, fit
from drl_density.density.fitting.memory import check_memory, footprint
from drl_density.density.fitting.table import prepare_table
from drl_density.density.settings.presets import find_preset
from drl_density.devices import find_device
from drl_density.errors import UNUSABLE_VERDICTS, DataError, NumericalError
from drl_density.parallel import Workers, joined_workers, num_restarts
from drl_density.run_folder import RunFolder


@dataclasses.dataclass
class Fit(OnDevice):
    """Learn a density from a table, small images or a toy, and save it in a run folder."""

    source: Annotated[str, tyro.conf.Positional]
    """A file (.csv, .tsv, .parquet, .npy, .npz, .nc), a folder of images, idx files, a bundled set (digits, wine, ...), or
    a toy (eight_gaussians, ...)."""
    out: Path = Path("runs/fit")
    """Run folder."""
    seed: int = 0
    """Of the split, the network and training."""
    drop: tuple[str, ...] = ()
    """Columns to leave out."""
    bounds: tuple[str, ...] = ()
    """Declared bounds, one NAME=LOWER:UPPER per column; an end may be left out (age=0: share=0:1)."""
    missing: str = "refuse"
    """Rows with holes: refuse, drop (the rows), or draw (their missing cells from the model while it is fitted)."""
    group: str | None = None
    """Column whose equal values stay on one side of the split."""
    time: str | None = None
    """Column by which the latest rows become the test."""
    weights: str | None = None
    """Column of row weights."""
    image_size: int | None = None
    """Pixels a side to which image files are scaled."""
    max_minutes: float | None = None
    """Bound on the whole fit."""
    resume: bool = False
    """Go on with the run in the folder."""
    force: bool = False
    """Overwrite the run in the folder."""
    dry_run: bool = False
    """Print the resolved settings, for image networks also size, memory and estimated time, and stop."""
    preset: str | None = None
    """Settings of a paper's experiment or of a small image fit (cifar10, celeba64, mnist, digits, images, ...); what
    is given under --settings wins over it."""
    settings: FitSettings = dataclasses.field(default_factory=FitSettings)
    """Choices of the fit; see --help for each."""

    def run(self) -> None:
        """Fit, save, and say what came out; under torchrun by all processes together."""
        with joined_workers() as workers:
            self._run(workers)

    def _run(self, workers: Workers) -> None:
        split = Split(seed=self.seed, group=self.group, time=self.time, weights=self.weights)
        columns = dict(_bounds(text) for text in self.bounds)
        data = load_dataset(
            self.source,
            split=split,
            columns=columns,
            drop=self.drop,
            missing=self.missing,
            image_size=self.image_size,
        )
        if workers.is_first:
            print(data.describe())
        if self.dry_run:
            self._print_settings(data)
            return
        # Started anew by torchrun after a process died, the run goes on where it was saved.
        is_restart = num_restarts() > 0 and RunFolder(self.out).settings.is_file()
        density = fit(
            data,
            seed=self.seed,
            out=self.out,
            settings=self.settings,
            max_minutes=self.max_minutes,
            resume=self.resume or is_restart,
            force=self.force,
            device=self.device,
        )
        if not workers.is_first:
            return
        print(density.summary())
        samples = density.pool[: len(data.test) * 4]
        table = prepare_table(data, density.settings.transform)
        train, test = complete_rows(data.train), complete_rows(data.test)
        if len(train) and len(test):
            check = memorization_check(samples, train, table.rows(test, torch.Generator().manual_seed(self.seed)))
            print(
                f"nearest training row: samples {check.sample_distance:.3g}, test {check.test_distance:.3g}; "
                f"{check.conclusion}"
            )
        else:
            print("nearest training row: not looked for, as no row is complete")
        print(f"saved in {self.out}")

    def _print_settings(self, data: Dataset) -> None:
        table = prepare_table(data, self.settings.transform, base=self.settings.base)
        num_features = data.train[0].numel()
        settings = self.settings.resolve(
            len(data.train), num_features, table.bases.sigma_min, event_shape=data.event_shape
        )
        print(table.describe())
        print(json.dumps({"out": str(self.out), "seed": self.seed, **settings.to_dict()}, indent=1))
        if self.preset is not None:
            print(find_preset(self.preset).describe())
        if settings.is_over_images:
            place = None if self.device is None else find_device(self.device)
            print(footprint(settings, place).describe())
            check_memory(settings, place)


@dataclasses.dataclass
class Demo(OnDevice):
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
        done = run_demo(
            self.source,
            self.out,
            seed=self.seed,
            max_minutes=self.max_minutes,
            force=self.force,
            device=self.device,
        )
        print(done.text)
        if done.verdict in UNUSABLE_VERDICTS:  # a doubtful number has an interval that covers the doubt
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
