"""Run folders: whole files or none, and clear refusals."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import xarray as xr

from drl_density.errors import RunFolderError
from drl_density.run_folder import FORMAT_VERSION, RunFolder

SETTINGS, WEIGHTS = "settings.json", "weights.safetensors"


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.write_json(SETTINGS, {"seed": 3})
    folder.write_tensors(WEIGHTS, {"a": torch.arange(3.0)}, {"step": 5})
    folder.write_dataset("history.nc", xr.Dataset({"loss": ("step", [1.0, 2.0])}))
    return folder


def contents(path):
    return {item.name: item.read_bytes() for item in path.iterdir()}


def fail_to_replace(path):
    with RunFolder.replace(path, force=True) as new:
        new.write_json(new.settings, {"seed": 4})
        raise RunFolderError("the disk is full")


def test_round_trips(folder):
    again = RunFolder.open(folder.path)
    assert again.read_json(SETTINGS)["seed"] == 3
    tensors, values = again.read_tensors(WEIGHTS)
    assert torch.equal(tensors["a"], torch.arange(3.0))
    assert values == {"step": 5}
    assert again.read_dataset("history.nc")["loss"].values.tolist() == [1.0, 2.0]
    assert sorted(item.name for item in folder.path.iterdir()) == ["history.nc", SETTINGS, WEIGHTS]


def test_no_run_is_overwritten_without_force(folder):
    with pytest.raises(RunFolderError, match="--force"):
        RunFolder.create(folder.path)
    with pytest.raises(RunFolderError, match="--force"), RunFolder.replace(folder.path):
        pass
    assert folder.weights.is_file()
    with RunFolder.replace(folder.path, force=True) as new:
        new.write_json(new.settings, {"seed": 4})
    assert not folder.weights.is_file()
    assert [item.name for item in folder.path.iterdir()] == [SETTINGS]


def test_foreign_folders_are_refused_even_by_force(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(RunFolderError, match="is not a run folder"), RunFolder.replace(tmp_path, force=True):
        pass
    with pytest.raises(RunFolderError, match="not a run folder; give a folder that fit .* has written"):
        RunFolder.open(tmp_path)
    with pytest.raises(RunFolderError, match="there is no run folder .*; give a folder that fit .* has written"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match="thesis.tex is a file and no run folder; give a folder"):
        RunFolder.open(tmp_path / "thesis.tex")
    with pytest.raises(RunFolderError, match="is a file"):
        RunFolder.create(tmp_path / "thesis.tex")


@pytest.mark.parametrize("name", [SETTINGS, WEIGHTS, "history.nc"])
def test_truncated_files_are_named(folder, name):
    path = folder.path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read = {SETTINGS: folder.read_json, WEIGHTS: folder.read_tensors, "history.nc": folder.read_dataset}[name]
    with pytest.raises(RunFolderError, match=name):
        read(name)


def test_a_newer_format_is_refused(folder):
    (folder.path / SETTINGS).write_text(json.dumps({"format_version": FORMAT_VERSION + 1}))
    with pytest.raises(RunFolderError, match="update drl-density"):
        RunFolder.open(folder.path)


def test_an_older_format_is_refused_and_not_to_be_resumed(folder):
    (folder.path / SETTINGS).write_text(json.dumps({"format_version": FORMAT_VERSION - 1}))
    for refuse in (RunFolder.open, RunFolder.create):
        with pytest.raises(RunFolderError, match="written by an earlier version of drl-density.*fit again") as caught:
            refuse(folder.path)
        assert "--resume" not in str(caught.value)
    with RunFolder.replace(folder.path, force=True) as new:
        new.write_json(new.settings, {"seed": 4})
    assert RunFolder.open(folder.path).read_json(SETTINGS)["seed"] == 4


def test_an_error_in_a_replacement_leaves_the_earlier_run(folder):
    before = contents(folder.path)
    with pytest.raises(RunFolderError, match="disk.*the earlier run in .* is untouched"):
        fail_to_replace(folder.path)
    assert contents(folder.path) == before


def test_a_failed_save_leaves_no_folder(tmp_path):
    with pytest.raises(RunFolderError, match="disk.*nothing was saved"):
        fail_to_replace(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_links_and_files_of_the_user_stay(folder, tmp_path):
    (folder.path / "notes.txt").write_text("mine")
    link = tmp_path / "latest"
    link.symlink_to(folder.path)
    with RunFolder.replace(link, force=True) as new:
        new.write_json(new.settings, {"seed": 4})
    assert link.is_symlink()
    assert sorted(item.name for item in folder.path.iterdir()) == ["notes.txt", SETTINGS]
    assert RunFolder.open(link).read_json(SETTINGS)["seed"] == 4


def test_a_writer_keeps_others_out_and_lets_readers_in(folder):
    with RunFolder.writing(folder.path) as own, ThreadPoolExecutor(1) as other:
        own.write_text(own.page, "page")
        with pytest.raises(RunFolderError, match=f"{folder.path} is being written by process {os.getpid()}"):
            other.submit(lambda: RunFolder.writing(folder.path).__enter__()).result()
        with pytest.raises(RunFolderError, match="is being written"):
            other.submit(lambda: RunFolder.replace(folder.path, force=True).__enter__()).result()
        assert other.submit(lambda: RunFolder.open(folder.path).read_json(SETTINGS)["seed"]).result() == 3
    with RunFolder.writing(folder.path):
        pass


def test_what_a_killed_write_left_is_no_run_and_is_swept(tmp_path):
    path = tmp_path / "run"
    RunFolder.create(path)
    (path / ".settings.json.ab12.json").write_text("half")
    assert RunFolder.is_blank(path)
    (path / ".incoming").mkdir()
    (path / ".incoming" / "settings.json").write_text("{}")
    assert RunFolder.is_blank(path)
    RunFolder.create(path)
    assert not list(path.iterdir())
    (path / "notes.txt").write_text("mine")
    assert not RunFolder.is_blank(path)


def test_files_are_as_readable_as_any_other(folder, tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    for name in (SETTINGS, WEIGHTS, "history.nc"):
        assert (folder.path / name).stat().st_mode == plain.stat().st_mode, name


def test_the_layout_of_a_run_folder(tmp_path):
    folder = RunFolder(tmp_path)
    files = [
        folder.settings,
        folder.weights,
        folder.state,
        folder.history,
        folder.report,
        folder.page,
        folder.generator,
    ]
    assert [file.name for file in files] == [
        "settings.json",
        "weights.safetensors",
        "training_state.safetensors",
        "history.nc",
        "report.nc",
        "report.html",
        "generator.safetensors",
    ]
    assert {file.parent for file in files} == {tmp_path}


def test_diagnoses_are_listed_and_swept_with_the_run(folder):
    for name in ("recovery_1", "level_0"):
        folder.write_dataset(folder.diagnosis(name), xr.Dataset({"x": 1.0}))
    assert folder.diagnoses == [folder.diagnosis("level_0"), folder.diagnosis("recovery_1")]
    folder.write_content(folder.figure("log Z"), b"png")
    assert (folder.path / "figure_log_Z.png").is_file()
    (folder.path / ".diagnosis_level_0.nc.ab12.nc").write_text("half")
    with RunFolder.replace(folder.path, force=True) as new:
        new.write_json(new.settings, {})
    assert [item.name for item in folder.path.iterdir()] == [SETTINGS]


def test_a_file_is_named_by_its_path_or_its_name(folder):
    assert folder.read_json(folder.settings) == folder.read_json("settings.json")


def test_a_relative_folder_holds_its_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = RunFolder.create("runs/one")
    folder.write_json(folder.settings, {"a": 1})
    assert (tmp_path / "runs" / "one" / "settings.json").is_file()
    assert RunFolder.open("runs/one").read_json(folder.settings)["a"] == 1
