"""``fit`` and ``demo``: options, dry runs, and interrupted fits."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from drl_density.cli import main
from drl_density.cli.learn import Fit, _bounds
from drl_density.density.settings import CosineSchedule, FitSettings
from drl_density.errors import DataError, Verdict
from drl_density.run_folder import RunFolder
from tests.cli.conftest import SMALL

pytestmark = pytest.mark.usefixtures("short_paths")


def test_bounds_are_declared_and_printed(table, tmp_path, capsys):
    assert main(["fit", str(table), "--bounds", "c=-0.5:", "--out", str(tmp_path / "none"), "--dry-run"]) == 0
    assert "bounds (-0.5, inf)" in capsys.readouterr().out


def test_dry_run_prints_settings_and_writes_nothing(table, tmp_path, capsys):
    assert main(["fit", str(table), "--out", str(tmp_path / "none"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "rounded, grid 0.1" in printed
    assert json.loads(printed[printed.index("{\n") :])["schedule"]["num_levels"] == 10
    assert not (tmp_path / "none").exists()


def test_dry_run_refuses_the_times_that_a_fit_refuses(table, tmp_path, capsys):
    words = ["fit", str(table), "--out", str(tmp_path / "none"), "--max-minutes", "-1"]
    for more in ([], ["--dry-run"]):
        assert main([*words, *more]) == 1
        assert "max_minutes must be a positive number, got -1.0" in capsys.readouterr().err


def test_larger_tables_are_sampled_on_request(table, tmp_path, capsys):
    words = ["fit", str(table), "--out", str(tmp_path / "none"), "--dry-run", "--max-rows-in-memory"]
    assert main([*words, "150"]) == 0
    assert "samples of 1" in capsys.readouterr().out
    assert main([*words, "5"]) == 1
    assert "max_rows_in_memory must be at least 100, got 5" in capsys.readouterr().err


def test_settings_that_cannot_be_are_named_as_they_are_typed(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "wine", "--settings.training.num-steps", "0"])
    error = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "settings.training: num_steps must be at least 1, got 0" in error
    assert "dummy" not in error


def test_an_unreliable_demo_fails(monkeypatch, capsys):
    from drl_density.cli import learn
    from drl_density.cli.demo import DemoOutcome

    monkeypatch.setattr(learn, "run_demo", lambda *_, **__: DemoOutcome("figures", Verdict.UNKNOWN, {}))
    assert main(["demo"]) == 1
    printed = capsys.readouterr()
    assert "figures" in printed.out
    assert "unknown" in printed.err


def test_interruption_is_resumable(run, table, tmp_path, capsys, monkeypatch):
    """Ctrl-C once the first state is saved; the same command with --resume ends where an untouched run ends."""
    from drl_density.density.storage.training_folder import TrainingFolder

    saver = TrainingFolder.saver

    def save_then_interrupt(self, name):
        save = saver(self, name)

        def wrapped(tensors, scalars):
            save(tensors, scalars)
            raise KeyboardInterrupt

        return wrapped

    arguments = ["fit", str(table), *SMALL, "--out"]
    monkeypatch.setattr(TrainingFolder, "saver", save_then_interrupt)
    assert main([*arguments, str(tmp_path / "run")]) == 130
    assert "--resume" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*arguments, str(tmp_path / "run"), "--resume"]) == 0
    first, second = (load_file(folder / "weights.safetensors") for folder in (tmp_path / "run", run))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_run_that_torchrun_starts_again_goes_on_by_itself(run, table, tmp_path, monkeypatch, capsys):
    """Killed after its first state: refused by hand, taken up under torchrun whatever --force says, to the bits of an
    undisturbed fit.
    """
    from drl_density.density.storage.training_folder import TrainingFolder

    class Killed(BaseException):
        pass

    saver, steps = TrainingFolder.saver, []

    def watched(self, name):
        save = saver(self, name)

        def wrapped(tensors, scalars):
            save(tensors, scalars)
            steps.append(scalars["step"])
            if len(steps) == 1:
                raise Killed

        return wrapped

    arguments = ["fit", str(table), "--out", str(tmp_path / "run"), *SMALL]
    monkeypatch.setattr(TrainingFolder, "saver", watched)
    with pytest.raises(Killed):
        main(arguments)
    assert main(arguments) != 0
    assert "--resume" in capsys.readouterr().err
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert main([*arguments, "--force"]) == 0
    assert steps == [10, 20]
    first, second = (load_file(folder / "weights.safetensors") for folder in (tmp_path / "run", run))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_interruption_before_the_first_state_promises_nothing(table, tmp_path, capsys, monkeypatch):
    from drl_density.density.storage.training_folder import TrainingFolder

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    arguments = ["fit", str(table), *SMALL, "--out", str(tmp_path / "run")]
    monkeypatch.setattr(TrainingFolder, "saver", interrupted)
    assert main(arguments) == 130
    error = capsys.readouterr().err
    assert "--resume" not in error
    assert "before anything was saved; start again with the same command and --force" in error
    monkeypatch.setattr("drl_density.cli.learn.load_dataset", interrupted)
    assert main([*arguments[:-1], str(tmp_path / "other")]) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")


@pytest.mark.parametrize(
    ("text", "name", "ends"),
    [
        ("age=0:", "age", {"lower": 0.0}),
        ("share=0:1", "share", {"lower": 0.0, "upper": 1.0}),
        ("a=b=:-2.5", "a=b", {"upper": -2.5}),
        ("free=:", "free", {}),
    ],
)
def test_bounds_of_a_column_are_read(text, name, ends):
    assert _bounds(text) == (name, ends)


@pytest.mark.parametrize("text", ["age", "age=3", "=0:1", "age=low:1"])
def test_bounds_that_are_no_range_are_refused(text):
    with pytest.raises(DataError, match="NAME=LOWER:UPPER"):
        _bounds(text)


def test_chosen_kinds_and_given_options_make_the_settings():
    words = ["wine", "--objective", "denoising", "--schedule", "cosine", "--settings.schedule.num-levels", "7"]
    settings = Fit.parse(words, program="fit").settings
    assert settings.objective.kind == "denoising"
    assert settings.schedule == CosineSchedule(num_levels=7)


def test_given_options_win_over_a_preset():
    words = ["images/", "--preset", "cifar10", "--settings.objective.num-chain-steps", "5"]
    settings, preset = Fit.parse(words, program="fit").settings, FitSettings.preset("cifar10")
    assert settings.objective == dataclasses.replace(preset.objective, num_chain_steps=5)
    assert settings.network == preset.network


def test_an_unknown_preset_is_a_message(capsys):
    assert main(["fit", "wine", "--preset", "cifar11"]) == 1
    assert "cifar11" in capsys.readouterr().err


def test_advice_depends_on_what_was_saved(run, tmp_path):
    assert Fit("wine", out=tmp_path / "nowhere").advice() == ""
    begun = RunFolder.create(tmp_path / "begun")
    begun.write_json("settings.json", {"stage": "training"})
    assert "start again with the same command and --force" in Fit("wine", out=tmp_path / "begun").advice()
    assert Fit("wine", out=run).advice() == ""


def test_a_fit_prints_its_data_and_the_nearest_training_rows(run, table, capsys):
    """Continuing a finished run changes nothing and prints its summary again."""
    before = (run / "weights.safetensors").read_bytes()
    assert main(["fit", str(table), "--out", str(run), *SMALL, "--resume"]) == 0
    printed = capsys.readouterr().out
    assert "nearest training row: samples" in printed
    assert f"saved in {run}" in printed
    assert (run / "weights.safetensors").read_bytes() == before
