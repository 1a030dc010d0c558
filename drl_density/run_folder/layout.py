"""Names of the files in a run folder, and how the files of a run differ from those of its user."""

from __future__ import annotations

import fnmatch
from pathlib import Path

FORMAT_VERSION = 3
"""Version of the files in a run folder; a folder of any other version is refused."""

SETTINGS = "settings.json"
"""The file that makes a folder a run folder."""
FILES = (
    SETTINGS,
    "history.nc",
    "report.nc",
    "report.html",
    "generator.safetensors",
    "training_state.safetensors",
    "weights.safetensors",
)
"""Files of a run, in the order in which a new run's take the place of the old one's: a reader compares the first and the
last."""
PATTERNS = ("diagnosis_*.nc", "figure_*.png", "replicate_[0-9][0-9][0-9][0-9].safetensors")
"""Names of files that a run may have several of: diagnoses, figures of the demonstration, replicates of an annealing run."""

LOCK = ".lock"
"""File that is locked while a run is written; it holds the name of the process that writes."""
INCOMING, WHOLE, MOVING = ".incoming", ".whole", ".moving"
"""Folders of a new run: being written, complete, and with its files on their way to their places."""


def is_run_file(name: str) -> bool:
    """Whether a run writes files of this name.

    >>> is_run_file("diagnosis_level_0.nc"), is_run_file("notes.txt")
    (True, False)
    """
    return name in FILES or any(fnmatch.fnmatchcase(name, pattern) for pattern in PATTERNS)


def is_part(name: str) -> bool:
    """Whether a file of this name is the unfinished part of a file, left behind by a write that was killed.

    >>> is_part(".settings.json.1f2e3d4c.json"), is_part(".gitignore")
    (True, False)
    """
    whole = name[1:].rsplit(".", 2)[0]
    return name.startswith(".") and is_run_file(whole)


def run_files(path: Path) -> list[Path]:
    """Files of a run in a folder, in the order of :data:`FILES` and then by name.

    Args:
        path: location of the folder, which may be missing.
    """
    found = [item for item in _inside(path) if is_run_file(item.name)]
    return sorted(found, key=lambda item: (FILES.index(item.name) if item.name in FILES else 1, item.name))


def parts(path: Path) -> list[Path]:
    """Unfinished files in a folder, left behind by writes that were killed."""
    return [item for item in _inside(path) if is_part(item.name)]


def own_entries(path: Path) -> list[Path]:
    """Everything in a folder that neither a run nor its user put there: the lock, unfinished files, a new run's folders."""
    hidden = (LOCK, INCOMING, WHOLE, MOVING)
    return [item for item in _inside(path) if item.name in hidden or is_part(item.name)]


def _inside(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else []
