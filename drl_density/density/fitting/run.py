"""The run of a fit: its folder and its processes."""

from __future__ import annotations

import dataclasses
import secrets
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from tqdm import tqdm

from drl_density.datasets import Dataset
from drl_density.density.density import Density
from drl_density.density.fitting.plan import FitPlan
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.density.storage.training_folder import TrainingFolder
from drl_density.errors import RunFolderError
from drl_density.parallel import Workers
from drl_density.run_folder import FolderLock, RunFolder, refuse_occupied, settle
from drl_density.training import SaveState, TrainingState


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
        try:
            saved = folder.saved(dataset, settings, seed=seed) if folder is not None and resume else None
            is_finished = workers.broadcast(saved is not None and folder is not None and folder.is_finished)
            values = workers.broadcast(None if saved is None else saved.to_dict())
        except BaseException:  # an interruption by the keyboard releases the folder too
            if folder is not None:
                folder.close()
            raise
        return cls(
            settings=_sharded(settings, workers) if values is None else FitSettings.from_dict(values),
            workers=workers,
            out=None if out is None else Path(out),
            folder=folder,
            is_resumed=values is not None,
            is_finished=is_finished,
            shows_progress=progress and workers.is_first,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.folder is not None:
            self.folder.close(is_refused=kind is not None and issubclass(kind, Exception))

    def say(self, text: str) -> None:
        """Print a message above the progress bar."""
        if self.shows_progress:
            tqdm.write(text)

    def begin(self, plan: FitPlan) -> None:
        """Write what a resumed run needs; a run that is resumed has written it."""
        if self.folder is not None and not self.is_resumed:
            self.folder.begin(plan.table.dataset, plan.settings, seed=plan.seed)

    def restore(self, state: TrainingState, name: str) -> None:
        """Load the saved state of a member, if there is one."""
        if self.folder is not None:
            self.folder.restore(state, name)

    def has_state(self, name: str) -> bool:
        """Whether the state of a member, or of a later stage of it, is saved; the same in all processes."""
        return self.workers.broadcast(self.folder is not None and self.folder.has_state(name))

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


def refuse_folder(out: str | Path | None, *, resume: bool, force: bool) -> None:
    """Refuse a run folder that a fit cannot use, before any data are loaded; nothing is changed.

    Args:
        out: Location of the run folder, or None.
        resume: Whether the run in the folder is continued.
        force: Whether a run in the folder may be overwritten.

    Raises:
        RunFolderError: A folder that holds a run, is no run folder, is of another version, or is written by another
            process; with ``resume`` also one that is missing, or none at all.
    """
    if out is None and resume:
        raise RunFolderError("resume continues the run in a folder: give out=..., or leave resume out")
    if out is None or not Workers.current().is_first:
        return
    if resume and not RunFolder.is_blank(out):
        RunFolder.open(out)
    else:
        refuse_occupied(out, force=force)
    if Path(out).is_dir():
        with FolderLock(out):
            pass


def choose_seed(seed: int | None, *, out: str | Path | None = None, resume: bool = False) -> int:
    """The seed of a fit, the same in all processes.

    Args:
        seed: Seed asked for. None takes that of the run to be resumed, or else draws one.
        out: Location of the run folder, or None.
        resume: Whether the run in the folder is continued.
    """
    if out is not None:
        settle(out)
    if seed is None and resume and out is not None and RunFolder(out).settings.is_file():
        folder = RunFolder(out)
        seed = folder.read_json(folder.settings).get("seed")
    return Workers.current().broadcast(secrets.randbelow(2**31) if seed is None else seed)


def _sharded(settings: FitSettings, workers: Workers) -> FitSettings:
    """One shard of the batch for each process, unless more are asked for."""
    training = settings.training
    if workers.count == 1 or training.num_shards > 1:
        return settings
    return dataclasses.replace(settings, training=dataclasses.replace(training, num_shards=workers.count))
