"""Shared parts of the commands on rows: targets, seeds to continue with, identities."""

import dataclasses
import json

from drl_density.cli.rows.command import WritesRows, run_identity
from drl_density.cli.rows.part_folder import part_path
from drl_density.cli.rows.row_groups import Finished, numbered_groups


@dataclasses.dataclass
class Toy(WritesRows):
    """A command for tests."""


def test_a_seed_to_continue_with_is_the_one_before(tmp_path, capsys):
    out = tmp_path / "x.csv"
    part_path(out).mkdir()
    (part_path(out) / "job.json").write_text(json.dumps({"--seed": 123}))
    assert Toy(out=out, resume=True).chosen_seed(None) == 123
    assert Toy(out=out, resume=True).chosen_seed(4) == 4
    assert capsys.readouterr().err == ""
    drawn = Toy(out=out).chosen_seed(None)
    assert capsys.readouterr().err == f"seed {drawn}\n"
    Toy(out=tmp_path / "y.csv", resume=True).chosen_seed(None)
    assert capsys.readouterr().err.startswith("seed ")


def test_a_dash_is_standard_output(tmp_path):
    assert Toy.parse(["--out", "-"], program="toy").target is None
    assert Toy.parse([], program="toy").target is None
    assert Toy.parse(["--out", str(tmp_path / "x.csv")], program="toy").target == tmp_path / "x.csv"


def test_a_command_gives_no_advice_before_row_groups_are_finished(tmp_path):
    import pandas as pd
    import pytest

    toy = Toy(out=tmp_path / "x.csv")
    assert toy.advice() == ""

    def work(group):
        if group.index:
            raise KeyboardInterrupt
        return Finished({"rows": pd.DataFrame({"a": [1]})})

    with pytest.raises(KeyboardInterrupt):
        toy.written(numbered_groups(3, 2), work, job={})
    assert "1 row groups are finished" in toy.advice()


def test_the_identity_of_a_run_is_its_content(run, tmp_path):
    import shutil

    first = run_identity(run)
    assert first == run_identity(run)
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert run_identity(copy)["content of the run"] == first["content of the run"]
    weights = copy / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert run_identity(copy)["content of the run"] != first["content of the run"]
