"""What the command line promises about run folders: moved and changed tables, refusals, and one writer at a time."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from drl_density.cli import main
from drl_density.density import Density
from drl_density.run_folder import FORMAT_VERSION, FolderLock, RunFolder
from tests.cli.conftest import SMALL

pytestmark = pytest.mark.usefixtures("short_paths")


def write(path, rows):
    np.savetxt(path, rows, delimiter=",", header="a,b", comments="", fmt="%.17g")


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(300, 2))


@pytest.fixture(scope="module")
def fitted(rows, tmp_path_factory):
    """The folder of a table and of a run that was fitted to it by a relative path."""
    place = tmp_path_factory.mktemp("fitted")
    write(place / "table.csv", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(["fit", "table.csv", "--out", "run", *SMALL]) == 0
    return place


@pytest.fixture
def place(fitted, tmp_path):
    """A copy of the run, whose table is still where it was."""
    shutil.copytree(fitted / "run", tmp_path / "run")
    yield tmp_path
    assert (fitted / "table.csv").is_file()


@pytest.fixture
def moved(fitted):
    """The table is somewhere else for the time of a test."""
    (fitted / "table.csv").rename(fitted / "elsewhere.csv")
    yield fitted
    (fitted / "elsewhere.csv").replace(fitted / "table.csv")


@pytest.fixture
def grown(fitted, rows):
    """The table has more rows for the time of a test."""
    write(fitted / "table.csv", np.r_[rows, rows[:60] * 0 + 5 + np.random.default_rng(9).normal(size=(60, 2))])
    yield fitted
    write(fitted / "table.csv", rows)


def test_scores_need_no_table_of_the_fit(place, moved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["score", "run", str(moved / "elsewhere.csv"), "--out", "scores.csv"]) == 0
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 301
    found = Density.load("run").outlier_scores([[0.0, 0.0], [9.0, 9.0]])
    assert found.reference == "the fit's 30 test rows"
    assert found.num_reference == 30
    assert float(found.p_value[1]) == pytest.approx(1 / 31)


@pytest.mark.parametrize(
    "command",
    [["evaluate", "run"], ["diagnose", "run"], ["compare", "run", "again"], ["distill", "run", "--method", "mmd"]],
)
def test_rows_that_changed_are_not_the_rows_of_the_fit(command, place, grown, monkeypatch, capsys):
    monkeypatch.chdir(place)
    shutil.copytree("run", "again")
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "table.csv has changed since the fit: there were 300 rows, and there are 360 now" in said
    assert "give a table of rows that were not trained on" in said
    assert sorted(item.name for item in (place / "run").glob("report*")) == []


def test_the_rows_of_the_fit_are_found_from_any_folder(place, fitted, monkeypatch, capsys):
    monkeypatch.chdir(place)
    shutil.copytree("run", "again")
    assert main(["compare", "run", "again"]) == 0


@pytest.mark.parametrize("extra", [[], ["--resume"]])
def test_a_run_of_an_older_version_is_refused_before_data_are_loaded(extra, place, fitted, monkeypatch, capsys):
    settings = place / "run" / "settings.json"
    values = json.loads(settings.read_text()) | {"format_version": FORMAT_VERSION - 1}
    settings.write_text(json.dumps(values))

    def loaded(*_, **__):
        raise AssertionError("data were loaded")

    monkeypatch.setattr("drl_density.cli.learn.load_dataset", loaded)
    assert main(["fit", str(fitted / "table.csv"), "--out", str(place / "run"), *SMALL, *extra]) == 1
    said = capsys.readouterr().err
    assert "written by an earlier version" in said
    assert "--force" in said
    assert "--resume" not in said


@pytest.mark.parametrize(
    "arguments",
    [["missing.csv"], ["table.csv", "--drop", "z"], ["table.csv", "--device", "nothing"]],
    ids=["no data", "no such column", "no such device"],
)
def test_a_refused_fit_loses_nothing(arguments, place, fitted, monkeypatch):
    before = {item.name: item.read_bytes() for item in (place / "run").iterdir()}
    shutil.copy(fitted / "table.csv", place)
    monkeypatch.chdir(place)
    assert main(["fit", *arguments, "--out", "run", *SMALL, "--force"]) == 1
    assert {item.name: item.read_bytes() for item in (place / "run").iterdir()} == before


def test_an_interrupted_fit_that_replaces_a_run(place, fitted, monkeypatch, capsys):
    """Before its first saved state, the earlier run is there; after it, the new one."""
    from drl_density.density.storage.training_folder import TrainingFolder

    saver, moment = TrainingFolder.saver, "before"

    def interrupted(self, name):
        save = saver(self, name)

        def both(tensors, scalars):
            if moment == "after":
                save(tensors, scalars)
            raise KeyboardInterrupt

        return both

    before = {item.name: item.read_bytes() for item in (place / "run").iterdir()}
    monkeypatch.setattr(TrainingFolder, "saver", interrupted)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another command than the one that began the earlier run")
    again = ["fit", str(fitted / "table.csv"), "--out", str(place / "run"), *SMALL]
    assert main([*again, "--force"]) == 130
    assert f"the earlier run in {place / 'run'} is untouched" in capsys.readouterr().err
    assert {item.name: item.read_bytes() for item in (place / "run").iterdir()} == before
    moment = "after"
    assert main([*again, "--force"]) == 130
    assert "continue with the same command and --resume" in capsys.readouterr().err
    assert RunFolder.open(place / "run").read_json("settings.json")["stage"] == "training"
    assert not (place / "run" / "weights.safetensors").exists()


@pytest.mark.parametrize("command", ["evaluate", "diagnose", "distill", "fit"])
def test_a_second_writer_is_refused(command, place, fitted, monkeypatch, capsys):
    run = str(place / "run")
    words = {"fit": ["fit", str(fitted / "table.csv"), "--out", run, *SMALL, "--force"]}.get(command, [command, run])
    with ThreadPoolExecutor(1) as other:
        lock = other.submit(lambda: FolderLock(run).acquire()).result()
        assert main(words) == 1
        assert f"{run} is being written by process" in capsys.readouterr().err
        assert Density.load(run).num_features == 2
        other.submit(lock.release).result()
