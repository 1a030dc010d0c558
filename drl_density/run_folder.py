"""Run folders: their layout, and files that are written whole or not at all, without pickle."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from drl_density.errors import RunFolderError

if TYPE_CHECKING:  # xarray imports pandas, which would slow down `import drl_density`
    import xarray as xr

FORMAT_VERSION = 2
"""Version of the files in a run folder; a folder of any other version is refused."""


class RunFolder:
    """A folder that holds one run; every file is written whole or not at all, and nothing is pickled.

    The properties below are the whole layout. Each is the path of one file, which exists as far as the run has come.

    Args:
        path: location of the folder, which :meth:`create` makes and :meth:`open` expects.

    >>> import tempfile
    >>> folder = RunFolder.create(Path(tempfile.mkdtemp()) / "run")
    >>> folder.write_json(folder.settings, {"seed": 1})
    >>> folder.read_json(folder.settings)["seed"], folder.report.is_file()
    (1, False)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def settings(self) -> Path:
        """``settings.json``: stage of the run, its settings and every other plain value; makes a folder a run folder."""
        return self.path / "settings.json"

    @property
    def weights(self) -> Path:
        """``weights.safetensors``: tensors of the finished density."""
        return self.path / "weights.safetensors"

    @property
    def state(self) -> Path:
        """``training_state.safetensors``: everything needed to resume training."""
        return self.path / "training_state.safetensors"

    @property
    def history(self) -> Path:
        """``history.nc``: numbers recorded at every evaluation during training."""
        return self.path / "history.nc"

    @property
    def report(self) -> Path:
        """``report.nc``: the last likelihood report."""
        return self.path / "report.nc"

    @property
    def page(self) -> Path:
        """``report.html``: the page that shows the report and all diagnoses."""
        return self.path / "report.html"

    @property
    def generator(self) -> Path:
        """``generator.safetensors``: the generator distilled from the density."""
        return self.path / "generator.safetensors"

    def diagnosis(self, name: str) -> Path:
        """``diagnosis_NAME.nc``: one diagnosis of long chains.

        Args:
            name: kind of target and level, such as ``"recovery_1"``.
        """
        return self.path / f"diagnosis_{name}.nc"

    @property
    def diagnoses(self) -> list[Path]:
        """Paths of the diagnoses in the folder, in alphabetical order."""
        return sorted(self.path.glob("diagnosis_*.nc"))

    @property
    def _files(self) -> list[Path]:
        """Every file that a run may write, diagnoses as far as they exist."""
        own = [self.settings, self.weights, self.state, self.history, self.report, self.page, self.generator]
        return own + self.diagnoses

    @property
    def _parts(self) -> list[Path]:
        """Unfinished files left behind by a write that was killed, named as in :func:`write_whole`."""
        prefixes = (*(f".{file.name}." for file in self._files), ".diagnosis_")
        inside = self.path.iterdir() if self.path.is_dir() else []
        return [item for item in inside if item.name.startswith(prefixes)]

    @classmethod
    def create(cls, path: str | Path, *, force: bool = False) -> RunFolder:
        """Make a folder for a new run.

        Args:
            path: location of the folder; parents are made as needed.
            force: delete the files of a run that the folder already holds.

        Raises:
            RunFolderError: the folder holds a run and ``force`` is not given, or holds anything that is not a run.
        """
        folder = cls(path)
        if folder.path.exists() and not folder.path.is_dir():
            raise RunFolderError(f"{path} is a file; give the path of a folder")
        parts = folder._parts
        inside = sorted(set(folder.path.iterdir()) - set(parts)) if folder.path.exists() else []
        if inside and folder.settings not in inside:
            names = ", ".join(item.name for item in inside[:3])
            raise RunFolderError(f"{path} holds {names}, and is not a run folder; give an empty folder")
        if inside and not force:
            raise RunFolderError(
                f"{path} already holds a run: resume it (--resume), overwrite it (--force), or give another folder"
            )
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"cannot make {path}: {error}") from error
        for file in [*parts, *folder._files]:
            file.unlink(missing_ok=True)
        return folder

    @staticmethod
    def is_blank(path: str | Path) -> bool:
        """Whether a folder exists and no file was ever completed in it; remains of a killed write do not count.

        Args:
            path: location of the folder.
        """
        folder = RunFolder(path)
        return folder.path.is_dir() and set(folder.path.iterdir()) == set(folder._parts)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open a folder that holds a run.

        Args:
            path: location of the folder.

        Raises:
            RunFolderError: the folder is missing, foreign, damaged, or was written by another version.
        """
        folder = cls(path)
        if not folder.path.is_dir():
            raise RunFolderError(f"there is no run folder {path}")
        if not folder.settings.is_file():
            raise RunFolderError(f"{path} holds no {folder.settings.name}: it is not a run folder")
        folder.read_json(folder.settings)
        return folder

    def write_json(self, file: str | Path, values: dict[str, Any]) -> None:
        """Write plain values, together with the format version.

        Args:
            file: path or name of a file in this folder.
            values: anything that JSON can hold.
        """
        text = json.dumps({"format_version": FORMAT_VERSION, **values}, indent=1)
        self.write_text(file, text)

    def read_json(self, file: str | Path) -> dict[str, Any]:
        """Read plain values.

        Args:
            file: path or name of a file in this folder.

        Raises:
            RunFolderError: the file is missing, damaged, or was written by another version.
        """
        target = self._inside(file)
        try:
            values = json.loads(target.read_text(encoding="utf-8"))
            version = values["format_version"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(f"{target} is missing, damaged, or not ours ({error})") from error
        _check_version(version, target)
        return values

    def write_tensors(self, file: str | Path, tensors: dict[str, Tensor], values: dict[str, Any] | None = None) -> None:
        """Write tensors in safetensors format, with plain values in the header.

        Args:
            file: path or name of a file in this folder.
            tensors: by name, on any device.
            values: anything that JSON can hold.
        """
        metadata = {"format_version": str(FORMAT_VERSION), "values": json.dumps(values or {})}
        # safetensors refuses tensors that share memory, so each is copied.
        copies = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
        self._write(file, lambda target: save_file(copies, target, metadata=metadata))

    def read_tensors(self, file: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read tensors and the plain values of the header.

        Args:
            file: path or name of a file in this folder.

        Raises:
            RunFolderError: the file is missing, damaged, or was written by another version.
        """
        target = self._inside(file)
        try:
            with safe_open(target, framework="pt") as stored:
                metadata = stored.metadata() or {}
                tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
            version, values = int(metadata["format_version"]), json.loads(metadata["values"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise RunFolderError(f"{target} is missing, damaged, or not ours ({error})") from error
        _check_version(version, target)
        return tensors, values

    def write_dataset(self, file: str | Path, data: xr.Dataset | xr.DataTree) -> None:
        """Write labelled arrays as netCDF.

        Args:
            file: path or name of a file in this folder.
            data: arrays with names, dimensions and coordinates.
        """
        self._write(file, lambda target: data.to_netcdf(target, engine="h5netcdf"))

    def read_dataset(self, file: str | Path) -> xr.Dataset:
        """Read labelled arrays into memory.

        Args:
            file: path or name of a file in this folder.

        Raises:
            RunFolderError: the file is missing or damaged.
        """
        import xarray as xr  # slow to import

        target = self._inside(file)
        try:
            with xr.open_dataset(target, engine="h5netcdf") as data:
                return data.load()
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{target} is missing or damaged ({error})") from error

    def write_text(self, file: str | Path, text: str) -> None:
        """Write text in UTF-8.

        Args:
            file: path or name of a file in this folder.
            text: the whole content.
        """
        self._write(file, lambda target: target.write_text(text, encoding="utf-8"))

    def _write(self, file: str | Path, write: Callable[[Path], Any]) -> None:
        write_whole(self._inside(file), write)

    def _inside(self, file: str | Path) -> Path:
        """The path of a file of this folder, given by its name, or by its path even where that is relative."""
        return self.path / Path(file).name


def write_whole(target: str | Path, write: Callable[[Path], Any]) -> None:
    """Write a file whole or not at all: on failure, an existing file keeps its content.

    ``write`` fills a temporary file in the same folder, which then replaces the target in one move.

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
        part.chmod(0o666 & ~_umask())  # mkstemp lets only the owner read
        os.replace(part, target)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(f"cannot write {target}: {error}; its earlier content is untouched") from error
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    """The process's mask of permissions for new files; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _check_version(version: int, path: Path) -> None:
    if version > FORMAT_VERSION:
        raise RunFolderError(
            f"{path} has format version {version}, and this package reads version {FORMAT_VERSION}: update drl-density"
        )
    if version < FORMAT_VERSION:
        raise RunFolderError(
            f"{path} was written by an earlier version of drl-density (format version {version}, this package reads "
            f"version {FORMAT_VERSION}): fit again into another folder, or overwrite this one with --force"
        )
