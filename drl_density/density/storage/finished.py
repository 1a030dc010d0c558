"""Finished densities in run folders: writing and reading their values, and how far a run has come."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from drl_density.datasets import Column
from drl_density.density.data_units import freeze
from drl_density.density.fitted import FittedModel
from drl_density.density.model_state import members_from_values, members_to_values
from drl_density.density.provenance import Baselines, Provenance
from drl_density.density.reference import ReferenceScores
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.errors import RunFolderError, see
from drl_density.model import EnergySequence
from drl_density.run_folder import RunFolder, is_incomplete, settle
from drl_density.samplers import LevelZeroPlan, ProgressivePlan
from drl_density.schedule import NoiseSchedule
from drl_density.transforms import transform_from_state
from drl_density.weights import LogPartitionEstimate

if TYPE_CHECKING:
    import xarray as xr

NUM_READS = 5
"""Attempts to read a run that is replaced at the same moment; each replacement takes milliseconds to move its files."""


def run_stage(path: str | Path) -> Literal["none", "begun", "saved", "finished"]:
    """How far the run in a folder has come: "begun" without a state to resume from, "saved" with one.

    Args:
        path: folder of the run.

    Raises:
        RunFolderError: damaged or foreign settings.

    >>> run_stage("nowhere")
    'none'
    """
    settle(path)
    folder = RunFolder(path)
    if not folder.settings.is_file():
        return "none"
    if folder.read_json(folder.settings).get("stage") == "finished":
        return "finished"
    return "saved" if folder.state.is_file() else "begun"


def save_density(density: FittedModel, path: str | Path, *, force: bool = False) -> Path:
    """Write a density to a new run folder; a run that it replaces stays until the new one is complete.

    Raises:
        RunFolderError: a folder that holds a run, without ``force``, another writer, or a full disk.
    """
    with RunFolder.replace(path, force=force) as folder:
        write_density(folder, density)
    return Path(path)


def read_density(path: str | Path) -> dict[str, Any]:
    """The values of a finished density, by field name of :class:`~drl_density.density.fitted.FittedModel`.

    Raises:
        RunFolderError: missing, foreign, damaged or unfinished run folder.
    """
    for _ in range(NUM_READS):
        folder = RunFolder.open(path)
        values = folder.read_json(folder.settings)
        if values.get("stage") != "finished":
            raise RunFolderError(
                f"the run in {path} is not finished: resume it with drl-density fit ... --out {path} --resume; "
                + see("Questions and answers", "Can a fit be interrupted?")
            )
        try:
            tensors, header = folder.read_tensors(folder.weights)
            history = folder.read_dataset(folder.history)
        except RunFolderError:
            if not is_replaced(folder, values):
                raise
            continue
        # Where a run is replaced, settings are moved first and weights last. So new weights mean that all is new, and
        # settings that are still the old ones mean that all is old.
        if values.get("id") == header.get("id") == folder.read_json(folder.settings).get("id"):
            return _density_values(path, values, tensors, history)
    raise RunFolderError(
        f"{path}: settings.json and weights.safetensors are of two different runs; if the run is being "
        "replaced, load it again once that is done"
    )


def is_replaced(folder: RunFolder, values: Mapping[str, Any]) -> bool:
    """Whether another run has begun to take the place of the one with these settings, whose files may be gone.

    Args:
        folder: folder of the run.
        values: settings of the run, as they were read.
    """
    # A file of the old run is deleted between two moments: the new one is complete, and its settings are in their place.
    return is_incomplete(folder.path) or folder.read_json(folder.settings) != values


def _density_values(
    path: str | Path, values: dict[str, Any], tensors: dict[str, torch.Tensor], history: xr.Dataset
) -> dict[str, Any]:
    try:
        words = values["reference"]
        return {
            "model": freeze(_model_from(values["model"], _under(tensors, "model."))),
            "transform": transform_from_state(values["transform"], _under(tensors, "transform.")),
            "estimate": LogPartitionEstimate.from_state(values["estimate"], _under(tensors, "estimate.")),
            "event_shape": tuple(values["event_shape"]),
            "columns": tuple(_column(record) for record in values["columns"]),
            "settings": FitSettings.from_dict(values["fit"]),
            "plan": _plan(values["plan"]),
            "pool": tensors["pool"],
            "baselines": Baselines(**values["baselines"]),
            "history": history,
            "provenance": Provenance.from_dict(values["provenance"]),
            "reference": None if words is None else ReferenceScores(words=words, **_under(tensors, "reference.")),
        }
    except (KeyError, TypeError, RuntimeError) as error:
        raise RunFolderError(f"{path}: the run is damaged or of another version ({error!r})") from error


def check_same_run(folder: RunFolder, density: FittedModel) -> None:
    """Refuse a folder whose density is another one, such as one that has been replaced in the meantime.

    Args:
        folder: folder of a finished run.
        density: the density whose folder it should be.

    Raises:
        RunFolderError: another density, or an unfinished run.
    """
    values = folder.read_json(folder.settings)
    own = [density.estimate.to_state()[0], density.provenance.to_dict()]
    stored = [values.get("estimate"), values.get("provenance")]
    if json.dumps(stored, sort_keys=True) != json.dumps(own, sort_keys=True):  # as text, in which NaN equals NaN
        raise RunFolderError(f"{folder.path} holds another density than the one that this was made from")


def write_density(folder: RunFolder, density: FittedModel, *, begun: Mapping[str, Any] | None = None) -> None:
    """Write a density into an open folder.

    Args:
        folder: folder to write into.
        density: the finished density.
        begun: what the settings held at the beginning where the density was fitted in this folder, else None.

    Raises:
        RunFolderError: a full disk.
    """
    transform, transform_tensors = density.transform.to_state()
    estimate, estimate_tensors = density.estimate.to_state()
    tensors = {f"model.{name}": value for name, value in density.model.state_dict().items()}
    tensors |= {f"transform.{name}": value for name, value in transform_tensors.items()}
    tensors |= {f"estimate.{name}": value for name, value in estimate_tensors.items()}
    tensors |= {"pool": density.pool, "model.log_snr": density.model.schedule.log_snr}
    reference, own_id = density.reference, secrets.token_hex(8)
    if reference is not None:
        tensors |= {"reference.log_density": reference.log_density, "reference.profile": reference.profile}
    folder.write_tensors(folder.weights, tensors, {"id": own_id})
    folder.write_dataset(folder.history, density.history)
    folder.write_json(
        folder.settings,
        {
            "stage": "finished",
            "id": own_id,
            "fit": density.settings.to_dict(),
            "seed": density.provenance.seed,
            "model": members_to_values(density.model),
            "transform": transform,
            "estimate": estimate,
            "event_shape": list(density.event_shape),
            "columns": [dataclasses.asdict(column) for column in density.columns],
            "plan": dataclasses.asdict(density.plan),
            "baselines": dataclasses.asdict(density.baselines),
            "provenance": density.provenance.to_dict(),
            "reference": None if reference is None else reference.words,
            "rows": None if begun is None else begun.get("rows"),
            "launch": None if begun is None else begun.get("launch"),
        },
    )


def _model_from(values: dict[str, Any], tensors: dict[str, torch.Tensor]) -> EnergySequence:
    model = members_from_values(values, NoiseSchedule(tensors.pop("log_snr")))
    model.load_state_dict(tensors)
    return model


def _plan(values: dict[str, Any]) -> LevelZeroPlan:
    steps = values["progressive"]
    progressive = None
    if steps is not None:
        progressive = ProgressivePlan(tuple(steps["levels"]), tuple(steps["step_sizes"]), steps["final_step_size"])
    return LevelZeroPlan(**{**values, "progressive": progressive})


def _column(record: dict[str, Any]) -> Column:
    categories = record["categories"]
    labels = None if categories is None else tuple(categories)
    lists = {name: tuple(record[name]) for name in ("piles", "values")}
    return Column(**{**record, **lists, "categories": labels})


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
