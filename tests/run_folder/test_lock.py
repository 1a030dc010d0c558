"""One writer at a time, in threads and processes; whoever is kept out learns who writes."""

import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from drl_density.errors import DataWarning, RunFolderError
from drl_density.run_folder import FolderLock
from drl_density.run_folder.layout import LOCK

HOLDER = """
import sys, time
from drl_density.run_folder import FolderLock
lock = FolderLock(sys.argv[1]).acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_a_thread_may_take_it_again_and_another_may_not(tmp_path):
    first = FolderLock(tmp_path).acquire()
    with FolderLock(tmp_path):
        pass
    assert first.is_held
    with ThreadPoolExecutor(1) as other:
        with pytest.raises(RunFolderError, match=rf"process {os.getpid()} on .* \(this one, since 20"):
            other.submit(FolderLock(tmp_path, patience=0).acquire).result()
        first.release()
        first.release()
        other.submit(lambda: FolderLock(tmp_path, patience=0).acquire().release()).result()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLDER, str(tmp_path), "--some-option"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(
            RunFolderError, match=rf"{tmp_path} is being written by process {process.pid} on .*--some-opt"
        ):
            FolderLock(tmp_path, patience=0).acquire()
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK).is_file()
    with FolderLock(tmp_path, patience=0) as lock:
        assert lock.is_held
    assert not lock.is_held
    assert list(tmp_path.iterdir()) == []


def test_an_unsigned_lock_is_another_process(tmp_path):
    with FolderLock(tmp_path), ThreadPoolExecutor(1) as other:
        (tmp_path / LOCK).write_text("")
        with pytest.raises(RunFolderError, match="is being written by another process"):
            other.submit(FolderLock(tmp_path, patience=0).acquire).result()


def test_a_file_system_without_locks_is_noted(tmp_path, monkeypatch):
    def missing(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", missing)
    with pytest.warns(DataWarning, match="has no locks.*no other process"), FolderLock(tmp_path):
        pass


def test_folders_that_cannot_be_written_are_named(tmp_path, monkeypatch):
    with pytest.raises(RunFolderError, match="cannot write to .*missing: there is no such folder"):
        FolderLock(tmp_path / "missing").acquire()
    assert list(tmp_path.iterdir()) == []

    def refused(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("filelock.FileLock.acquire", refused)
    with pytest.raises(RunFolderError, match="cannot write to .*: Read-only file system"):
        FolderLock(tmp_path).acquire()
