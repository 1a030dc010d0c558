"""Commands around the model: ``distill``, ``guide`` and ``reconstruct``."""

from __future__ import annotations

import dataclasses
import io
import math
import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from drl_density.cli.command import OnDevice, printed_seed
from drl_density.cli.output import result, say
from drl_density.cli.reading import ReadsTable
from drl_density.cli.tables import estimate_values, load_run
from drl_density.datasets import read_rows
from drl_density.density import Density, DistillSettings, ReconstructSettings
from drl_density.density.storage.fit_rows import load_fit_rows
from drl_density.errors import DataError
from drl_density.operators import Blur, Downsample, LinearOperator, Mask, MaskedFourier
from drl_density.reports import figure_to_png
from drl_density.run_folder import RunFolder, refuse_occupied, write_bytes

# What an .npz file of a measurement names its operator, and how it is made of that array.
OPERATORS = {
    "mask": lambda part: Mask(_chosen(part)),
    "kernel": lambda part: Blur(part.double()),
    "factor": lambda part: Downsample(_whole(part)),
    "sampling": lambda part: MaskedFourier(_chosen(part)),
}


@dataclasses.dataclass
class Distill(OnDevice, ReadsTable):
    """Train a generator that needs few network calls per draw; ``sample --method generator`` draws from it.

    A generator is not the density of the run: its draws have no log density, and are marked as draws of a generator.
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run."""
    source: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[TABLE]")] = None
    """Table with the columns of the fit, for mmd. By default the training rows of the fit."""
    seed: int | None = None
    """Seed of the training. By default one is drawn and printed."""
    settings: Annotated[DistillSettings, tyro.conf.arg(name="")] = dataclasses.field(default_factory=DistillSettings)
    """Method and sizes of the distillation."""

    def run(self) -> None:
        """Train and write."""
        with RunFolder.writing(self.run_folder) as folder:
            density, rows = load_run(self.run_folder, self.device), None
            if self.settings.method == "mmd" or self.source is not None:  # "em" refuses a table
                rows = self._rows(density)
            seed = printed_seed(self.seed)
            made = density.distill(rows, settings=self.settings, seed=seed)
            replaced = ", in place of the generator before" if folder.generator.exists() else ""
            made.save(self.run_folder)
        share = max(1, len(made.losses) // 10)
        first, last = (sum(part) / share for part in (made.losses[:share], made.losses[-share:]))
        what = "squared discrepancy" if self.settings.method == "mmd" else "squared correction"
        values = {"run": self.run_folder, "seed": seed, "method": self.settings.method, "what": what}
        result(f"{made}: {what} {first:.4g} at first, {last:.4g} at last", values | {"first": first, "last": last})
        say(f"saved in {self.run_folder}{replaced}; draw with drl-density sample {self.run_folder} --method generator")

    def _rows(self, density: Density) -> torch.Tensor:
        if self.source is None:
            return load_fit_rows(density.provenance).train
        return read_rows(self.source, density.columns, reading=self.reading_for(density))


@dataclasses.dataclass
class Guide(OnDevice):
    """Write the density of one label as a run of its own, which every other command reads."""

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run fitted with --settings.network.num-classes."""
    label: Annotated[int, tyro.conf.Positional, tyro.conf.arg(metavar="LABEL")]
    """Label of the density to write."""
    weight: float = 0.0
    """Guidance weight. 0 gives the density of the label, and larger weights give a sharper one."""
    seed: int | None = None
    """Seed of the annealing and the draws. By default one is drawn and printed."""
    out: Path = Path("runs/guided")
    """Folder to save the new run in."""
    force: bool = False
    """Overwrite the run in that folder."""

    def run(self) -> None:
        """Normalise, draw and write."""
        refuse_occupied(self.out, force=self.force)
        density, seed = load_run(self.run_folder, self.device), printed_seed(self.seed)
        made = density.guided(self.label, weight=self.weight, seed=seed)
        made.save(self.out, force=self.force)
        values = {"run": self.out, "seed": seed, "label": self.label, "weight": self.weight}
        result(
            f"label {self.label}, guidance {self.weight:g}: {made.estimate}", values | estimate_values(made.estimate)
        )
        say(f"saved in {self.out}; draw with drl-density sample {self.out}")


@dataclasses.dataclass
class Reconstruct(OnDevice):
    """Draw rows that explain a linear measurement, with the density as prior; writes draws, mean and uncertainty.

    The file holds ``y`` and one of ``mask`` (observed entries), ``kernel`` (circular blur), ``factor`` (block means) or
    ``sampling`` (measured frequencies, boolean), all in data units.
    """

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run."""
    measurements: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """File in .npz format with the measurement and its operator."""
    method: Literal["posterior", "dps", "projected"] = "posterior"
    """Sampler. posterior is consistent; dps and projected are fast and biased."""
    noise: float | None = None
    """Standard deviation of the measurement noise. Required by posterior. By default the other methods use none."""
    num_samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 200
    """Number of draws."""
    steps: int = 200
    """Number of steps of dps and projected."""
    image_shape: tuple[int, ...] | None = None
    """Height and width of a row as the image that the operator acts on. By default the shape of the fit."""
    seed: int | None = None
    """Seed of the draws. By default one is drawn and printed."""
    out: Path = Path("reconstruction.npz")
    """File to write: draws, mean, standard_deviation, lower and upper (90 %). For images, a picture is added."""

    def run(self) -> None:
        """Reconstruct and write."""
        density = load_run(self.run_folder, self.device)
        shape = tuple(self.image_shape or density.event_shape)
        name, operator, y = read_measurement(self.measurements)
        if math.prod(shape) == len(density.columns):
            check_measurement((self.measurements, name), operator, y, shape)
        seed = printed_seed(self.seed)
        found = density.reconstruct(
            operator,
            y,
            noise=self.noise,
            num_samples=self.num_samples,
            image_shape=self.image_shape,
            settings=ReconstructSettings(self.method, num_steps=self.steps),
            seed=seed,
        )
        lower, upper = found.interval(0.9)
        parts = {"mean": found.mean, "standard_deviation": found.standard_deviation, "lower": lower, "upper": upper}
        arrays: dict[str, Any] = {"draws": found.draws.numpy()} | {name: part.numpy() for name, part in parts.items()}
        archive = io.BytesIO()
        np.savez(archive, **arrays)
        write_bytes(self.out, archive.getvalue())
        values = {"out": self.out, "seed": seed, "method": found.method, "misfit": found.misfit}
        values |= {"mean": found.mean, "standard_deviation": found.standard_deviation}
        result(found.summary(), values)
        if len(shape) == 2:
            from drl_density.plots import plot_maps

            picture = self.out.with_suffix(".png")
            axes = plot_maps({name: parts[name].reshape(shape) for name in ("mean", "standard_deviation")})
            write_bytes(picture, figure_to_png(axes[0].figure))  # pyright: ignore[reportArgumentType]
            say(f"picture: {picture}")
        say(f"written: {self.out}")


def read_measurement(path: Path) -> tuple[str, LinearOperator, torch.Tensor]:
    """The name of the operator in an .npz file, the operator, and the measurement.

    Raises:
        DataError: no such file, no ``y``, or not exactly one operator.
    """
    if not path.is_file():
        raise DataError(f"there is no file {str(path)!r}")
    try:
        if not zipfile.is_zipfile(path):  # np.load reads other files too, and returns an array of one
            raise zipfile.BadZipFile
        with np.load(path, allow_pickle=False) as stored:
            parts: dict[str, Any] = {name: torch.as_tensor(stored[name]) for name in stored.files}
    except (OSError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} cannot be read: expected an .npz archive of arrays of numbers, 'y' and an operator"
        ) from error
    named = [name for name in OPERATORS if name in parts]
    if "y" not in parts or len(named) != 1:
        raise DataError(
            f"{path}: expected y and exactly one of {', '.join(OPERATORS)}; it holds {', '.join(parts) or 'nothing'}"
        )
    if not bool(parts["y"].isfinite().all()):
        raise DataError(f"{path}: y must be finite numbers; a mask or sampling leaves out what was not measured")
    try:
        return named[0], OPERATORS[named[0]](parts[named[0]]), parts["y"]
    except ValueError as error:
        raise DataError(f"{path}: {named[0]}: {error}") from error


def _chosen(part: torch.Tensor) -> torch.Tensor:
    """An array that chooses entries, as booleans."""
    if part.dtype != torch.bool and not bool(((part == 0) | (part == 1)).all()):
        raise ValueError("expected booleans, or 0 and 1")
    return part.bool()


def _whole(part: torch.Tensor) -> int:
    """An array of one whole number."""
    if part.numel() != 1 or float(part) != int(part):
        raise ValueError(f"expected one whole number, got {part.tolist()}")
    return int(part)


def check_measurement(
    source: tuple[Path, str], operator: LinearOperator, y: torch.Tensor, shape: tuple[int, ...]
) -> None:
    """Refuse an operator that rows of ``shape`` do not fit, or a ``y`` that is not of the shape it measures; ``source`` is
    the file and the operator's name in it.

    Raises:
        DataError: naming the file and the part of it.
    """
    path, name = source
    hint = "give --image-shape where the operator sees a row as an image"
    try:
        expected = operator.forward(torch.zeros(1, *shape, dtype=torch.float64))
    except ValueError as error:
        raise DataError(f"{path}: {name} does not fit rows of shape {shape}: {error}; {hint}") from error
    if y.shape != expected.shape[1:] or y.is_complex() != expected.is_complex():
        kind = "complex" if expected.is_complex() else "real"
        raise DataError(
            f"{path}: y must be {kind}, of shape {tuple(expected.shape[1:])}, which is what {name} measures of rows of "
            f"shape {shape}; got {y.dtype} {tuple(y.shape)}; {hint}"
        )
