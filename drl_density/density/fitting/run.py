"""The run folder of a fit: saving while it trains, resuming, and the comparison with what is asked for."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drl_density.datasets import Dataset
from drl_density.density.fitted import FittedModel
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.density.storage import run_stage, write_density
from drl_density.errors import RunFolderError
from drl_density.run_folder import RunFolder
from drl_density.training import SaveState, TrainingState, history_dataset


class TrainingFolder:
    """A run folder while training goes on; a member of an ensemble keeps its own state under a prefix."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.tensors: dict[str, torch.Tensor] = {}
        self.values: dict[str, Any] = {}
        if folder.state.is_file():
            self.tensors, self.values = folder.read_tensors(folder.state)

    @classmethod
    def prepare(cls, path: str | Path, *, resume: bool, force: bool) -> TrainingFolder:
        """Open the folder to resume, or make a new one; a run killed before it wrote anything starts from its beginning."""
        if resume and not RunFolder.is_blank(path):
            return cls(RunFolder.open(path))
        return cls(RunFolder.create(path, force=force))

    def saved(self, dataset: Dataset, asked: FitSettings, *, seed: int) -> FitSettings | None:
        """Settings of the run being resumed; None when it was killed before it wrote any.

        Args:
            dataset: rows that training would go on with.
            asked: settings asked for now; those left at their default do not count, nor does the number of steps.
            seed: asked for now.

        Raises:
            RunFolderError: when the run was begun with another seed, other rows or other settings, or is a density that was
                written there without being fitted there.
        """
        path = self.folder.path
        if not self.folder.settings.is_file():
            return None
        values = self.folder.read_json(self.folder.settings)
        if self.is_finished and values.get("rows") is None:
            raise RunFolderError(
                f"{path} holds a finished density that was not fitted there: load it, or start anew with --force"
            )
        try:
            settings, began_with = FitSettings.from_dict(values["fit"]), values["seed"]
        except (KeyError, TypeError) as error:
            raise RunFolderError(f"{self.folder.settings} is damaged or of another version ({error!r})") from error
        if began_with != seed:
            raise RunFolderError(
                f"the run in {path} was begun with seed {began_with}, now asked for {seed}: give the same"
            )
        if values.get("rows", _fingerprint(dataset)) != _fingerprint(dataset):
            raise RunFolderError(
                f"the run in {path} was begun on other rows, or another split or treatment of them: give the same data, "
                "seed and options, or start anew with --force"
            )
        other = _differences(asked, settings)
        if other:
            raise RunFolderError(f"the run in {path} was begun with other settings: {'; '.join(other)}")
        return settings

    @property
    def is_finished(self) -> bool:
        """Whether the density is there already, as when a run is killed after its last write and started again."""
        return run_stage(self.folder.path) == "finished"

    def begin(self, dataset: Dataset, settings: FitSettings, *, seed: int) -> None:
        """Write what a resumed run must know before the first step."""
        self.folder.write_json(
            self.folder.settings,
            {
                "stage": "training",
                "fit": settings.to_dict(),
                "seed": seed,
                "source": dataset.source,
                "rows": _fingerprint(dataset),
            },
        )

    def saver(self, name: str) -> SaveState:
        """A callback that writes one member's state, and the history of the first."""
        prefix = f"{name}/"

        def save(tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
            self.tensors |= {prefix + key: tensor for key, tensor in tensors.items()}
            self.values[prefix] = scalars
            self.folder.write_tensors(self.folder.state, self.tensors, self.values)
            self.folder.write_dataset(self.folder.history, history_dataset(scalars["history"]))

        return save

    def restore(self, state: TrainingState, name: str) -> None:
        """Put back one member's saved state, if there is one."""
        prefix = f"{name}/"
        if prefix in self.values:
            own = {key[len(prefix) :]: tensor for key, tensor in self.tensors.items() if key.startswith(prefix)}
            state.load_tensors(own, self.values[prefix])

    def finish(self, density: FittedModel) -> None:
        """Write the finished density, with what a run started once more is compared with."""
        write_density(self.folder, density, rows=self.folder.read_json(self.folder.settings).get("rows"))


def _fingerprint(dataset: Dataset) -> str:
    """A digest of all rows in their split, their weights and columns."""
    digest = hashlib.sha256(repr((dataset.columns, dataset.event_shape)).encode())
    weights = (dataset.weights, dataset.validation_weights)
    for part in (dataset.train, dataset.validation, dataset.test, *weights):
        digest.update(b"none" if part is None else part.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _differences(asked: FitSettings, saved: FitSettings) -> list[str]:
    """Settings asked for (not left at their default) that the saved ones do not have, in words."""
    found = []
    plain = FitSettings()
    for one, other, usual in (
        (asked, saved, plain),
        (asked.training, saved.training, plain.training),
        (asked.images, saved.images, plain.images),
    ):
        for field in dataclasses.fields(usual):
            wanted, kept = getattr(one, field.name), getattr(other, field.name)
            if field.name not in ("training", "images", "num_steps") and wanted not in (
                getattr(usual, field.name),
                kept,
            ):
                found.append(f"{field.name} was {kept}, now asked for {wanted}")
    return found
