"""Run folders of finished densities: written, read, and refused where they are damaged."""

import copy
import dataclasses
import shutil

import pytest
import torch

from drl_density.density import Density
from drl_density.errors import RunFolderError
from drl_density.networks import MLP
from drl_density.run_folder import RunFolder


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
