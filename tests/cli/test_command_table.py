"""The table of commands: complete, light, and helpful where a word is misspelt."""

import subprocess
import sys

import pytest

from drl_density.cli import COMMANDS, main
from drl_density.cli.command import Command


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
