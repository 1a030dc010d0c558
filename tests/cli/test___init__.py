"""The table of commands and ``main``: complete, light, with clear messages and exit statuses."""

import ast
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from drl_density import __version__
from drl_density.cli import COMMANDS, SHELLS, _print_warning, main
from drl_density.cli.command import Command
from drl_density.errors import DataError, DRLDensityWarning, NumericalError, RunFolderError, WorkerLost
from drl_density.run_folder import RunFolder


@pytest.mark.parametrize("name", COMMANDS)
def test_every_entry_leads_to_a_command(name):
    kind = COMMANDS[name].load()
    assert issubclass(kind, Command)
    assert kind.run is not Command.run


def test_the_overview_lists_every_command(capsys):
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, entry in COMMANDS.items():
        assert any(line.split()[:1] == [name] and line.endswith(entry.summary) for line in lines)


def test_a_misspelt_command_gets_a_suggestion(capsys):
    assert main(["smaple"]) == 2
    assert "there is no command 'smaple'; did you mean sample?" in capsys.readouterr().err


def test_no_command_at_all_prints_the_overview_as_an_error(capsys):
    assert main([]) == 2
    assert "usage: drl-density" in capsys.readouterr().err


def test_the_overview_imports_nothing_slow():
    program = (
        "import sys; from drl_density.cli import main; main(['--help']); "
        "print([name for name in ('torch', 'numpy', 'pyro', 'tyro', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


BAD = {
    "one run": (["compare", "RUN"], "at least two run folders"),
    "no file": (["fit", "none.csv"], "there is no file"),
    "unknown set": (["fit", "wines"], "did you mean wine"),
    "overwrite": (["fit", "TABLE", "--out", "RUN"], "--force"),
    "no run": (["sample", "nowhere"], "there is no run folder"),
    "other columns": (["score", "RUN", "wine"], "not here"),
    "bounds": (["fit", "TABLE", "--bounds", "a0:1", "--out", "x"], "NAME=LOWER:UPPER"),
    "inside out": (["fit", "TABLE", "--bounds", "a=3:1", "--out", "x"], "lower must be below upper"),
    "no particles": (["evaluate", "RUN", "--particles", "0"], "num_particles must be at least 2"),
    "never fitted": (["evaluate", "BEGUN"], "is not finished: resume it with"),
    "too many weights": (["combine", "RUN", "--weights", "1", "2"], "as many weights"),
    "no rows": (["sample", "RUN", "--num-samples", "0"], "at least 1"),
    "no folder to write to": (["sample", "RUN", "-n", "2", "--out", "none/draws.csv"], "cannot write none/draws.csv"),
    "a seed below 0": (["fit", "TABLE", "--seed", "-1", "--out", "x"], "--seed must be a whole number from 0"),
    "a seed beyond 63 bits": (["sample", "RUN", "--seed", str(2**63)], "--seed must be a whole number from 0"),
    "a seed to combine with": (["combine", "RUN", "RUN", "--seed", "-3"], "--seed must be a whole number from 0"),
    "a folder of runs": (["sample", "OUTER"], "it holds the runs label_0, so give one of these"),
    "a label into a file": (["guide", "RUN", "0", "--out", "TABLE"], "is a file; give the path of a folder"),
    "a label over a run": (["guide", "RUN", "0", "--out", "RUN"], "already holds a run"),
    "noise below 0": (["reconstruct", "RUN", "y.npz", "--method", "dps", "--noise", "-1"], "noise must be a positive"),
    "a row of nothing": (["predict", "RUN", "gaps.csv", "--column", "a"], "missing, so nothing predicts it"),
    "drop": (["fit", "TABLE", "--drop", "z", "--out", "x"], "cannot drop z"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_input_is_one_clear_line(name, run, table, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    np.savez("y.npz", y=np.zeros(1), mask=np.array([True, False, False]))
    Path("gaps.csv").write_text("a,b,c\n1,,\n", encoding="utf-8")
    RunFolder.create("outer/label_0").write_json("settings.json", {"stage": "finished"})
    RunFolder.create("begun").write_json("settings.json", {"stage": "training"})
    arguments, message = BAD[name]
    places = {"TABLE": str(table), "RUN": str(run), "BEGUN": "begun", "OUTER": "outer"}
    arguments = [places.get(word, word) for word in arguments]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


class Fails(Command):
    """Raises what it is given."""

    def __init__(self, error):
        self.error = error

    def run(self):
        raise self.error

    def advice(self):
        return "; continue tomorrow"


@pytest.fixture
def run_failing(monkeypatch):
    """The exit status of a command that raises an error."""

    def run_it(error):
        kind = SimpleNamespace(parse=lambda words, program: Fails(error))
        monkeypatch.setitem(COMMANDS, "sample", SimpleNamespace(load=lambda: kind, summary=""))
        return main(["sample"])

    return run_it


@pytest.mark.parametrize("kind", [DataError, RunFolderError, NumericalError, WorkerLost, ValueError, OSError])
def test_expected_errors_are_messages_with_status_one(kind, run_failing, capsys):
    assert run_failing(kind("too few rows")) == 1
    assert capsys.readouterr().err == "drl-density: too few rows\n"


def test_an_interruption_prints_the_advice_of_the_command(run_failing, capsys):
    assert run_failing(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "drl-density: interrupted; continue tomorrow\n"


def test_a_fault_of_the_program_keeps_its_traceback(run_failing):
    with pytest.raises(ZeroDivisionError):
        run_failing(ZeroDivisionError())


def test_warnings_of_the_package_are_notes_and_those_of_others_are_not_shown(capsys):
    _print_warning("few rows", DRLDensityWarning)
    _print_warning("something old", DeprecationWarning)
    assert capsys.readouterr().err == "note: few rows\n"


def test_a_word_like_no_command_gets_the_list(capsys):
    assert main(["xyzzy"]) == 2
    assert "choose from fit, sample, combine" in capsys.readouterr().err


def test_help_of_a_command_ends_with_status_zero(capsys):
    with pytest.raises(SystemExit) as end:
        main(["sample", "--help"])
    assert end.value.code == 0
    assert "usage: drl-density sample" in capsys.readouterr().out


def test_the_version_is_printed_without_loading_anything(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"drl-density {__version__}\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_scripts_know_every_command_and_the_options_of_a_fit(shell, capsys):
    assert main(["--completion", shell]) == 0
    script = capsys.readouterr().out
    (spec,) = (line for line in script.splitlines() if line.startswith("COMPLETION_SPEC = "))
    commands = ast.literal_eval(spec.removeprefix("COMPLETION_SPEC = "))["subcommands"]
    assert set(commands) == set(COMMANDS)
    flags = {flag for option in commands["fit"]["options"] for flag in option["flags"]}
    assert {"--quiet", "--settings.objective.num-negatives"} <= flags
    assert "\\n" not in spec


@pytest.mark.parametrize("words", [[], ["fish"], ["bash", "zsh"]])
def test_other_shells_have_no_completion(words, capsys):
    assert main(["--completion", *words]) == 2
    assert "--completion wants a shell, bash or zsh; got" in capsys.readouterr().err
