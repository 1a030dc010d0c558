"""``fit`` and ``demo``: options, dry runs, and interrupted fits."""

import json

import pytest
import torch
from safetensors.torch import load_file

from drl_density.cli import main
from tests.cli.conftest import SMALL


def test_bounds_are_declared_and_printed(table, tmp_path, capsys):
    assert main(["fit", str(table), "--bounds", "c=-0.5:", "--out", str(tmp_path / "none"), "--dry-run"]) == 0
    assert "bounds (-0.5, inf)" in capsys.readouterr().out


def test_dry_run_prints_settings_and_writes_nothing(table, tmp_path, capsys):
    assert main(["fit", str(table), "--out", str(tmp_path / "none"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "rounded, grid 0.1" in printed
    assert json.loads(printed[printed.index("{\n") :])["schedule"]["num_levels"] == 10
    assert not (tmp_path / "none").exists()


def test_settings_that_cannot_be_are_named_as_they_are_typed(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "wine", "--settings.training.num-steps", "0"])
    error = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "settings.training: num_steps must be at least 1, got 0" in error
    assert "dummy" not in error


def test_an_unreliable_demo_fails(monkeypatch, capsys):
    from drl_density.cli import learn
    from drl_density.cli.demo import DemoOutcome

    monkeypatch.setattr(learn, "run_demo", lambda *_, **__: DemoOutcome("figures", "unknown"))
    assert main(["demo"]) == 1
    printed = capsys.readouterr()
    assert "figures" in printed.out
    assert "unknown" in printed.err


def test_interruption_is_resumable(table, tmp_path, capsys, monkeypatch):
    """Ctrl-C once the first state is saved; the same command with --resume ends where an untouched run ends."""
    from drl_density.density.fitting.run import TrainingFolder

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
    assert main([*arguments, str(tmp_path / "other")]) == 0
    first, second = (load_file(tmp_path / name / "weights.safetensors") for name in ("run", "other"))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_run_that_torchrun_starts_again_goes_on_by_itself(run, table, tmp_path, monkeypatch, capsys):
    """Killed after its first state: refused by hand, taken up under torchrun whatever --force says, to the bits of an
    undisturbed fit.
    """
    from drl_density.density.fitting.run import TrainingFolder

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
    from drl_density.density.fitting.run import TrainingFolder

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
