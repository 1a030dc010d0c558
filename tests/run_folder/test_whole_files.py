"""Files are whole or as they were, at every fault of the disk."""

import errno
import os
import stat
import threading

import numpy as np
import pytest
from safetensors import SafetensorError

from drl_density.errors import RunFolderError
from drl_density.run_folder.whole_files import sync_folder, write_bytes, write_whole

CALLS = ("open", "write", "fsync", "close", "replace")


def failing(monkeypatch, name, code, *, after=0):
    """The ``after``-th call of ``os.name`` fails; of a real file system, closing fails after the file is closed."""
    real, count = getattr(os, name), iter(range(10**6))

    def call(*args, **kwargs):
        if next(count) == after:
            if name == "close":
                real(*args)
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES])
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("is_new", [True, False])
def test_a_fault_leaves_the_old_file(name, code, is_new, tmp_path, monkeypatch):
    target = tmp_path / "page.html"
    if not is_new:
        target.write_text("old")
    with monkeypatch.context() as patch:
        failing(patch, name, code)
        with pytest.raises(RunFolderError, match=f"cannot write {target}: {os.strerror(code)}") as caught:
            write_bytes(target, b"new content")
    assert ("untouched" in str(caught.value)) is not is_new
    assert [item.read_text() for item in tmp_path.iterdir()] == ([] if is_new else ["old"])


def test_a_fault_after_the_move_does_not_call_the_old_content_untouched(tmp_path, monkeypatch):
    target = tmp_path / "page.html"
    target.write_text("old")
    failing(monkeypatch, "fsync", errno.EIO, after=1)
    with pytest.raises(RunFolderError, match="is written, but the disk reports"):
        write_bytes(target, b"new")
    assert target.read_text() == "new"


def test_what_cannot_be_flushed_is_written_all_the_same(tmp_path, monkeypatch):
    failing(monkeypatch, "fsync", errno.EINVAL)
    write_bytes(tmp_path / "a", b"new")
    failing(monkeypatch, "fsync", errno.EINVAL)
    sync_folder(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("No space left")])
def test_a_fault_of_another_writer(error, tmp_path):
    target = tmp_path / "weights.safetensors"
    target.write_text("old")

    def write(part):
        part.write_text("half")
        raise error

    with pytest.raises(RunFolderError, match="No space left.*untouched"):
        write_whole(target, write)
    assert [item.read_text() for item in tmp_path.iterdir()] == ["old"]


def test_a_kill_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "page.html"
    target.write_text("old")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(target, b"new")
    assert [item.read_text() for item in tmp_path.iterdir()] == ["old"]


def test_short_writes_are_continued(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, content: real(handle, content[:3]))
    write_bytes(tmp_path / "a", memoryview(np.arange(10, dtype=np.uint8)))
    assert (tmp_path / "a").read_bytes() == bytes(range(10))


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "real" / "table.csv")
    write_bytes(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "real" / "table.csv").read_bytes() == b"new"


def test_a_pipe_is_written_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write_bytes(pipe, b"new")
    reader.join()
    assert found == [b"new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    write_bytes("/dev/null", b"new")
    write_whole("/dev/null", lambda part: part.write_bytes(b"new"))
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(RunFolderError, match="Is a directory"):
        write_bytes(tmp_path, b"new")
