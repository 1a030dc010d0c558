"""Densities of labels in a folder: the same values from it, and nothing lost where it cannot be written or read."""

import json

import pytest
import torch

import drl_density as drl
from drl_density.density.classification import class_folder
from drl_density.errors import RunFolderError


@pytest.fixture(scope="module")
def classes(tiny_density):
    return drl.ClassDensities({3: tiny_density, 8: tiny_density}, torch.tensor([1.0, 3.0]), 0.25)


def test_densities_of_labels_come_back_from_their_folder(classes, tmp_path):
    again = drl.ClassDensities.load(classes.save(tmp_path / "classes"))
    assert again.labels == [3, 8]
    assert torch.equal(again.shares, classes.shares)
    assert again.power == 0.25
    rows = classes.densities[3].pool[:5]
    assert torch.equal(again.log_densities(rows), classes.log_densities(rows))
    assert torch.equal(again.probabilities(rows), classes.probabilities(rows))
    assert [path.name for path in tmp_path.iterdir()] == ["classes"]


def test_a_folder_is_replaced_only_on_demand_and_whole(classes, tmp_path, monkeypatch):
    path = classes.save(tmp_path / "classes")
    with pytest.raises(RunFolderError, match="exists already: overwrite it with force=True"):
        classes.save(path)
    halves = drl.ClassDensities(classes.densities, [0.5, 0.5])
    with monkeypatch.context() as patched:
        patched.setattr(class_folder, "write_bytes", lambda *_: (_ for _ in ()).throw(RunFolderError("the disk is full")))
        with pytest.raises(RunFolderError, match="the disk is full"):
            halves.save(path, force=True)
    assert drl.ClassDensities.load(path).power == 0.25
    halves.save(path, force=True)
    assert drl.ClassDensities.load(path).power == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["classes"]
    (path / "label_3" / "notes.txt").write_text("notes")
    with pytest.raises(RunFolderError, match="holds label_3/notes.txt, which would be lost: move it away"):
        classes.save(path, force=True)
    assert (path / "label_3" / "notes.txt").read_text() == "notes"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("notes")
    with pytest.raises(RunFolderError, match="mine exists already: give another one"):
        classes.save(tmp_path / "mine", force=True)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "notes"
    with pytest.raises(RunFolderError, match="cannot make a folder beside"):
        classes.save(tmp_path / "mine" / "notes.txt" / "classes")


@pytest.mark.parametrize(("fault", "seen"), [(OSError("busy"), RunFolderError), (KeyboardInterrupt(), KeyboardInterrupt)])
def test_the_folder_before_stays_where_the_new_one_cannot_take_its_place(classes, tmp_path, monkeypatch, fault, seen):
    path = classes.save(tmp_path / "classes")
    rename = type(path).rename

    def failing(self, target):
        if self.name == "new":
            raise fault
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(type(path), "rename", failing)
        with pytest.raises(seen):
            drl.ClassDensities(classes.densities, [0.5, 0.5]).save(path, force=True)
    assert drl.ClassDensities.load(path).power == 0.25
    assert [each.name for each in tmp_path.iterdir()] == ["classes"]


def test_damaged_and_foreign_folders_are_named(classes, tmp_path):
    with pytest.raises(RunFolderError, match="holds no classes.json: give a folder that ClassDensities.save has written"):
        drl.ClassDensities.load(tmp_path)
    path = classes.save(tmp_path / "classes")
    values = json.loads((path / "classes.json").read_text())
    for change, words in (
        ({"format_version": 99}, r"another version of drl-density \(format version 99"),
        ({"shares": [1.0]}, "damaged, or not ours .*1 shares of 2 labels"),
        ({"labels": "3"}, "damaged, or not ours"),
        ({"labels": [3, 9]}, "there is no run folder .*label_9"),
    ):
        (path / "classes.json").write_text(json.dumps({**values, **change}))
        with pytest.raises(RunFolderError, match=words):
            drl.ClassDensities.load(path)
    (path / "classes.json").write_text("{")
    with pytest.raises(RunFolderError, match="damaged, or not ours"):
        drl.ClassDensities.load(path)
