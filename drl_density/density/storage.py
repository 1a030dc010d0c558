"""Run folders of a fit: saving as training goes, resuming, and the finished density."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from drl_density.datasets import Column, Dataset
from drl_density.density.ensemble import members_from_values, members_to_values
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.errors import RunFolderError
from drl_density.model import EnergySequence
from drl_density.run_folder import SETTINGS, RunFolder
from drl_density.samplers import ProgressivePlan
from drl_density.schedule import NoiseSchedule
from drl_density.training import SaveState, TrainingState, history_dataset
from drl_density.transforms import transform_from_state, transform_to_state
from drl_density.weights import LogPartitionEstimate

if TYPE_CHECKING:
    from drl_density.density.fitted import Density

WEIGHTS, STATE, HISTORY = "weights.safetensors", "training_state.safetensors", "history.nc"


class TrainingFolder:
    """A run folder while training goes on; a member of an ensemble keeps its own state under a prefix."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.tensors: dict[str, torch.Tensor] = {}
        self.values: dict[str, Any] = {}
        if folder.has(STATE):
            self.tensors, self.values = folder.read_tensors(STATE)

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
        if not self.folder.has(SETTINGS):
            return None
        values = self.folder.read_json(SETTINGS)
        if self.is_finished and values.get("rows") is None:
            raise RunFolderError(
                f"{path} holds a finished density that was not fitted there: load it, or start anew with --force"
            )
        try:
            settings, began_with = FitSettings.from_dict(values["fit"]), values["seed"]
        except (KeyError, TypeError) as error:
            raise RunFolderError(f"{path}: {SETTINGS} is damaged or of another version ({error!r})") from error
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
            SETTINGS,
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
            self.folder.write_tensors(STATE, self.tensors, self.values)
            self.folder.write_dataset(HISTORY, history_dataset(scalars["history"]))

        return save

    def restore(self, state: TrainingState, name: str) -> None:
        """Put back one member's saved state, if there is one."""
        prefix = f"{name}/"
        if prefix in self.values:
            own = {key[len(prefix) :]: tensor for key, tensor in self.tensors.items() if key.startswith(prefix)}
            state.load_tensors(own, self.values[prefix])

    def finish(self, density: Density) -> None:
        """Write the finished density, with what a run started once more is compared with."""
        _write_density(self.folder, density, rows=self.folder.read_json(SETTINGS).get("rows"))


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


def run_stage(path: str | Path) -> Literal["none", "begun", "saved", "finished"]:
    """How far the run in a folder has come: "begun" without a state to go on from, "saved" with one.

    Args:
        path: of the run folder.

    Raises:
        RunFolderError: damaged or foreign settings.

    >>> run_stage("nowhere")
    'none'
    """
    folder = RunFolder(path)
    if not folder.has(SETTINGS):
        return "none"
    if folder.read_json(SETTINGS).get("stage") == "finished":
        return "finished"
    return "saved" if folder.has(STATE) else "begun"


def save_density(density: Density, path: str | Path, *, force: bool = False) -> Path:
    """Write a density into a new run folder.

    Raises:
        RunFolderError: if the folder holds a run and ``force`` is not given, or the disk is full.
    """
    folder = RunFolder.create(path, force=force)
    _write_density(folder, density, rows=None)
    return folder.path


def load_density(path: str | Path) -> Density:
    """Read a finished density.

    Raises:
        RunFolderError: missing, foreign, damaged or unfinished run folder.
    """
    from drl_density.density.fitted import Baselines, Density, freeze

    folder = RunFolder.open(path)
    values = folder.read_json(SETTINGS)
    if values.get("stage") != "finished":
        raise RunFolderError(f"the run in {path} is not finished: go on with drl-density fit ... --out {path} --resume")
    tensors, _ = folder.read_tensors(WEIGHTS)
    try:
        settings = FitSettings.from_dict(values["fit"])
        return Density(
            model=freeze(_model_from(values["model"], _under(tensors, "model."))),
            transform=transform_from_state(values["transform"], _under(tensors, "transform.")),
            estimate=LogPartitionEstimate.from_state(values["estimate"], _under(tensors, "estimate.")),
            event_shape=tuple(values["event_shape"]),
            columns=tuple(_column(record) for record in values["columns"]),
            settings=settings,
            plan=ProgressivePlan(**{k: tuple(v) if isinstance(v, list) else v for k, v in values["plan"].items()}),
            pool=tensors["pool"],
            baselines=Baselines(**values["baselines"]),
            history=folder.read_dataset(HISTORY),
            details=values["details"],
        )
    except (KeyError, TypeError, RuntimeError) as error:
        raise RunFolderError(f"{path}: the run is damaged or of another version ({error!r})") from error


def _write_density(folder: RunFolder, density: Density, *, rows: str | None) -> None:
    """``rows`` tells the fit's data apart where it was fitted in this folder; None elsewhere."""
    transform, transform_tensors = transform_to_state(density.transform)
    estimate, estimate_tensors = density.estimate.to_state()
    tensors = {f"model.{name}": value for name, value in density.model.state_dict().items()}
    tensors |= {f"transform.{name}": value for name, value in transform_tensors.items()}
    tensors |= {f"estimate.{name}": value for name, value in estimate_tensors.items()}
    tensors |= {"pool": density.pool, "model.log_snr": density.model.schedule.log_snr}
    folder.write_tensors(WEIGHTS, tensors)
    folder.write_dataset(HISTORY, density.history)
    folder.write_json(
        SETTINGS,
        {
            "stage": "finished",
            "fit": density.settings.to_dict(),
            "seed": density.details.get("seed"),
            "source": density.details.get("source", ""),
            "model": members_to_values(density.model),
            "transform": transform,
            "estimate": estimate,
            "event_shape": list(density.event_shape),
            "columns": [dataclasses.asdict(column) for column in density.columns],
            "plan": dataclasses.asdict(density.plan),
            "baselines": dataclasses.asdict(density.baselines),
            "details": density.details,
            "rows": rows,
        },
    )


def _model_from(values: dict[str, Any], tensors: dict[str, torch.Tensor]) -> EnergySequence:
    model = members_from_values(values, NoiseSchedule(tensors.pop("log_snr")))
    model.load_state_dict(tensors)
    return model


def _column(record: dict[str, Any]) -> Column:
    categories = record["categories"]
    labels = None if categories is None else tuple(categories)
    return Column(**{**record, "categories": labels, "piles": tuple(record["piles"])})


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
