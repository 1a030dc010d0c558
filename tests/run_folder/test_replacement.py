"""A replaced run is the old one or the new one at every moment, whatever fails."""

import errno
import os

import pytest

from drl_density.errors import RunFolderError
from drl_density.run_folder.replacement import Replacement, is_incomplete, settle
from tests.run_folder.failing_disk import FailingDisk

OLD = {"settings.json": "old", "weights.safetensors": "old", "report.nc": "old", "diagnosis_level_0.nc": "old"}
NEW = {"settings.json": "new", "weights.safetensors": "new", "history.nc": "new"}
MINE = {"notes.txt": "mine"}


def write(folder, files):
    for name, text in files.items():
        (folder / name).write_text(text)


def contents(folder):
    return {item.name: item.read_text() for item in folder.iterdir() if item.is_file()}


class Killed(BaseException):
    """Stands for a kill."""


def replace(folder):
    replacement = Replacement(folder)
    write(replacement.incoming, NEW)
    replacement.commit()


def number_of_calls(tmp_path, monkeypatch):
    folder = tmp_path / "counted"
    folder.mkdir()
    write(folder, OLD)
    with monkeypatch.context() as patch:
        disk = FailingDisk(patch)
        replace(folder)
    return disk.count


@pytest.mark.parametrize("for_good", [False, True])
@pytest.mark.parametrize("kind", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT, "kill"])
def test_any_fault_leaves_the_old_run_or_the_new_one(kind, for_good, tmp_path, monkeypatch):
    error = Killed() if kind == "kill" else OSError(kind, os.strerror(kind))
    found = set()
    for at in range(number_of_calls(tmp_path, monkeypatch)):
        folder = tmp_path / str(at)
        folder.mkdir()
        write(folder, OLD | MINE)
        said = ""
        with monkeypatch.context() as patch:
            FailingDisk(patch, at, error, for_good=for_good)
            try:
                replace(folder)
            except (RunFolderError, Killed) as caught:
                said = str(caught)
        settle(folder)
        assert not is_incomplete(folder)
        now = contents(folder)
        assert now in (OLD | MINE, NEW | MINE), at
        if "untouched" in said:
            assert now == OLD | MINE
        if "is complete" in said or (not said and kind != "kill"):
            assert now == NEW | MINE
        found.add(now["settings.json"])
    assert found == {"old", "new"}


def test_remains_of_a_killed_replacement_are_swept(tmp_path):
    write(tmp_path, OLD)
    first = Replacement(tmp_path)
    write(first.incoming, {"report.html": "of a killed one"})
    replace(tmp_path)
    assert contents(tmp_path) == NEW
    assert sorted(item.name for item in tmp_path.iterdir()) == sorted(NEW)


def test_a_discarded_replacement_leaves_nothing(tmp_path):
    write(tmp_path, OLD)
    replacement = Replacement(tmp_path)
    write(replacement.incoming, NEW)
    replacement.discard()
    assert contents(tmp_path) == OLD
    assert not replacement.incoming.exists()


def test_parts_of_files_do_not_come_along(tmp_path):
    replacement = Replacement(tmp_path)
    write(replacement.incoming, NEW | {".weights.safetensors.ab.safetensors": "half"})
    replacement.commit()
    assert contents(tmp_path) == NEW


def test_settling_what_is_settled_does_nothing(tmp_path):
    settle(tmp_path / "missing")
    write(tmp_path, OLD)
    settle(tmp_path)
    assert contents(tmp_path) == OLD
