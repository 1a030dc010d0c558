"""Files that are written completely or not at all, whatever the disk does."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from drl_density.errors import RunFolderError

UNSYNCABLE = (errno.EINVAL, errno.ENOTSUP)
"""Errors of what cannot be flushed, such as a pipe, or a folder of some file systems; it is as durable as they make it."""


def write_whole(target: str | Path, write: Callable[[Path], Any]) -> None:
    """Write a file whole or not at all: on failure, an existing file keeps its content.

    ``write`` fills a temporary file in the same folder, which then replaces the target in one move. A link is followed. A
    device or a pipe is written directly.

    Args:
        target: path of the file.
        write: called with the path of the temporary file.

    Raises:
        RunFolderError: the folder is missing, permission is denied, or the disk is full.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "page.html"
    >>> write_whole(target, lambda part: part.write_text("whole"))
    >>> target.read_text()
    'whole'
    """

    def fill(handle: int, part: Path) -> None:
        write(part)
        if part.is_file():  # which a library may have made again, readable by its owner alone
            os.chmod(part, os.fstat(handle).st_mode & 0o777)
        with part.open("rb") as stream:
            _sync(stream.fileno())

    _write(Path(target), fill)


def write_bytes(target: str | Path, content: bytes | memoryview) -> None:
    """Write bytes whole or not at all, as :func:`write_whole` does.

    Args:
        target: path of the file.
        content: everything that the file will hold.

    Raises:
        RunFolderError: the folder is missing, permission is denied, or the disk is full.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "page.html"
    >>> write_bytes(target, b"whole")
    >>> target.read_text()
    'whole'
    """

    def fill(handle: int, part: Path) -> None:
        rest = memoryview(content)
        while len(rest):
            rest = rest[os.write(handle, rest) :]
        _sync(handle)

    _write(Path(target), fill)


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to the disk, where its file system can.

    Args:
        path: location of the folder.

    Raises:
        OSError: the disk reports a failure.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that may be written and not read
        return
    try:
        _sync(handle)
    finally:
        os.close(handle)


def _sync(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNSYNCABLE:
            raise


def reason(error: BaseException) -> str:
    """An error in words, without the paths of temporary files."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return words.splitlines()[0] if words else type(error).__name__


def _write(target: Path, fill: Callable[[int, Path], None]) -> None:
    place = Path(os.path.realpath(target))
    had_content = place.exists()
    if had_content and not place.is_file() and not place.is_dir():
        return _write_directly(target, place, fill)
    part = place.with_name(f".{place.name}.{secrets.token_hex(4)}{place.suffix or '.part'}")
    try:
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        raise RunFolderError(f"cannot write {target}: {reason(error)}{_kept(had_content)}") from error
    is_open, is_placed = True, False
    try:
        fill(handle, part)
        is_open = False
        os.close(handle)
        os.replace(part, place)
        is_placed = True
        sync_folder(place.parent)
    except (OSError, SafetensorError) as error:
        if is_placed:
            words = f"{target} is written, but the disk reports {reason(error)!r}: it may not survive a power failure"
            raise RunFolderError(words) from error
        raise RunFolderError(f"cannot write {target}: {reason(error)}{_kept(had_content)}") from error
    finally:
        if is_open:
            with suppress(OSError):
                os.close(handle)
        if not is_placed:
            with suppress(OSError):
                part.unlink(missing_ok=True)
    return None


def _write_directly(target: Path, place: Path, fill: Callable[[int, Path], None]) -> None:
    """Write to a device or a pipe, which must not be replaced by a file."""
    try:
        handle = os.open(place, os.O_WRONLY)
        try:
            fill(handle, place)
        finally:
            os.close(handle)
    except OSError as error:
        raise RunFolderError(f"cannot write {target}: {reason(error)}") from error


def _kept(had_content: bool) -> str:  # noqa: FBT001
    return "; its earlier content is untouched" if had_content else ""
