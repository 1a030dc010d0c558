"""The folder of a fit in progress: what a resumed fit needs, and when an earlier run gives way to it."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from drl_density.datasets import Dataset
from drl_density.density.fitted import FittedModel
from drl_density.density.provenance import RowDigest
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.density.storage.finished import run_stage, write_density
from drl_density.errors import RunFolderError
from drl_density.parallel import launch_name
from drl_density.run_folder import FolderLock, Replacement, RunFolder
from drl_density.training import SaveState, TrainingState, history_dataset
from drl_density.training.state import Record

HISTORY_SHARE = 0.02
"""Share of the time of training that the file of the history may take; the state is saved at every evaluation."""


class TrainingFolder:
    """A run folder during training; each member of an ensemble keeps its own state under a prefix.

    It is locked until :meth:`close`. A run that is overwritten stays in the folder until the new one has its first saved
    state.

    Args:
        folder: Run folder, empty or with the state of an interrupted run.
        lock: Lock of the run folder, which is held.
        replacement: Files of a new run that have not taken the place of an earlier one yet.
        made: Folders that were made for the run, from the innermost.
    """

    def __init__(
        self, folder: RunFolder, lock: FolderLock, replacement: Replacement | None = None, *, made: Sequence[Path] = ()
    ) -> None:
        self.folder, self.lock, self.replacement, self.made = folder, lock, replacement, made
        self.tensors: dict[str, Tensor] = {}
        self.values: dict[str, Any] = {}
        self.history_due = -math.inf
        if folder.state.is_file():
            self.tensors, self.values = folder.read_tensors(folder.state)

    @classmethod
    def prepare(cls, path: str | Path, *, resume: bool, force: bool) -> TrainingFolder:
        """Open the folder to resume, or make a new one; a run that was killed before it wrote anything starts again.

        Args:
            path: Location of the folder.
            resume: Opens a folder that holds a run.
            force: Overwrites a run in the folder.

        Raises:
            RunFolderError: A missing, foreign or damaged folder to resume, or a run that ``force`` may not overwrite.
        """
        made = [folder for folder in (Path(path), *Path(path).parents) if not folder.exists()]
        if not (resume and not RunFolder.is_blank(path)):
            RunFolder.occupy(path, force=force)
        elif not RunFolder(path).path.is_dir():
            RunFolder.open(path)
        lock = FolderLock(path).acquire()
        try:
            # Looked at under the lock, since another process may have written a run in the meantime.
            if resume and not RunFolder.is_blank(path):
                return cls(RunFolder.open(path), lock)
            folder = RunFolder.occupy(path, force=force)
            folder.sweep()
            if not folder.settings.is_file():
                return cls(folder, lock, made=made)
            replacement = Replacement(folder.path)
            return cls(RunFolder(replacement.incoming), lock, replacement)
        except BaseException:  # an interruption by the keyboard releases the lock too
            lock.release()
            raise

    def close(self, *, is_refused: bool = False) -> None:
        """Release the lock. Where the new run has no saved state yet, it is deleted, and an earlier one stays.

        Args:
            is_refused: Whether the fit ended by an error. The folders that it made are then deleted if they are empty.
        """
        if self.replacement is not None:
            self.replacement.discard()
            self.replacement = None
        self.lock.release()
        for folder in self.made if is_refused else ():
            with suppress(OSError):  # not empty
                folder.rmdir()

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
            settings, saved_seed, rows = FitSettings.from_dict(values["fit"]), values["seed"], values["rows"]
        except (KeyError, TypeError, ValueError) as error:
            raise RunFolderError(f"{file} is damaged or of another version ({error!r})") from error
        if saved_seed != seed:
            raise RunFolderError(
                f"the run in {path} was begun with seed {saved_seed}, now asked for {seed}: give the same"
            )
        if rows != _fingerprint(dataset):
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

    def begin(self, dataset: Dataset, settings: FitSettings, *, seed: int) -> None:
        """Write what a resumed run needs, before the first step.

        Args:
            dataset: Rows of the fit.
            settings: Resolved settings of the fit.
            seed: Seed of the fit.

        Raises:
            RunFolderError: A full disk.
        """
        values = {
            "stage": "training",
            "fit": settings.to_dict(),
            "seed": seed,
            "source": dataset.source,
            "rows": _fingerprint(dataset),
            "launch": launch_name(),
        }
        with self._explained("the settings"):
            self.folder.write_json(self.folder.settings, values)

    def saver(self, name: str) -> SaveState:
        """A callback that writes one member's state and history."""
        prefix = f"{name}/"

        def save(tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
            self.tensors |= {prefix + key: tensor for key, tensor in tensors.items()}
            self.values[prefix] = scalars
            with self._explained("the state of this evaluation"):
                self.folder.write_tensors(self.folder.state, self.tensors, self.values)
                self._write_history(scalars["history"])
            self.take_place()

        return save

    def _write_history(self, records: list[Record]) -> None:
        """Write the history, unless that would take more than :data:`HISTORY_SHARE` of the time since it was written last.

        The state holds the history too, so a resumed run has all of it; the file is for a reader of a run that trains.
        """
        begun = time.monotonic()
        if begun >= self.history_due:
            self.folder.write_dataset(self.folder.history, history_dataset(records))
            self.history_due = begun + (time.monotonic() - begun) / HISTORY_SHARE

    def has_state(self, name: str) -> bool:
        """Whether the state of this name is saved."""
        return f"{name}/" in self.values

    def restore(self, state: TrainingState, name: str) -> None:
        """Load one member's saved state into ``state``, if there is one."""
        if self.has_state(name):
            prefix = f"{name}/"
            own = {key[len(prefix) :]: tensor for key, tensor in self.tensors.items() if key.startswith(prefix)}
            state.load_tensors(own, self.values[prefix])

    def take_place(self) -> None:
        """Replace the earlier run in the folder, if there is one, by what was written of this one."""
        if self.replacement is not None:
            replacement, self.replacement = self.replacement, None
            self.folder = RunFolder(replacement.path)
            try:
                replacement.commit()
            finally:
                replacement.discard()

    def finish(self, density: FittedModel) -> None:
        """Write the finished density, with the digest of its rows that a repeated run is compared with."""
        with self._explained("the finished density"):
            write_density(self.folder, density, begun=self.folder.read_json(self.folder.settings))
        self.take_place()

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Adds to an error of a write what is whole and how to continue."""
        try:
            yield
        except RunFolderError as error:
            path = self.lock.path
            if self.replacement is not None:
                words = f"nothing of the new run was saved, and the earlier run in {path} is untouched"
            elif self.folder.state.is_file():
                words = (
                    f"training is saved up to its last complete state: make room, and continue with --resume in {path}"
                )
            else:
                words = f"nothing of the run in {path} was saved: make room, and start it again"
            raise RunFolderError(f"{what} could not be saved: {error}. {words[0].upper()}{words[1:]}") from error


def was_begun_here(path: str | Path) -> bool:
    """Whether this command began the run in a folder, and not an earlier one; restarts by ``torchrun`` count as one command.

    Args:
        path: Location of the folder; a missing or damaged one, or one of another version, was begun by another command.
    """
    folder = RunFolder(path)
    try:
        return folder.read_json(folder.settings).get("launch") == launch_name()
    except RunFolderError:
        return False


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


def _fingerprint(dataset: Dataset) -> str:
    """A digest of all rows in their split, with their weights and columns."""
    described = (dataset.columns, dataset.event_shape, RowDigest.of(dataset).digest)
    return hashlib.sha256(repr(described).encode()).hexdigest()
