"""Folders that hold the densities of all labels: one run folder for each, and the shares and the power in a file."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from drl_density.density.density import Density
from drl_density.density.fitted import FittedModel
from drl_density.density.storage.finished import save_density
from drl_density.errors import RunFolderError
from drl_density.run_folder import FORMAT_VERSION, write_bytes
from drl_density.run_folder.layout import is_run_file

CLASSES = "classes.json"
"""The file that makes a folder one of densities of labels; it is written last."""


def save_classes(
    densities: Mapping[int, FittedModel], shares: torch.Tensor, power: float, path: str | Path, *, force: bool = False
) -> Path:
    """Write densities of labels to a new folder, all at once; a folder that it replaces stays until the new one is complete.

    Args:
        densities: the density of the rows of each label.
        shares: probability of each label, ``(labels,)``.
        power: exponent of the likelihoods.
        path: folder to create.
        force: whether to overwrite a folder of densities of labels.

    Raises:
        RunFolderError: a path that exists, without ``force`` or where it holds anything but densities of labels, a folder
            that cannot be made, or a full disk.
    """
    target = Path(path)
    _refuse_occupied(target, force=force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise RunFolderError(f"cannot make a folder beside {target} ({error}); give another path") from error
    try:
        new, old = made / "new", made / "old"
        for label, density in densities.items():
            save_density(density, new / _name_of(label))
        values = {"format_version": FORMAT_VERSION, "labels": list(densities), "shares": shares.tolist(), "power": power}
        write_bytes(new / CLASSES, json.dumps(values, indent=2).encode())
        try:
            if target.exists():
                target.rename(old)
            new.rename(target)
        except BaseException as error:  # an interruption too: what is left beside the target is deleted below
            if old.exists():
                old.rename(target)
            if isinstance(error, OSError):
                raise RunFolderError(f"cannot move the densities to {target} ({error})") from error
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target


def read_classes(path: str | Path, *, device: str | torch.device | None = None) -> dict[str, Any]:
    """The values of densities of labels, by field name of :class:`ClassDensities`.

    Args:
        path: folder that :func:`save_classes` has written.
        device: device of the models.

    Raises:
        RunFolderError: a missing, foreign or damaged folder, or one of another version.
        ValueError: a device that this machine does not have.
    """
    source = Path(path) / CLASSES
    if not source.is_file():
        raise RunFolderError(f"{path} holds no {CLASSES}: give a folder that ClassDensities.save has written")
    try:
        values = json.loads(source.read_text(encoding="utf-8"))
        version, labels = values["format_version"], [int(label) for label in values["labels"]]
        shares, power = torch.tensor(values["shares"], dtype=torch.float64), float(values["power"])
        if not math.isfinite(power) or len(shares) != len(labels):
            raise ValueError(f"{len(shares)} shares of {len(labels)} labels, power {power}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{source} is damaged, or not ours ({error!r})") from error
    if version != FORMAT_VERSION:
        raise RunFolderError(
            f"{source} was written by another version of drl-density (format version {version}, this package reads version "
            f"{FORMAT_VERSION}): fit again"
        )
    densities = {label: Density.load(Path(path) / _name_of(label), device=device) for label in labels}
    return {"densities": densities, "shares": shares, "power": power}


def _refuse_occupied(target: Path, *, force: bool) -> None:
    """Refuses a path that exists, unless it is to be replaced and holds files of densities of labels alone."""
    if not target.exists():
        return
    if not (target / CLASSES).is_file():
        raise RunFolderError(f"{target} exists already: give another one")
    if not force:
        raise RunFolderError(f"{target} exists already: overwrite it with force=True, or give another one")
    files = [file.relative_to(target) for file in target.rglob("*") if not file.is_dir()]
    own = [file for file in files if not is_run_file(file.name) and str(file) != CLASSES]
    if own:
        raise RunFolderError(f"{target} holds {own[0]}, which would be lost: move it away, or give another folder")


def _name_of(label: int) -> str:
    """The folder of the density of a label."""
    return f"label_{label}"
