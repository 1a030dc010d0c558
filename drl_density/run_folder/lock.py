"""The lock that a process holds while it writes a run, so that two writers do not mix."""

from __future__ import annotations

import errno
import json
import os
import shlex
import socket
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from drl_density.errors import DataWarning, RunFolderError
from drl_density.run_folder.layout import LOCK
from drl_density.run_folder.whole_files import reason

PATIENCE = 0.5
"""Seconds to wait for another writer; enough for one that only finishes a move of files."""
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
"""Errors of a file system without locks."""
LONGEST_COMMAND = 200
"""Characters of a command line that a message shows."""

_held: dict[tuple[str, int], list[Any]] = {}
_guard = threading.Lock()


class FolderLock:
    """Exclusive right to write a run; readers need none.

    The thread that holds it may take it again. The operating system releases it when the process ends, however it ends.

    Args:
        path: location of the folder, which exists.
        patience: seconds to wait while another process or thread holds it.

    >>> import tempfile
    >>> with FolderLock(tempfile.mkdtemp()) as lock:
    ...     lock.is_held
    True
    """

    def __init__(self, path: str | Path, *, patience: float = PATIENCE) -> None:
        self.path, self.patience = Path(path), patience
        self._key = (os.path.realpath(path), 0)
        self.is_held = False

    def acquire(self) -> Self:
        """Take the lock.

        Raises:
            RunFolderError: another process or thread holds it, or the folder cannot be written.
        """
        self._key = (os.path.realpath(self.path), threading.get_ident())
        with _guard:
            held = _held.get(self._key)
            if held is not None:
                held[1] += 1
                self.is_held = True
                return self
        lock = self._take()
        with _guard:
            _held[self._key] = [lock, 1]
        self.is_held = True
        return self

    def release(self) -> None:
        """Give the lock back; without effect where it is not held."""
        if not self.is_held:
            return
        self.is_held = False
        with _guard:
            held = _held[self._key]
            held[1] -= 1
            if held[1]:
                return
            del _held[self._key]
        if held[0] is not None:
            with suppress(OSError):
                # Removed while it is locked: whoever waits for this file finds that it is gone, and makes a new one.
                self._file.unlink(missing_ok=True)
            with suppress(OSError):
                held[0].release()

    @property
    def _file(self) -> Path:
        return Path(self._key[0], LOCK)

    def _take(self) -> Any:
        """The lock of the operating system; None where the file system has none."""
        from filelock import FileLock, Timeout  # only writers need it

        if not self.path.is_dir():  # which the library would make
            raise RunFolderError(f"cannot write to {self.path}: there is no such folder")
        lock = FileLock(self._file, thread_local=False, fallback_to_soft=False)
        try:
            lock.acquire(timeout=self.patience, poll_interval=0.02)
        except Timeout as error:
            raise RunFolderError(
                f"{self.path} is being written by {self._holder()}: wait until it is done, or give another folder"
            ) from error
        except OSError as error:
            if error.errno in WITHOUT_LOCKS:
                warnings.warn(
                    f"the file system of {self.path} has no locks ({reason(error)}): make sure that no other process writes "
                    "to this run at the same time",
                    DataWarning,
                    stacklevel=4,
                )
                return None
            raise RunFolderError(f"cannot write to {self.path}: {reason(error)}") from error
        self._sign()
        return lock

    def _sign(self) -> None:
        """Write into the locked file who holds it; a full disk only makes the message of others less exact."""
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv else ""
        values = {
            "process": os.getpid(),
            "machine": socket.gethostname(),
            "command": command[:LONGEST_COMMAND],
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        with suppress(OSError):
            self._file.write_text(json.dumps(values), encoding="utf-8")

    def _holder(self) -> str:
        """The process that holds the lock, in words."""
        try:
            values = json.loads(self._file.read_text(encoding="utf-8"))
            whose = f"process {values['process']} on {values['machine']}"
            own = values["process"] == os.getpid() and values["machine"] == socket.gethostname()
            return f"{whose} ({'this one' if own else values['command']}, since {values['since']})"
        except (OSError, ValueError, KeyError, TypeError):  # not signed yet, or on a full disk
            return "another process"

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
