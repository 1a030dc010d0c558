"""Finished densities in run folders: writing and reading their values, and how far a run has come."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import torch

from drl_density.datasets import Column
from drl_density.density.data_units import freeze
from drl_density.density.fitted import FittedModel
from drl_density.density.model_state import members_from_values, members_to_values
from drl_density.density.provenance import Baselines, Provenance
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.errors import RunFolderError
from drl_density.model import EnergySequence
from drl_density.run_folder import RunFolder
from drl_density.samplers import ProgressivePlan
from drl_density.schedule import NoiseSchedule
from drl_density.transforms import transform_from_state
from drl_density.weights import LogPartitionEstimate


def run_stage(path: str | Path) -> Literal["none", "begun", "saved", "finished"]:
    """How far the run in a folder has come: "begun" without a state to resume from, "saved" with one.

    Args:
        path: folder of the run.

    Raises:
        RunFolderError: damaged or foreign settings.

    >>> run_stage("nowhere")
    'none'
    """
    folder = RunFolder(path)
    if not folder.settings.is_file():
        return "none"
    if folder.read_json(folder.settings).get("stage") == "finished":
        return "finished"
    return "saved" if folder.state.is_file() else "begun"


def save_density(density: FittedModel, path: str | Path, *, force: bool = False) -> Path:
    """Write a density to a new run folder.

    Raises:
        RunFolderError: a folder that holds a run, without ``force``, or a full disk.
    """
    folder = RunFolder.create(path, force=force)
    write_density(folder, density, rows=None)
    return folder.path


def read_density(path: str | Path) -> dict[str, Any]:
    """The values of a finished density, by field name of :class:`~drl_density.density.fitted.FittedModel`.

    Raises:
        RunFolderError: missing, foreign, damaged or unfinished run folder.
    """
    folder = RunFolder.open(path)
    values = folder.read_json(folder.settings)
    if values.get("stage") != "finished":
        raise RunFolderError(
            f"the run in {path} is not finished: resume it with drl-density fit ... --out {path} --resume"
        )
    tensors, _ = folder.read_tensors(folder.weights)
    try:
        plan = values["plan"]
        return {
            "model": freeze(_model_from(values["model"], _under(tensors, "model."))),
            "transform": transform_from_state(values["transform"], _under(tensors, "transform.")),
            "estimate": LogPartitionEstimate.from_state(values["estimate"], _under(tensors, "estimate.")),
            "event_shape": tuple(values["event_shape"]),
            "columns": tuple(_column(record) for record in values["columns"]),
            "settings": FitSettings.from_dict(values["fit"]),
            "plan": ProgressivePlan(tuple(plan["levels"]), tuple(plan["step_sizes"]), plan["final_step_size"]),
            "pool": tensors["pool"],
            "baselines": Baselines(**values["baselines"]),
            "history": folder.read_dataset(folder.history),
            "provenance": Provenance.from_dict(values["provenance"]),
        }
    except (KeyError, TypeError, RuntimeError) as error:
        raise RunFolderError(f"{path}: the run is damaged or of another version ({error!r})") from error


def write_density(folder: RunFolder, density: FittedModel, *, rows: str | None) -> None:
    """Write a density into an open folder.

    Args:
        folder: folder to write into.
        density: the finished density.
        rows: fingerprint of the training rows where the density was fitted in this folder, else None.
    """
    transform, transform_tensors = density.transform.to_state()
    estimate, estimate_tensors = density.estimate.to_state()
    tensors = {f"model.{name}": value for name, value in density.model.state_dict().items()}
    tensors |= {f"transform.{name}": value for name, value in transform_tensors.items()}
    tensors |= {f"estimate.{name}": value for name, value in estimate_tensors.items()}
    tensors |= {"pool": density.pool, "model.log_snr": density.model.schedule.log_snr}
    folder.write_tensors(folder.weights, tensors)
    folder.write_dataset(folder.history, density.history)
    folder.write_json(
        folder.settings,
        {
            "stage": "finished",
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
    lists = {name: tuple(record[name]) for name in ("piles", "values")}
    return Column(**{**record, **lists, "categories": labels})


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
