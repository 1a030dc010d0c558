"""The run of a fit: its folder, its processes, and the check of a resumed run against what is asked for."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from drl_density.datasets import Dataset
from drl_density.density.density import Density
from drl_density.density.fitting.plan import FitPlan
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.density.storage import run_stage, write_density
from drl_density.errors import RunFolderError
from drl_density.parallel import Workers
from drl_density.run_folder import RunFolder
from drl_density.training import SaveState, TrainingState, history_dataset


class TrainingFolder:
    """A run folder during training; each member of an ensemble keeps its own state under a prefix.

    Args:
        folder: Run folder, empty or with the state of an interrupted run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.tensors: dict[str, Tensor] = {}
        self.values: dict[str, Any] = {}
        if folder.state.is_file():
            self.tensors, self.values = folder.read_tensors(folder.state)

    @classmethod
    def prepare(cls, path: str | Path, *, resume: bool, force: bool) -> TrainingFolder:
        """Open the folder to resume, or make a new one; a run that was killed before it wrote anything starts afresh.

        Args:
            path: Location of the folder.
            resume: Opens a folder that holds a run.
            force: Overwrites a run in the folder.

        Raises:
            RunFolderError: A missing, foreign or damaged folder to resume, or a run that ``force`` may not overwrite.
        """
        if resume and not RunFolder.is_blank(path):
            return cls(RunFolder.open(path))
        return cls(RunFolder.create(path, force=force))

    def saved(self, dataset: Dataset, asked: FitSettings, *, seed: int) -> FitSettings | None:
        """Settings of the run being resumed; None where it was killed before it wrote any.

        Args:
            dataset: Rows that training would continue with.
            asked: Settings asked for now; defaults and the number of steps are not compared.
            seed: Seed asked for now.

        Raises:
            RunFolderError: The run began with another seed, other rows or other settings, or holds a density that was
                written there without being fitted there.
        """
        path, file = self.folder.path, self.folder.settings
        if not file.is_file():
            return None
        values = self.folder.read_json(file)
        if self.is_finished and values.get("rows") is None:
            raise RunFolderError(
                f"{path} holds a finished density that was not fitted there: load it, or overwrite it with --force"
            )
        try:
            settings, saved_seed = FitSettings.from_dict(values["fit"]), values["seed"]
        except (KeyError, TypeError, ValueError) as error:
            raise RunFolderError(f"{file} is damaged or of another version ({error!r})") from error
        if saved_seed != seed:
            raise RunFolderError(
                f"the run in {path} was begun with seed {saved_seed}, now asked for {seed}: give the same"
            )
        if values.get("rows", _fingerprint(dataset)) != _fingerprint(dataset):
            raise RunFolderError(
                f"the run in {path} was begun on other rows, or another split or treatment of them: give the same data, "
                "seed and options, or start again with --force"
            )
        other = differences(asked, settings)
        if other:
            raise RunFolderError(f"the run in {path} was begun with other settings: {'; '.join(other)}")
        return settings

    @property
    def is_finished(self) -> bool:
        """Whether the density is already there, as after a run that was killed past its last write."""
        return run_stage(self.folder.path) == "finished"

    def begin(self, plan: FitPlan) -> None:
        """Write what a resumed run needs, before the first step."""
        self.folder.write_json(
            self.folder.settings,
            {
                "stage": "training",
                "fit": plan.settings.to_dict(),
                "seed": plan.seed,
                "source": plan.table.dataset.source,
                "rows": _fingerprint(plan.table.dataset),
            },
        )

    def saver(self, name: str) -> SaveState:
        """A callback that writes one member's state and history."""
        prefix = f"{name}/"

        def save(tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
            self.tensors |= {prefix + key: tensor for key, tensor in tensors.items()}
            self.values[prefix] = scalars
            self.folder.write_tensors(self.folder.state, self.tensors, self.values)
            self.folder.write_dataset(self.folder.history, history_dataset(scalars["history"]))

        return save

    def restore(self, state: TrainingState, name: str) -> None:
        """Load one member's saved state into ``state``, if there is one."""
        prefix = f"{name}/"
        if prefix in self.values:
            own = {key[len(prefix) :]: tensor for key, tensor in self.tensors.items() if key.startswith(prefix)}
            state.load_tensors(own, self.values[prefix])

    def finish(self, density: Density) -> None:
        """Write the finished density, with the digest of its rows that a repeated run is compared with."""
        write_density(self.folder, density, rows=self.folder.read_json(self.folder.settings).get("rows"))


@dataclass(frozen=True)
class FitRun:
    """One opened run: what it was begun with, where it is saved, and the processes that work on it.

    Attributes:
        settings: Settings to plan with; those of the saved run when it is resumed.
        workers: Processes that train together.
        out: Location of the run folder, or None for a run that is not saved.
        folder: Folder to write to; only the first process has one.
        is_resumed: Whether the settings are those of a saved run.
        is_finished: Whether the folder already holds the finished density.
        shows_progress: Whether to print messages and a progress bar.
    """

    settings: FitSettings
    workers: Workers
    out: Path | None
    folder: TrainingFolder | None
    is_resumed: bool
    is_finished: bool
    shows_progress: bool

    @classmethod
    def open(
        cls,
        dataset: Dataset,
        settings: FitSettings,
        *,
        seed: int,
        out: str | Path | None,
        resume: bool,
        force: bool,
        progress: bool,
    ) -> FitRun:
        """Open the folder of a run, if it has one, and check it against what is asked for.

        Args:
            dataset: Rows of the fit.
            settings: Settings asked for.
            seed: Seed asked for.
            out: Location of the run folder, or None.
            resume: Continues the run in the folder.
            force: Overwrites the run in the folder.
            progress: Prints messages and a progress bar.

        Raises:
            RunFolderError: A folder that cannot be used, or a saved run that differs from what is asked for.
        """
        workers = Workers.current()
        folder = (
            None if out is None or not workers.is_first else TrainingFolder.prepare(out, resume=resume, force=force)
        )
        saved = folder.saved(dataset, settings, seed=seed) if folder is not None and resume else None
        is_finished = workers.broadcast(saved is not None and folder is not None and folder.is_finished)
        values = workers.broadcast(None if saved is None else saved.to_dict())
        return cls(
            settings=_sharded(settings, workers) if values is None else FitSettings.from_dict(values),
            workers=workers,
            out=None if out is None else Path(out),
            folder=folder,
            is_resumed=values is not None,
            is_finished=is_finished,
            shows_progress=progress and workers.is_first,
        )

    def say(self, text: str) -> None:
        """Print a message above the progress bar."""
        if self.shows_progress:
            tqdm.write(text)

    def begin(self, plan: FitPlan) -> None:
        """Write what a resumed run needs; a run that is resumed has written it."""
        if self.folder is not None and not self.is_resumed:
            self.folder.begin(plan)

    def restore(self, state: TrainingState, name: str) -> None:
        """Load the saved state of a member, if there is one."""
        if self.folder is not None:
            self.folder.restore(state, name)

    def saver(self, name: str) -> SaveState | None:
        """A callback that saves the state of a member, or None for a run without folder."""
        return None if self.folder is None else self.folder.saver(name)

    def finish(self, density: Density) -> None:
        """Write the finished density, where the run has a folder."""
        if self.folder is not None:
            self.folder.finish(density)

    def load(self, device: torch.device | None) -> Density:
        """The finished density from the run folder.

        Raises:
            RunFolderError: A run without folder, or a damaged one.
        """
        if self.out is None:
            raise RunFolderError("this run has no folder to load a density from: give out=...")
        return Density.load(self.out, device=device)


def choose_seed(seed: int | None, *, out: str | Path | None = None, resume: bool = False) -> int:
    """The seed of a fit, the same in all processes.

    Args:
        seed: Seed asked for. None takes that of the run to be resumed, or else draws one.
        out: Location of the run folder, or None.
        resume: Whether the run in the folder is continued.
    """
    if seed is None and resume and out is not None and RunFolder(out).settings.is_file():
        folder = RunFolder(out)
        seed = folder.read_json(folder.settings).get("seed")
    return Workers.current().broadcast(secrets.randbelow(2**31) if seed is None else seed)


def differences(asked: FitSettings, saved: FitSettings) -> list[str]:
    """Settings asked for, other than defaults, that the saved ones do not have.

    The number of steps is not compared, since a time limit changes it.

    >>> differences(FitSettings(num_networks=2), FitSettings())
    ['num_networks was 1, now asked for 2']
    """
    return _differing("", asked, saved, FitSettings())


def _differing(path: str, asked: Any, saved: Any, usual: Any) -> list[str]:
    """Differences of two settings objects in fields whose asked value is not the usual one."""
    if asked == usual:
        return []
    if type(asked) is not type(saved):
        return [f"{path} was {saved.kind}, now asked for {asked.kind}"]
    if type(asked) is not type(usual):
        usual = type(asked)()
    found = []
    for field in dataclasses.fields(asked):
        name = f"{path}.{field.name}" if path else field.name
        wanted, kept, default = (getattr(part, field.name) for part in (asked, saved, usual))
        if dataclasses.is_dataclass(wanted):
            found += _differing(name, wanted, kept, default)
        elif name != "training.num_steps" and wanted not in (default, kept):
            found.append(f"{name} was {kept}, now asked for {wanted}")
    return found


def _sharded(settings: FitSettings, workers: Workers) -> FitSettings:
    """One shard of the batch for each process, unless more are asked for."""
    training = settings.training
    if workers.count == 1 or training.num_shards > 1:
        return settings
    return dataclasses.replace(settings, training=dataclasses.replace(training, num_shards=workers.count))


def _fingerprint(dataset: Dataset) -> str:
    """A digest of all rows in their split, with their weights and columns."""
    digest = hashlib.sha256(repr((dataset.columns, dataset.event_shape)).encode())
    weights = (dataset.weights, dataset.validation_weights)
    for part in (dataset.train, dataset.validation, dataset.test, *weights):
        digest.update(b"none" if part is None else part.contiguous().numpy().tobytes())
    return digest.hexdigest()
