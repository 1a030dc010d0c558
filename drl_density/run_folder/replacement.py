"""A whole run that takes the place of another at one moment, although it consists of several files.

The new run is written into the folder ``.incoming`` inside the run folder. Its completion is one renaming, to ``.whole``:
before it, the folder holds the old run, and after it the new one. What follows only moves files, and whoever opens the
folder next completes it after a kill. Everything happens inside the run folder. So links to it, mounted volumes,
parents that cannot be written, and files of the user in it need no special care.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from drl_density.errors import RunFolderError
from drl_density.run_folder.layout import INCOMING, MOVING, WHOLE, is_run_file, run_files
from drl_density.run_folder.lock import FolderLock
from drl_density.run_folder.whole_files import reason, sync_folder

PATIENCE = 30.0
"""Seconds to wait for a process that is moving the files of a complete run to their places."""


class Replacement:
    """The folder of a new run, until it takes its place.

    Args:
        path: location of the run folder, which exists and is locked by the caller.

    Raises:
        RunFolderError: the folder cannot be written.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> new = Replacement(folder)
    >>> _ = (new.incoming / "settings.json").write_text("{}")
    >>> new.commit()
    >>> [item.name for item in folder.iterdir()]
    ['settings.json']
    """

    def __init__(self, path: Path) -> None:
        self.path, self.incoming = path, path / INCOMING
        try:
            if self.incoming.exists():  # of a process that was killed
                shutil.rmtree(self.incoming)
            self.incoming.mkdir()
        except OSError as error:
            raise RunFolderError(f"cannot write to {path}: {reason(error)}; the run in it is untouched") from error

    def commit(self) -> None:
        """Put the new run in the place of the old one, whose files are deleted.

        Raises:
            RunFolderError: the message says whether the old or the new run is there.
        """
        try:
            sync_folder(self.incoming)
            os.rename(self.incoming, self.path / WHOLE)
        except OSError as error:
            raise RunFolderError(
                f"cannot replace the run in {self.path}: {reason(error)}; the earlier run is untouched"
            ) from error
        complete(self.path)

    def discard(self) -> None:
        """Delete what was written of the new run; the old one stays."""
        shutil.rmtree(self.incoming, ignore_errors=True)


def is_incomplete(path: Path) -> bool:
    """Whether a complete run in this folder still has to be moved to its place.

    Args:
        path: location of the run folder.

    >>> import tempfile
    >>> is_incomplete(Path(tempfile.mkdtemp()))
    False
    """
    return (path / WHOLE).is_dir() or (path / MOVING).is_dir()


def settle(path: str | Path) -> None:
    """Complete a replacement that was interrupted, so that the files of the new run are in their places.

    Args:
        path: location of the run folder; nothing is done where it is missing, or nothing was interrupted.

    Raises:
        RunFolderError: the folder cannot be written, or another process has been at it for long.

    >>> import tempfile
    >>> settle(Path(tempfile.mkdtemp()))
    """
    path = Path(path)
    if is_incomplete(path):
        with FolderLock(path, patience=PATIENCE):
            complete(path)


def complete(path: Path) -> None:
    """Delete the files of the old run, and move those of the new one to their places.

    Args:
        path: location of the run folder, which the caller has locked.

    Raises:
        RunFolderError: the folder cannot be written; the new run is safe.
    """
    whole, moving = path / WHOLE, path / MOVING
    try:
        sync_folder(path)
        if moving.is_dir():
            _move(moving, path)
        if whole.is_dir():
            new = {item.name for item in whole.iterdir()}
            for item in run_files(path):
                if item.name not in new:
                    item.unlink(missing_ok=True)
            # From here on, a file that is missing in this folder is in its place, and not one of the old run.
            os.rename(whole, moving)
            sync_folder(path)
            _move(moving, path)
    except OSError as error:
        raise RunFolderError(
            f"the new run in {path} is complete and replaces the earlier one, but its files could not be moved to their "
            f"places: {reason(error)}; once the folder can be written, loading the run completes this"
        ) from error


def _move(moving: Path, path: Path) -> None:
    for item in run_files(moving):
        os.replace(item, path / item.name)
    sync_folder(path)
    for item in moving.iterdir():
        if not is_run_file(item.name):
            item.unlink()
    moving.rmdir()
