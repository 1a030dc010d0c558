"""A disk whose calls fail at a chosen moment."""

import os

from safetensors import SafetensorError
from safetensors.torch import save_file

CALLS = ("open", "write", "fsync", "close", "replace", "rename", "mkdir", "unlink", "rmdir")


class FailingDisk:
    """Counts the calls that change files; the chosen one fails, and with it all later ones if ``for_good``.

    Args:
        patch: pytest's monkeypatch.
        at: number of the call that fails, counted from 0.
        error: what it raises; None only counts.
        for_good: whether later calls fail, too.
    """

    def __init__(self, patch, at=10**9, error=None, *, for_good=False):
        self.count, self.at, self.error, self.for_good = 0, at, error, for_good
        self.failed = None
        for name in CALLS:
            patch.setattr(os, name, self._watched(name, getattr(os, name)))
        patch.setattr("drl_density.run_folder.folder.save_file", self._save_file)

    def _fails(self, name):
        self.count += 1
        if not (self.count > self.at if self.for_good else self.count == self.at + 1):
            return False
        self.failed = self.failed or name
        return True

    def _watched(self, name, real):
        def call(*args, **kwargs):
            if self._fails(name):
                if name == "close":  # which closes all the same
                    real(*args)
                raise self.error
            return real(*args, **kwargs)

        return call

    def _save_file(self, tensors, path, metadata=None):
        """Writes without any of the calls above, as the library does."""
        save_file(tensors, path, metadata=metadata)
        if self._fails("save_file"):
            with open(path, "r+b") as stream:
                stream.truncate(100)
            raise SafetensorError(str(self.error)) if isinstance(self.error, OSError) else self.error
