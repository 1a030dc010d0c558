"""What commands print: results and rows on standard output, all else on standard error, less of it on request."""

import ast
import importlib
import inspect
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tqdm import tqdm

import drl_density.cli as cli
from drl_density.cli import COMMANDS, main
from drl_density.cli.output import complain, note, plain_values, result, say, shows_progress, speaking, summary
from drl_density.errors import Verdict

ROOM = Path(cli.__file__).parent
FIGURES = {
    "score": ("SCORED", {"rows", "mean_log_density", "verdict", "out"}),
    "outliers": ("SCORED", {"rows", "reference"}),
    "impute": ("SCORED -n 2 --seed 0", {"rows", "cells_filled", "diagnostics"}),
    "predict": ("SCORED --column a --seed 0", {"rows", "column", "rows_with_value"}),
    "sample": ("-n 3 --seed 0", {"rows", "seed"}),
    "combine": ("-n 20 --seed 0", {"rows", "how", "is_doubtful"}),
}
"""Commands that write rows: their options and some of their figures."""


def test_values_that_json_cannot_hold_are_changed():
    found = plain_values(
        {
            "path": Path("a/b"),
            "verdict": Verdict.RELIABLE,
            "ends": (-math.inf, math.nan, 1.5),
            "array": np.arange(2),
            "tensor": torch.tensor([math.inf, 2.0]),
            "number": np.float64(0.5),
            3: {"nested": [True, None, 4]},
        }
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == {
        "path": "a/b",
        "verdict": "reliable",
        "ends": [None, None, 1.5],
        "array": [0, 1],
        "tensor": [None, 2.0],
        "number": 0.5,
        "3": {"nested": [True, None, 4]},
    }


def print_everything():
    note("a note")
    say("a line")
    result("found 1", {"found": 1})
    summary("rows 2", {"rows": 2})
    complain("a failure")


@pytest.mark.parametrize(
    ("manner", "out", "err"),
    [
        ({}, "a line\nfound 1\n", "a note\nrows 2\na failure\n"),
        ({"quiet": True}, "found 1\n", "a failure\n"),
        ({"as_json": True}, '{\n "found": 1\n}\n{\n "rows": 2\n}\n', "a note\na line\na failure\n"),
        ({"quiet": True, "as_json": True}, '{\n "found": 1\n}\n{\n "rows": 2\n}\n', "a failure\n"),
    ],
)
def test_each_kind_of_line_goes_where_the_options_send_it(manner, out, err, capsys):
    with speaking(**manner):
        assert shows_progress() is not manner.get("quiet", False)
        print_everything()
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (out, err)
    assert shows_progress()


def test_stages_of_a_fit_stay_out_of_the_json(capsys):
    with speaking(as_json=True):
        tqdm.write("a stage")
        result("found 1", {"found": 1})
    tqdm.write("another stage")
    found = capsys.readouterr()
    out, rest = found.out.split("}")
    assert json.loads(out + "}") == {"found": 1}
    assert rest.strip() == "another stage"
    assert found.err == "a stage\n"


def test_one_module_prints():
    """A print elsewhere would escape the options; the overview, the version and completion scripts belong to no command."""
    prints = {}
    for path in ROOM.rglob("*.py"):
        calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        prints[str(path.relative_to(ROOM))] = sum(ast.unparse(call.func) == "print" for call in calls)
    assert {name: count for name, count in prints.items() if count} == {"output.py": 4, "__init__.py": 4}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_options_and_one_result(name, capsys):
    command = COMMANDS[name].load()
    module = importlib.import_module(command.__module__)
    assert "result(" in inspect.getsource(command) or "summary(" in inspect.getsource(command)
    assert {"result", "summary"} & set(vars(module))
    assert {"quiet", "json"} <= {field.name for field in command.__dataclass_fields__.values()}


@pytest.mark.usefixtures("short_paths", "short_ladders")
@pytest.mark.parametrize("name", FIGURES)
def test_commands_that_write_rows_print_figures_as_json(name, run, table, tmp_path, capsys):
    words, names = FIGURES[name]
    scored, out = tmp_path / "few.csv", tmp_path / "out.csv"
    scored.write_text("\n".join(table.read_text().splitlines()[:9]) + "\n")
    arguments = [name, str(run), *words.replace("SCORED", str(scored)).split(), "--json"]
    assert main([*arguments, "--quiet", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert names <= set(json.loads(printed.out))
    assert printed.err == ""
    assert len(out.read_text().splitlines()) > 1
    assert main([*arguments, "--out", "-"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "give a file for the rows by --out" in printed.err


def test_a_quiet_command_writes_the_same_rows(run, capsys):
    assert main(["sample", str(run), "-n", "2", "--seed", "0"]) == 0
    loud = capsys.readouterr()
    assert main(["sample", str(run), "-n", "2", "--seed", "0", "--quiet"]) == 0
    quiet = capsys.readouterr()
    assert (loud.out, "") == (quiet.out, quiet.err)
    assert "done in" in loud.err
