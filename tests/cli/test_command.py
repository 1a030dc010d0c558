"""What all commands share: options, advice after an interruption, and printed seeds."""

import ast
import dataclasses
from pathlib import Path

import pytest

import drl_density.cli
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


@pytest.mark.parametrize("second", ["--num-rows", "--num_rows"])
def test_an_option_given_twice_ends_with_how_to_give_its_values(second, capsys):
    with pytest.raises(SystemExit) as end:
        Toy.parse(["--num-rows", "5", "--device", "cpu", second, "6"], program="drl-density toy")
    assert end.value.code == 2
    assert "toy: --num-rows is given 2 times, and the last alone would count: give it once" in capsys.readouterr().err


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


def descriptions(source):
    """Name and description of every option that a module defines."""
    for kind in ast.walk(ast.parse(source)):
        for option, text in zip(kind.body, kind.body[1:], strict=False) if isinstance(kind, ast.ClassDef) else ():
            if isinstance(option, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                yield ast.unparse(option.target), str(text.value.value)


def test_descriptions_of_options_are_one_line_because_help_keeps_their_breaks():
    modules = sorted(Path(drl_density.cli.__file__).parent.rglob("*.py"))
    found = [option for module in modules for option in descriptions(module.read_text(encoding="utf-8"))]
    assert {"max_minutes", "num_samples", "columns"} <= {name for name, _ in found}
    assert [name for name, text in found if "\n" in text] == []
    assert list(descriptions('class A:\n    x: int\n    """One\n    two."""')) == [("x", "One\n    two.")]
