"""Finished row groups of a command, kept next to its output until all of them are there.

``scores.csv`` is made in the folder ``scores.csv.parts``. Each row group is a file there, written whole, and a record that
is written after it. An interrupted command continues behind the last record. At the end the files are joined, and the
folder goes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drl_density.datasets.tables.writing import TableWriter, join_tables, table_format
from drl_density.errors import DataError, RunFolderError
from drl_density.run_folder import FolderLock, write_bytes

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["PartFolder"]

VERSION = 1
"""Version of the records; parts of another version are not continued."""


class PartFolder:
    """The row groups of one command that are finished so far.

    Args:
        outputs: files to write, by name; the first is the one that the user names.
        job: everything that the rows depend on, as values that JSON can hold. Only parts of an equal job are continued.
        can_resume: whether the same rows can be read again; otherwise nothing is kept after an interruption.
    """

    def __init__(self, outputs: Mapping[str, Path], job: Mapping[str, Any], *, can_resume: bool = True) -> None:
        self.outputs, self.can_resume = dict(outputs), can_resume
        self.job = json.loads(json.dumps({"version": VERSION, **job}))
        self.path = part_path(next(iter(self.outputs.values())))
        self.figures: list[dict[str, Any]] = []
        self._lock = FolderLock(self.path)

    @property
    def num_finished(self) -> int:
        """Number of finished row groups."""
        return len(self.figures)

    def open(self, *, resume: bool) -> None:
        """Make the folder, or find what is finished in it.

        Args:
            resume: whether to continue; without it, finished row groups are refused rather than lost.

        Raises:
            DataError: finished row groups without ``resume``, or those of another job.
            RunFolderError: another process writes them, or the folder cannot be made.
        """
        if resume and not self.can_resume:
            raise DataError("standard input cannot be read again, so --resume needs a table in a file")
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"cannot make {self.path}: {error.strerror}") from error
        self._lock.acquire()
        try:
            self._find(resume=resume)
        except BaseException:  # an interruption by the keyboard releases the lock too
            self._lock.release()
            raise

    def _find(self, *, resume: bool) -> None:
        found = read_job(self.path)
        foreign = [item.name for item in self.path.iterdir() if not item.name.startswith(".")]
        if found is None and foreign:
            raise DataError(f"{self.path} holds {foreign[0]} and no row groups of ours; move it away")
        records = []
        while (record := self._record(len(records))).is_file():
            records.append(json.loads(record.read_text(encoding="utf-8")))
        if records and not resume:
            raise DataError(
                f"{self.path} holds {len(records)} finished row groups of an interrupted command: continue it with "
                "--resume, or delete the folder to start again"
            )
        if found is not None and records:
            self._refuse_another(found)
            self.figures = records
        else:
            write_bytes(self.path / "job.json", json.dumps(self.job).encode())

    def _refuse_another(self, found: Mapping[str, Any]) -> None:
        changed = [name for name in {**found, **self.job} if found.get(name) != self.job.get(name)]
        if changed:
            shown = "; ".join(f"{name} was {found.get(name)} and is {self.job.get(name)} now" for name in changed)
            raise DataError(
                f"cannot continue the row groups in {self.path}: {shown}. Give the same command, or delete the folder to "
                "start again"
            )

    def _record(self, index: int) -> Path:
        return self.path / f"{index:06d}.json"

    def _part(self, index: int, name: str) -> Path:
        return self.path / f"{index:06d}.{name}{table_format(self.outputs[name]).ending}"

    def add(
        self, tables: Mapping[str, pd.DataFrame], figures: Mapping[str, Any], schemas: Mapping[str, pa.Schema | None]
    ) -> None:
        """Write the next row group.

        Args:
            tables: its rows, by output.
            figures: numbers about it, for the last line of the command.
            schemas: Arrow schema that the rows of an output come from.

        Raises:
            RunFolderError: the disk is full.
        """
        index = self.num_finished
        for name, table in tables.items():
            writer = TableWriter(self._part(index, name), schema=schemas.get(name), has_header=index == 0)
            with writer:
                writer.append(table)
        record = json.dumps(dict(figures))
        write_bytes(self._record(index), record.encode())
        self.figures.append(json.loads(record))

    def join(self) -> None:
        """Write the outputs, each whole, and delete the folder.

        Raises:
            RunFolderError: the disk is full; the row groups stay.
        """
        for name, target in reversed(self.outputs.items()):
            join_tables([self._part(index, name) for index in range(self.num_finished)], target)
        self.delete()

    def close(self, *, is_hopeless: bool) -> None:
        """After a failure, keep what can be continued.

        Args:
            is_hopeless: whether the same command fails again, as after a fault in the table.
        """
        if is_hopeless or not self.can_resume or not self.num_finished:
            self.delete()
        else:
            self._lock.release()

    def delete(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()

    def advice(self) -> str:
        """What is kept and how to continue, to be appended to a message; empty where nothing is kept."""
        if not self.can_resume or not self.num_finished:
            return ""
        return (
            f"; {self.num_finished} row groups are finished in {self.path}: run the same command with --resume to continue"
        )


def part_path(target: Path) -> Path:
    """The folder in which ``target`` is made.

    >>> part_path(Path("scores.csv")).name
    'scores.csv.parts'
    """
    return target.with_name(f"{target.name}.parts")


def read_job(folder: Path) -> dict[str, Any] | None:
    """What the row groups in ``folder`` belong to; None where there are none."""
    try:
        found = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
