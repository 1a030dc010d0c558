"""Run folders of finished densities: written, read, and refused where they are damaged."""

import copy
import dataclasses
import os
import shutil

import pytest
import torch

from drl_density.density import Density
from drl_density.errors import RunFolderError
from drl_density.networks import MLP
from drl_density.run_folder import Replacement, RunFolder
from drl_density.run_folder.layout import WHOLE
from drl_density.run_folder.replacement import complete


def test_save_and_load(tiny_density, tiny_data, tmp_path):
    tiny_density.save(tmp_path / "run")
    again = Density.load(tmp_path / "run")
    assert torch.equal(again.log_prob(tiny_data.test), tiny_density.log_prob(tiny_data.test))
    assert again.baselines == tiny_density.baselines
    assert again.columns == tiny_density.columns
    assert again.settings == tiny_density.settings
    draws = [d.sample(5, seed=0) for d in (again, tiny_density)]
    assert torch.equal(*draws)
    with pytest.raises(RunFolderError, match="--force"):
        tiny_density.save(tmp_path / "run")


def test_weights_of_another_width_are_refused(tiny_density, tmp_path):
    other = copy.deepcopy(tiny_density)
    other.model.network = MLP(dataclasses.replace(other.model.network.settings, width=32))
    for name, density in (("run", tiny_density), ("other", other)):
        density.save(tmp_path / name)
    shutil.copy(tmp_path / "other" / "weights.safetensors", tmp_path / "run")
    with pytest.raises(RunFolderError, match="run: settings.json and weights.safetensors are of two different runs"):
        Density.load(tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    tensors, _ = folder.read_tensors(folder.weights)
    folder.write_tensors(folder.weights, tensors, {"id": folder.read_json(folder.settings)["id"]})
    with pytest.raises(RunFolderError, match=r"run: the run is damaged or of another version.*size mismatch"):
        Density.load(tmp_path / "run")


def test_damaged_folders_are_refused(tiny_density, tmp_path):
    folder = tmp_path / "run"
    tiny_density.save(folder)
    values = RunFolder(folder).read_json("settings.json")
    del values["plan"]
    RunFolder(folder).write_json("settings.json", values)
    with pytest.raises(RunFolderError, match="damaged or of another version"):
        Density.load(folder)


def replaced(folder, *, by, at):
    """Replaces the run in a folder up to a moment, as ``save`` or a fit with ``--force`` does."""
    new = Replacement(folder)
    shutil.copytree(by, new.incoming, dirs_exist_ok=True)
    os.rename(new.incoming, folder / WHOLE)
    if at == "deleted":
        (folder / "weights.safetensors").unlink()
    else:
        complete(folder)


@pytest.mark.parametrize("at", ["deleted", "complete"])
@pytest.mark.parametrize("stage", ["begun", "finished"])
def test_a_reader_at_the_wrong_moment_sees_the_old_run_or_the_new_one(stage, at, tiny_density, tmp_path, monkeypatch):
    folder, new, real = tmp_path / "run", tmp_path / "new", RunFolder.read_tensors
    tiny_density.save(folder)
    if stage == "finished":
        dataclasses.replace(tiny_density, pool=tiny_density.pool[:7]).save(new)
    else:
        RunFolder.create(new).write_json("settings.json", {"stage": "begun"})
    calls = []

    def read_tensors(self, file):
        calls.append(file)
        if len(calls) == 1:
            replaced(folder, by=new, at=at)
        return real(self, file)

    monkeypatch.setattr(RunFolder, "read_tensors", read_tensors)
    if stage == "finished":
        assert len(Density.load(folder).pool) == 7
    else:
        with pytest.raises(RunFolderError, match="is not finished: resume it"):
            Density.load(folder)
    monkeypatch.undo()
    if stage == "finished":
        (folder / "weights.safetensors").unlink()
        with pytest.raises(RunFolderError, match="weights.safetensors is missing"):  # and nobody replaces it
            Density.load(folder)
