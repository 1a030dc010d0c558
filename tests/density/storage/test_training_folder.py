"""A resumed fit is the fit that was begun, or is refused; an earlier run stays until the new one has a saved state."""

import dataclasses

import pytest
import torch

import drl_density as drl
from drl_density.density.fitting.plan import plan_fit
from drl_density.density.storage.training_folder import TrainingFolder, differences, was_begun_here
from drl_density.errors import DataError, RunFolderError
from drl_density.run_folder import RunFolder
from tests.density.fitting.test_run import SETTINGS


@pytest.fixture(scope="module")
def data():
    return drl.load_dataset("banana", seed=0, num_rows=200)


@pytest.fixture
def begun(data, tmp_path):
    """A run that was killed before its first step."""
    folder = TrainingFolder.prepare(tmp_path / "run", resume=False, force=False)
    folder.begin(data, plan_fit(data, SETTINGS, seed=0).settings, seed=0)
    folder.close()
    return tmp_path / "run"


def resumed(out, data, *, settings=SETTINGS, seed=0):
    return drl.fit(data, settings=settings, out=out, resume=True, seed=seed, progress=False)


def test_other_seeds_rows_and_settings_are_refused(begun, data):
    with pytest.raises(RunFolderError, match="begun with seed 0, now asked for 1"):
        resumed(begun, data, seed=1)
    with pytest.raises(RunFolderError, match="other rows"):
        resumed(begun, drl.load_dataset("banana", seed=1, num_rows=200))
    with pytest.raises(RunFolderError, match="other rows"):
        resumed(begun, dataclasses.replace(data, weights=torch.ones(len(data.train))))
    training = dataclasses.replace(SETTINGS.training, learning_rate=0.5)
    network = dataclasses.replace(SETTINGS.network, width=16)
    changed = dataclasses.replace(SETTINGS, network=network, training=training)
    with pytest.raises(
        RunFolderError,
        match="network.width was 8, now asked for 16; training.learning_rate was 0.002, now asked for 0.5",
    ):
        resumed(begun, data, settings=changed)


def test_a_beginning_without_a_digest_of_rows_is_refused(begun, data):
    values = RunFolder(begun).read_json("settings.json")
    del values["rows"]
    RunFolder(begun).write_json("settings.json", values)
    with pytest.raises(RunFolderError, match="damaged or of another version"):
        resumed(begun, data)


def test_a_damaged_beginning_is_refused(begun, data):
    values = RunFolder(begun).read_json("settings.json")
    del values["fit"]["training"]["num_steps"]
    values["fit"]["training"]["number_of_steps"] = 3
    RunFolder(begun).write_json("settings.json", values)
    with pytest.raises(RunFolderError, match="damaged or of another version"):
        resumed(begun, data)


def test_a_folder_that_is_not_there_is_not_resumed(data, tmp_path):
    with pytest.raises(RunFolderError, match="there is no run folder"):
        resumed(tmp_path / "typo", data)


def test_the_lock_is_held_until_the_folder_is_closed(data, tmp_path):
    first = TrainingFolder.prepare(tmp_path / "run", resume=False, force=False)
    assert (tmp_path / "run" / ".lock").is_file()
    first.close()
    assert not (tmp_path / "run" / ".lock").exists()
    with pytest.raises(RunFolderError, match="there is no run folder"):
        TrainingFolder.prepare(tmp_path / "typo", resume=True, force=False)


def test_an_earlier_run_stays_until_the_new_one_has_a_state(begun, data):
    folder = RunFolder(begun)
    before = folder.settings.read_bytes()
    for takes_place in (False, True):
        new = TrainingFolder.prepare(begun, resume=False, force=True)
        new.begin(data, SETTINGS, seed=7)
        assert folder.settings.read_bytes() == before
        if takes_place:
            new.take_place()
        new.close()
    assert folder.read_json(folder.settings)["seed"] == 7
    assert [item.name for item in begun.iterdir()] == ["settings.json"]


def test_a_command_knows_its_own_run(begun, tmp_path, monkeypatch):
    assert was_begun_here(begun)
    assert not was_begun_here(tmp_path / "nowhere")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another")
    assert not was_begun_here(begun)


def test_differences_name_what_was_asked_for():
    asked = dataclasses.replace(SETTINGS, num_networks=3, objective=drl.DenoisingObjective())
    found = differences(asked, SETTINGS)
    assert "num_networks was 2, now asked for 3" in found
    assert "objective was adjusted, now asked for denoising" in found
    assert differences(drl.FitSettings(), SETTINGS) == []


def test_the_history_is_written_where_that_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    """A clock on which writing takes a tenth of a second: the next one is due five seconds after it began."""
    now, written, tensors = [100.0], [], {"weight": torch.zeros(1)}

    def write(self, path, content):
        written.append(len(content["step"]))
        now[0] += 0.1

    monkeypatch.setattr("drl_density.density.storage.training_folder.time.monotonic", lambda: now[0])
    monkeypatch.setattr(RunFolder, "write_dataset", write)
    folder = TrainingFolder.prepare(tmp_path / "run", resume=False, force=False)
    save = folder.saver("gaussian-0")
    for clock, count in ((100.0, 1), (104.9, 2), (105.1, 3), (106.0, 4)):
        now[0] = clock
        save(tensors, {"history": [{"step": step, "loss": 1.0} for step in range(count)]})
        assert len(folder.folder.read_tensors(folder.folder.state)[1]["gaussian-0/"]["history"]) == count
    folder.close()
    assert written == [1, 3]


def test_a_refused_fit_leaves_no_folder_that_it_made(data, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    refused = dataclasses.replace(SETTINGS, transform="logit")
    for out in (tmp_path / "new" / "run", own):
        with pytest.raises(DataError, match="needs lower and upper bounds"):
            drl.fit(data, settings=refused, out=out, seed=0, progress=False)
    assert list(tmp_path.iterdir()) == [own]
    assert list(own.iterdir()) == []


@pytest.mark.parametrize("is_refused", [False, True])
def test_an_interrupted_fit_keeps_the_folder_that_it_resumes_in(tmp_path, is_refused):
    TrainingFolder.prepare(tmp_path / "run", resume=False, force=False).close(is_refused=is_refused)
    assert (tmp_path / "run").is_dir() != is_refused
