"""Run folders: every file is written whole or not at all, and nothing is pickled.

A run folder holds ``settings.json``, ``weights.safetensors``, ``training_state.safetensors``, ``history.nc``,
``report.nc``, ``diagnosis_*.nc`` and ``report.html``, as far as the run has come.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from drl_density.errors import RunFolderError

FORMAT_VERSION = 1
SETTINGS = "settings.json"
GENERATOR = "generator.safetensors"
FILES = (
    SETTINGS,
    "weights.safetensors",
    "training_state.safetensors",
    "history.nc",
    "report.nc",
    "report.html",
    GENERATOR,
)


class RunFolder:
    """A folder that holds one run.

    Args:
        path: of the folder, which :meth:`create` makes and :meth:`open` expects.

    >>> import tempfile
    >>> folder = RunFolder.create(Path(tempfile.mkdtemp()) / "run")
    >>> folder.write_json(SETTINGS, {"seed": 1})
    >>> folder.read_json(SETTINGS)["seed"]
    1
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: str | Path, *, force: bool = False) -> RunFolder:
        """Make a folder for a new run.

        Raises:
            RunFolderError: if it holds a run and ``force`` is not given, or holds anything that is not a run.
        """
        folder = cls(path)
        if folder.path.exists() and not folder.path.is_dir():
            raise RunFolderError(f"{path} is a file; give the path of a folder")
        inside = sorted(item.name for item in folder.path.iterdir()) if folder.path.exists() else []
        parts = [name for name in inside if _is_part(name)]
        inside = [name for name in inside if name not in parts]
        if inside and SETTINGS not in inside:
            raise RunFolderError(f"{path} holds {', '.join(inside[:3])}, which is no run of ours; give an empty folder")
        if inside and not force:
            raise RunFolderError(
                f"{path} holds a run already: go on with it (--resume), overwrite it (--force), or give another folder"
            )
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"cannot make {path}: {error}") from error
        for name in [*parts, *inside]:
            if name in parts or name in FILES or (name.startswith("diagnosis_") and name.endswith(".nc")):
                (folder.path / name).unlink()
        return folder

    @staticmethod
    def is_blank(path: str | Path) -> bool:
        """True for a folder in which nothing was ever written whole: empty, or with what a killed write left behind."""
        return Path(path).is_dir() and all(_is_part(item.name) for item in Path(path).iterdir())

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open a folder that holds a run.

        Raises:
            RunFolderError: missing, foreign, damaged, or written by a newer version.
        """
        folder = cls(path)
        if not folder.path.is_dir():
            raise RunFolderError(f"there is no run folder {path}")
        if not (folder.path / SETTINGS).is_file():
            raise RunFolderError(f"{path} holds no {SETTINGS}: it is not a run folder")
        folder.read_json(SETTINGS)
        return folder

    def has(self, name: str) -> bool:
        """Whether the file is there."""
        return (self.path / name).is_file()

    def write_json(self, name: str, values: dict[str, Any]) -> None:
        """Write plain values."""
        text = json.dumps({"format_version": FORMAT_VERSION, **values}, indent=1)
        self._write(name, lambda target: target.write_text(text, encoding="utf-8"))

    def read_json(self, name: str) -> dict[str, Any]:
        """Read plain values."""
        try:
            values = json.loads((self.path / name).read_text(encoding="utf-8"))
            version = values["format_version"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(f"{self.path / name} is missing, damaged, or not ours ({error})") from error
        _check_version(version, self.path / name)
        return values

    def write_tensors(self, name: str, tensors: dict[str, Tensor], values: dict[str, Any] | None = None) -> None:
        """Write tensors, and plain values beside them."""
        metadata = {"format_version": str(FORMAT_VERSION), "values": json.dumps(values or {})}
        whole = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
        self._write(name, lambda target: save_file(whole, target, metadata=metadata))

    def read_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read tensors and the plain values beside them."""
        try:
            with safe_open(self.path / name, framework="pt") as stored:
                metadata = stored.metadata() or {}
                tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
            version, values = int(metadata["format_version"]), json.loads(metadata["values"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise RunFolderError(f"{self.path / name} is missing, damaged, or not ours ({error})") from error
        _check_version(version, self.path / name)
        return tensors, values

    def write_dataset(self, name: str, data: xr.Dataset | xr.DataTree) -> None:
        """Write labelled arrays as netCDF."""
        self._write(name, lambda target: data.to_netcdf(target, engine="h5netcdf"))

    def read_dataset(self, name: str) -> xr.Dataset:
        """Read labelled arrays into memory."""
        try:
            with xr.open_dataset(self.path / name, engine="h5netcdf") as data:
                return data.load()
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{self.path / name} is missing or damaged ({error})") from error

    def write_text(self, name: str, text: str) -> None:
        """Write a page."""
        self._write(name, lambda target: target.write_text(text, encoding="utf-8"))

    def _write(self, name: str, write: Callable[[Path], Any]) -> None:
        write_whole(self.path / name, write)


def write_whole(target: str | Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a file beside the target, then put it in place in one move; on failure the old file stands
    untouched.

    Raises:
        RunFolderError: no such folder, no permission, or a full disk.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "page.html"
    >>> write_whole(target, lambda part: part.write_text("whole"))
    >>> target.read_text()
    'whole'
    """
    target = Path(target)
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise RunFolderError(f"cannot write {target}: {error}") from error
    os.close(handle)
    part = Path(temporary)
    try:
        write(part)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.chmod(0o666 & ~_umask())
        os.replace(part, target)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(f"cannot write {target}: {error}; what was there before is untouched") from error
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    """The process's mask for new files, which temporary files ignore."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _is_part(name: str) -> bool:
    """A file that a killed :meth:`RunFolder._write` left behind."""
    return any(name.startswith(f".{known}.") for known in FILES)


def _check_version(version: int, path: Path) -> None:
    if version > FORMAT_VERSION:
        raise RunFolderError(
            f"{path} has format version {version}, this package reads up to {FORMAT_VERSION}: update drl-density"
        )
