"""Run folders: what is in them, and how one is made, replaced, opened and written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from drl_density.errors import RunFolderError
from drl_density.run_folder.layout import FORMAT_VERSION, INCOMING, SETTINGS, own_entries, parts
from drl_density.run_folder.lock import FolderLock
from drl_density.run_folder.netcdf import write_netcdf
from drl_density.run_folder.replacement import Replacement, settle
from drl_density.run_folder.whole_files import reason, write_bytes, write_whole

if TYPE_CHECKING:  # xarray imports pandas, which would slow down `import drl_density`
    import xarray as xr


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
        return self.path / SETTINGS

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

    def figure(self, name: str) -> Path:
        """``figure_NAME.png``: one figure of the demonstration.

        Args:
            name: heading of the figure, such as ``"log Z"``.
        """
        return self.path / f"figure_{name.replace(' ', '_')}.png"

    @classmethod
    def create(cls, path: str | Path) -> RunFolder:
        """Make a folder for a new run, whose files are written one by one.

        Args:
            path: location of the folder; parents are made as needed.

        Raises:
            RunFolderError: the folder holds a run, or anything that is not a run.
        """
        folder = cls.occupy(path)
        with FolderLock(path):
            folder.sweep()
        return folder

    @classmethod
    def occupy(cls, path: str | Path, *, force: bool = False) -> RunFolder:
        """The folder for a new run, made where it is missing; what a run has written in it stays.

        Args:
            path: location of the folder; parents are made as needed.
            force: whether the folder may hold a run already.

        Raises:
            RunFolderError: the folder holds a run and ``force`` is not given, or holds anything that is not a run.
        """
        refuse_occupied(path, force=force)
        _make(Path(path))
        return cls(path)

    @classmethod
    @contextmanager
    def replace(cls, path: str | Path, *, force: bool = False) -> Iterator[RunFolder]:
        """A folder for the files of a new run, which takes the place of the run at ``path`` when the block is left.

        A block that is left by an error leaves the earlier run untouched. Files of the user stay in the folder.

        Args:
            path: location of the run folder; parents are made as needed.
            force: whether the folder may hold a run already.

        Raises:
            RunFolderError: the folder holds a run and ``force`` is not given, holds anything that is not a run, is written
                by another process, or the disk is full.
        """
        refuse_occupied(path, force=force)
        made = _make(Path(path))
        try:
            with FolderLock(path):
                settle(path)
                refuse_occupied(path, force=force)
                cls(path).sweep()
                replacement = Replacement(Path(path))
                try:
                    with _kept(path):
                        yield cls(replacement.incoming)
                    replacement.commit()
                finally:
                    replacement.discard()
        except BaseException:  # an interruption by the keyboard leaves no empty folders either
            for folder in reversed(made):
                with suppress(OSError):  # not empty
                    folder.rmdir()
            raise

    @classmethod
    @contextmanager
    def writing(cls, path: str | Path) -> Iterator[RunFolder]:
        """The run at ``path``, locked against other writers.

        Args:
            path: location of the folder of a run.

        Raises:
            RunFolderError: the folder is missing, foreign, damaged, of another version, or written by another process.
        """
        folder = cls.open(path)
        with FolderLock(path):
            yield folder

    @staticmethod
    def is_blank(path: str | Path) -> bool:
        """Whether a folder exists and no file was ever completed in it; remains of a killed write do not count.

        Args:
            path: location of the folder.
        """
        place = Path(path)
        return place.is_dir() and set(place.iterdir()) == set(own_entries(place))

    def sweep(self) -> None:
        """Delete unfinished files and runs that a killed process left; the caller holds the lock."""
        shutil.rmtree(self.path / INCOMING, ignore_errors=True)
        for item in parts(self.path):
            with suppress(OSError):
                item.unlink(missing_ok=True)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open a folder that holds a run.

        Args:
            path: location of the folder.

        Raises:
            RunFolderError: the folder is missing, foreign, damaged, or was written by another version.
        """
        folder = cls(path)
        wanted = "give a folder that fit (out=..., --out) or Density.save has written"
        if not folder.path.is_dir():
            found = f"{path} is a file and no run folder" if folder.path.exists() else f"there is no run folder {path}"
            raise RunFolderError(f"{found}; {wanted}")
        settle(path)
        if not folder.settings.is_file():
            runs = sorted(file.parent.name for file in folder.path.glob(f"*/{folder.settings.name}"))
            wanted = f"it holds the runs {', '.join(runs[:9])}, so give one of these" if runs else wanted
            raise RunFolderError(f"{path} holds no {folder.settings.name}: it is not a run folder; {wanted}")
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
        write_whole(self._inside(file), lambda part: save_file(copies, part, metadata=metadata))

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
        write_netcdf(self._inside(file), data)

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
        except (OSError, ValueError, KeyError, RuntimeError) as error:  # the last two from h5py
            raise RunFolderError(f"{target} is missing or damaged ({error})") from error

    def write_text(self, file: str | Path, text: str) -> None:
        """Write text in UTF-8.

        Args:
            file: path or name of a file in this folder.
            text: everything that the file will hold.
        """
        write_bytes(self._inside(file), text.encode())

    def write_content(self, file: str | Path, content: bytes) -> None:
        """Write bytes, such as those of a picture.

        Args:
            file: path or name of a file in this folder.
            content: everything that the file will hold.
        """
        write_bytes(self._inside(file), content)

    def _inside(self, file: str | Path) -> Path:
        """The path of a file of this folder, given by its name, or by its path even where that is relative."""
        return self.path / Path(file).name


def refuse_occupied(path: str | Path, *, force: bool = False) -> None:
    """Refuse a folder that cannot take a new run.

    Args:
        path: location of the folder, which may be missing.
        force: whether the folder may hold a run already.

    Raises:
        RunFolderError: the folder holds a run and ``force`` is not given, or anything that is not a run.

    >>> import tempfile
    >>> refuse_occupied(Path(tempfile.mkdtemp()) / "new")
    """
    place = Path(path)
    if place.exists() and not place.is_dir():
        raise RunFolderError(f"{path} is a file; give the path of a folder")
    settle(place)
    inside = sorted(set(place.iterdir()) - set(own_entries(place))) if place.is_dir() else []
    if inside and place / SETTINGS not in inside:
        names = ", ".join(item.name for item in inside[:3])
        raise RunFolderError(f"{path} holds {names}, and is not a run folder; give an empty folder")
    if inside and not force:
        version = _version(place / SETTINGS)
        if version is not None:
            _check_version(version, place)
        raise RunFolderError(
            f"{path} already holds a run: give another folder, overwrite it (--force), or continue a fit by `fit --resume`"
        )


@contextmanager
def _kept(path: str | Path) -> Iterator[None]:
    """Adds to an error while a run is written what is there now."""
    try:
        yield
    except RunFolderError as error:
        is_there = (Path(path) / SETTINGS).is_file()
        words = f"the earlier run in {path} is untouched" if is_there else f"nothing was saved in {path}"
        raise RunFolderError(f"{error}; {words}") from error


def _make(path: Path) -> list[Path]:
    """Make a folder; returns the folders that were made, from the outermost."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"cannot make {path}: {reason(error)}") from error
    return missing[::-1]


def _version(settings: Path) -> int | None:
    """The format version of a run; None where its settings are damaged."""
    try:
        return int(json.loads(settings.read_text(encoding="utf-8"))["format_version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


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
