"""What all commands share: options, advice after an interruption, and printed seeds."""

import dataclasses

import pytest

from drl_density.cli import main
from drl_density.cli.command import Command, OnDevice, printed_seed


def test_other_commands_have_nothing_to_resume(run, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("drl_density.cli.tables.Density.load", interrupted)
    assert main(["sample", str(run)]) == 130
    assert "--resume" not in capsys.readouterr().err


def test_a_seed_that_is_not_given_is_drawn_and_printed(capsys, monkeypatch):
    monkeypatch.setattr("drl_density.cli.command.secrets.randbelow", lambda top: top - 1)
    assert printed_seed(None) == 2**31 - 1
    assert capsys.readouterr().err == f"seed {2**31 - 1}\n"


@pytest.mark.parametrize("seed", [0, 7])
def test_a_given_seed_is_kept_and_not_printed(seed, capsys):
    assert printed_seed(seed) == seed
    assert capsys.readouterr().err == ""


@dataclasses.dataclass
class Toy(OnDevice):
    """A command for tests."""

    num_rows: int = 3
    """Number of rows."""


def test_options_are_read_into_the_fields():
    toy = Toy.parse(["--num-rows", "5", "--device", "cuda:1"], program="toy")
    assert (toy.num_rows, toy.device) == (5, "cuda:1")
    assert Toy.parse([], program="toy") == Toy(num_rows=3, device=None)


def test_an_unknown_option_ends_with_the_program_name_in_its_message(capsys):
    with pytest.raises(SystemExit) as end:
        Toy.parse(["--num-row", "5"], program="drl-density toy")
    assert end.value.code == 2
    assert "drl-density toy" in capsys.readouterr().err


def test_a_command_without_a_body_or_advice():
    with pytest.raises(NotImplementedError):
        Command().run()
    assert Command().advice() == ""


def test_help_lists_each_option_with_its_docstring(capsys):
    with pytest.raises(SystemExit) as end:
        Toy.parse(["--help"], program="toy")
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert "Number of rows." in printed
    assert "--device" in printed
