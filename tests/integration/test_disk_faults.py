"""The disk fails at any write of a run: the old run is there, or the new one, and the message says which."""

import dataclasses
import errno
import functools
import math
import os
import resource
import shutil
import subprocess
import warnings
from contextlib import contextmanager

import pandas as pd
import pytest
import torch
import xarray as xr

import drl_density as drl
from drl_density.bases import StackSettings, fit_stacked_mixture
from drl_density.density import Density
from drl_density.density.fitting.folds import table as fold_table
from drl_density.density.storage import training_folder
from drl_density.density.storage.training_folder import TrainingFolder
from drl_density.errors import DRLDensityWarning, RunFolderError
from drl_density.run_folder import RunFolder, whole_files
from tests.conftest import recorded_fit, short_annealing
from tests.density.small_images import settings_for
from tests.run_folder.failing_disk import FailingDisk

CODES = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES)


def errors(at):
    """Error of the call with this number; every kind takes its turn."""
    code = CODES[at % len(CODES)]
    return OSError(code, os.strerror(code))


@pytest.fixture(scope="module")
def other(tiny_density):
    """Another density than ``tiny_density``, told apart by its log Z."""
    return dataclasses.replace(
        tiny_density, estimate=dataclasses.replace(tiny_density.estimate, log_z=tiny_density.estimate.log_z + 1)
    )


@pytest.fixture(scope="module")
def kept(tiny_density, tmp_path_factory):
    """A run with everything that may be in its folder."""
    path = tmp_path_factory.mktemp("kept") / "run"
    tiny_density.save(path)
    for name in ("report.nc", "report.html", "generator.safetensors", "diagnosis_level_0.nc", "notes.txt"):
        (path / name).write_text(name)
    return path


EVERY = "ALL_FAULTS" in os.environ
"""Whether each call of a write fails in turn; otherwise some of them do, which takes seconds instead of minutes. All calls
of a replacement itself fail in its own test, which costs next to nothing.
"""


def at_every_call(action, folder_of, monkeypatch, *, step, for_good=False):
    """Yields (what happened, folder, message or None) of ``action(folder)`` with every ``step``-th of its calls failing."""
    folder, at, num_calls = folder_of(), 0, None
    step = 1 if EVERY else step
    while num_calls is None or at < num_calls:
        with monkeypatch.context() as patch:
            disk = FailingDisk(patch) if num_calls is None else FailingDisk(patch, at, errors(at), for_good=for_good)
            try:
                action(folder)
                message = None
            except RunFolderError as error:
                message = str(error)
        if num_calls is None:
            assert message is None
            num_calls = disk.count
        else:
            yield f"call {at}, {disk.failed}: {message}", folder, message
            at += step
        folder = folder_of()
    assert num_calls > 20


@pytest.fixture(scope="module")
def earlier(other, tmp_path_factory):
    """The run of the other density."""
    path = tmp_path_factory.mktemp("earlier") / "run"
    other.save(path)
    return path


@pytest.fixture
def copy_of(tmp_path):
    def make(source):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        if source is not None:
            shutil.copytree(source, tmp_path / "run")
        return tmp_path / "run"

    return make


@pytest.mark.parametrize(("for_good", "step"), [(False, 7), (True, 11)])
def test_a_replaced_density_is_the_old_one_or_the_new_one(
    for_good, step, kept, tiny_density, other, copy_of, monkeypatch
):
    found = set()
    for what, folder, message in at_every_call(
        lambda folder: other.save(folder, force=True), lambda: copy_of(kept), monkeypatch, step=step, for_good=for_good
    ):
        log_z = Density.load(folder).estimate.log_z
        is_new = log_z == other.estimate.log_z
        assert is_new or log_z == tiny_density.estimate.log_z, what
        assert (folder / "report.nc").exists() is not is_new, what
        assert (folder / "notes.txt").read_text() == "notes.txt", what
        assert message is not None or is_new, what
        if message is not None and "untouched" in message:
            assert not is_new, what
        found.add(is_new)
    assert found == {False, True}


def test_a_new_density_is_whole_or_not_there(other, copy_of, monkeypatch):
    are_there = set()
    for what, folder, message in at_every_call(other.save, lambda: copy_of(None), monkeypatch, step=11):
        try:
            assert Density.load(folder).estimate.log_z == other.estimate.log_z, what
            are_there.add(True)
        except RunFolderError:
            assert message is not None, what
            other.save(folder)
            are_there.add(False)
    assert False in are_there


@pytest.fixture(scope="module")
def states(tiny_fit):
    """What a fit saves at its last evaluation, by calls of its saver; and its density."""
    saved, density = tiny_fit
    return saved[-1:], density


def writes_of_a_fit(folder, data, states, *, force=False, resume=False):
    """All writes of a fit, without its training."""
    saved, density = states
    run = TrainingFolder.prepare(folder, resume=resume, force=force)
    try:
        if not resume:
            run.begin(data, density.settings, seed=0)
        for name, tensors, scalars in saved:
            run.saver(name)(tensors, scalars)
        run.finish(density)
    finally:
        run.close()


QUICK = drl.FitSettings(
    base="gaussian",
    num_trials=0,
    num_pool_draws=20,
    network=drl.ColumnNetwork(width=8, num_blocks=1, num_sigmoids=4, column_width=2),
    training=drl.TrainingSettings(num_steps=2, evaluate_every=2, batch_size=16),
)


def streamed(folder):
    """A table in a folder of Parquet files, of which a third is in memory at a time."""
    folder.mkdir()
    numbers = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0)).double().numpy()
    for part in range(3):
        frame = pd.DataFrame(numbers[part * 1000 : (part + 1) * 1000], columns=["a", "b"])
        frame.to_parquet(folder / f"{part}.parquet", row_group_size=250)
    data = drl.load_dataset(folder, seed=0, max_rows_in_memory=1000)
    assert data.stream is not None
    return data


FITS = {
    "table": lambda request, folder: (request.getfixturevalue("tiny_data"), QUICK),
    "ensemble": lambda request, folder: (
        request.getfixturevalue("tiny_data"),
        dataclasses.replace(QUICK, num_networks=2),
    ),
    "folds": lambda request, folder: (
        request.getfixturevalue("tiny_data"),
        dataclasses.replace(QUICK, num_folds=2, base="auto"),
    ),
    "images": lambda request, folder: (request.getfixturevalue("pictures"), settings_for("images")),
    "streamed": lambda request, folder: (streamed(folder / "table"), QUICK),
}
"""Kinds of fits: rows and settings of each."""


@contextmanager
def written_files():
    """The names of the files that are written, in order."""
    names, write = [], whole_files._write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole_files, "_write", lambda target, fill: (names.append(target.name), write(target, fill))[1])
        patch.setattr(training_folder, "HISTORY_SHARE", math.inf)  # the history is written at every evaluation
        yield names


@pytest.fixture(scope="module")
def fitted(request, tmp_path_factory):
    """By kind: rows of a fit, all that it saves with its density, and its run folder with the names of its writes."""

    @functools.cache
    def fit(kind):
        folder = tmp_path_factory.mktemp(kind)
        data, settings = FITS[kind](request, folder)
        small = functools.partial(fit_stacked_mixture, settings=StackSettings((1,), (0.1,), num_bags=4, num_final_bags=4))
        context = pytest.MonkeyPatch.context
        with written_files() as names, warnings.catch_warnings(), short_annealing(), context() as patch:
            warnings.simplefilter("ignore", DRLDensityWarning)
            patch.setattr(fold_table, "fit_stacked_mixture", small)
            patch.setattr(fold_table, "FOLD_BAGS", 3)
            return data, recorded_fit(data, settings, folder / "run"), (folder / "run", names)

    return fit


@pytest.mark.parametrize("kind", FITS)
def test_a_fit_writes_what_is_replayed_below(kind, fitted, tmp_path):
    data, states, (folder, names) = fitted(kind)
    with written_files() as replayed:
        writes_of_a_fit(tmp_path / "run", data, states)
    assert replayed == names
    assert len(names) >= 6
    assert {item.name for item in (tmp_path / "run").iterdir()} == {item.name for item in folder.iterdir()}


@pytest.mark.parametrize(("kind", "is_forced"), [("table", False), *((kind, True) for kind in FITS)])
def test_a_fit_is_resumable_and_loses_no_earlier_run(kind, is_forced, earlier, fitted, other, copy_of, monkeypatch):
    data, states, _ = fitted(kind)
    found = set()
    for what, folder, message in at_every_call(
        lambda folder: writes_of_a_fit(folder, data, states, force=is_forced),
        lambda: copy_of(earlier if is_forced else None),
        monkeypatch,
        step=7 if kind == "table" else 13,
    ):
        try:
            stage = "old" if Density.load(folder).estimate.log_z == other.estimate.log_z else "new"
        except RunFolderError:
            stage = "resumable" if (folder / "training_state.safetensors").exists() else "nothing"
        found.add(stage)
        if stage == "resumable":
            run = TrainingFolder.prepare(folder, resume=True, force=False)
            run.close()
            assert run.values, what
            assert message is not None, what
            if "could not be saved" in message:
                assert "continue with --resume" in message or "nothing" in message, what
        elif stage == "new":
            assert message is None or "may not survive" in message or "complete" in message, what
        elif stage == "old":
            assert is_forced, what
            assert message is not None, what
            assert "continue with --resume" not in message, what
        else:
            assert not is_forced, what
            assert message is not None, what
    assert found == ({"old", "resumable", "new"} if is_forced else {"nothing", "resumable", "new"})


def write_results(folder):
    """The writes of evaluate, diagnose, distill and report."""
    with RunFolder.writing(folder) as run:
        run.write_dataset(run.report, xr.Dataset({"x": 1.0}))
        run.write_dataset(run.diagnosis("level_0"), xr.Dataset({"x": 1.0}))
        run.write_tensors(run.generator, {"weight": torch.ones(2)})
        run.write_text(run.page, "new page")
        run.write_content(run.figure("log Z"), b"new picture")


def test_results_are_whole_or_the_earlier_ones(kept, copy_of, monkeypatch):
    names = ("report.nc", "diagnosis_level_0.nc", "generator.safetensors", "report.html")
    before = {name: (kept / name).read_bytes() for name in ("settings.json", "weights.safetensors", "history.nc")}
    reads = {"report.nc": RunFolder.read_dataset, "generator.safetensors": RunFolder.read_tensors}
    refused = set()
    for what, folder, message in at_every_call(write_results, lambda: copy_of(kept), monkeypatch, step=1):
        assert {name: (folder / name).read_bytes() for name in before} == before, what
        for name, read in reads.items():
            if (folder / name).read_bytes() != name.encode():
                assert len(read(RunFolder(folder), name)) > 0, what
        assert (folder / "report.html").read_text() in ("report.html", "new page"), what
        if message is not None and "untouched" in message:
            name = next(name for name in names if name in message)
            assert (folder / name).read_bytes() == name.encode(), what
            refused.add(name)
    assert refused == set(names)


@contextmanager
def largest_file(size):
    """Within this context no file grows beyond ``size`` bytes; the system refuses the write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 300, 3000, 20_000])
def test_a_limit_on_the_size_of_files(size, kept, tiny_density, other, copy_of):
    folder = copy_of(kept)
    tiny_density.save(folder, force=True)
    before = {item.name: item.read_bytes() for item in folder.iterdir()}
    with largest_file(size), pytest.raises(RunFolderError, match=r"File too large.*the earlier run in .* is untouched"):
        other.save(folder, force=True)
    assert {item.name: item.read_bytes() for item in folder.iterdir()} == before


@contextmanager
def small_disk(place, size):
    """A file system of so many KiB, mounted at ``place``; skips where none can be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(folder, data, states, other):
    """Fit into a folder, then replace the run; what became of it."""
    density = states[1]
    try:
        writes_of_a_fit(folder, data, states)
        other.save(folder, force=True)
        return "all" if Density.load(folder).estimate.log_z == other.estimate.log_z else "lost"
    except RunFolderError as error:
        message = str(error)
    assert "No space left" in message
    if "the earlier run" in message:
        return "earlier" if Density.load(folder).estimate.log_z == density.estimate.log_z else "lost"
    if "continue with --resume" in message:
        run = TrainingFolder.prepare(folder, resume=True, force=False)
        run.close()
        return "resumable" if run.values else "lost"
    return "nothing" if "othing of the run" in message or "cannot write to" in message else message


def test_a_full_disk_of_any_size(tiny_data, states, other, tmp_path):
    """The run folder is itself the disk, from no space at all to space for everything."""
    found = set()
    for size in range(4, 500, 62):
        with small_disk(tmp_path, size) as folder:
            found.add(fill(folder, tiny_data, states, other))
    assert found == {"nothing", "resumable", "earlier", "all"}
