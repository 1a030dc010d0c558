"""``evaluate``, ``diagnose``, ``report`` and ``compare``."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest

from drl_density.cli import main
from drl_density.density import Density
from drl_density.run_folder import RunFolder
from tests.cli.conftest import SMALL

pytestmark = pytest.mark.usefixtures("short_paths", "short_ladders")


def test_diagnose_writes_into_the_report(run, capsys):
    assert main(["diagnose", str(run), "--steps", "100", "--chains", "8"]) == 0
    assert "chains of 100 steps" in capsys.readouterr().out
    assert main(["diagnose", str(run), "--steps", "100", "--chains", "8", "--level", "1", "--recovery"]) == 0
    assert (run / "diagnosis_level_0.nc").is_file()
    page = (run / "report.html").read_text()
    assert "<svg" in page
    assert "Chains of level 0" in page
    assert "Chains of recovery conditionals of level 1" in page
    capsys.readouterr()
    assert main(["report", str(run), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {found["target"] for found in printed["diagnoses"]} == {"level 0", "recovery conditionals of level 1"}
    assert printed["page"] == str(run / "report.html")
    assert main(["diagnose", str(run), "--steps", "5"]) == 1


def test_diagnose_starts_at_rows_with_labels(tmp_path, capsys):
    rng = np.random.default_rng(0)
    kinds = rng.integers(2, size=200)
    table, out = tmp_path / "labels.csv", tmp_path / "run"
    pd.DataFrame({"a": rng.normal(size=200) + kinds, "kind": np.array(["red", "white"])[kinds]}).to_csv(table, index=False)
    assert main(["fit", str(table), "--out", str(out), *SMALL]) == 0
    for rows in ([], [str(table)]):
        assert main(["diagnose", str(out), *rows, "--steps", "100", "--chains", "8"]) == 0, capsys.readouterr().err
    assert "8 chains of 100 steps" in capsys.readouterr().out


def test_evaluate_keeps_a_live_line_and_writes_the_page(run, capsys):
    assert main(["evaluate", str(run), "--particles", "16", "--replicates", "2", "--mixing-steps", "3"]) == 0
    printed = capsys.readouterr()
    assert re.search(r"annealing +100 % .*log Z = -?\d+\.\d{3} ± \d+\.\d{3}, ESS \d+", printed.err)
    assert "log Z" in printed.out
    page = (run / "report.html").read_text()
    assert main(["report", str(run), "--quiet"]) == 0
    assert (run / "report.html").read_text() == page
    assert "log Z =" in capsys.readouterr().out


def test_compare_pairs_the_rows(run, table, tmp_path, capsys):
    other = tmp_path / "other"
    short = ["--settings.training.num-steps", "2", "--settings.training.evaluate-every", "1"]
    assert main(["fit", str(table), "--out", str(other), *SMALL, "--seed", "1", *short]) == 0
    capsys.readouterr()
    assert main(["compare", str(run), str(other)]) == 0
    found = capsys.readouterr()
    lines = found.out.splitlines()
    assert len(lines) == 3
    assert float(lines[1].split()[2]) == 0.0
    split = f"note: {other} was fitted to another split, so it may have been trained on the test rows of {run}"
    assert split in found.err
    assert main(["compare", str(run), str(other), "--source", str(table), "--json"]) == 0
    found = capsys.readouterr()
    assert "another split" not in found.err
    rows = json.loads(found.out)["runs"]
    assert [row["name"] for row in rows] == [str(run), str(other)]
    assert rows[0]["difference"] == 0


def test_compare_refuses_fits_of_other_columns(run, tmp_path, capsys, monkeypatch):
    load, other = Density.load, tmp_path / "other"
    renamed = [dataclasses.replace(column, name=f"{column.name}_") for column in load(run).columns]

    def load_renamed(path, *, device=None):
        return dataclasses.replace(load(run), columns=tuple(renamed)) if path == other else load(path, device=device)

    monkeypatch.setattr("drl_density.cli.judge.Density.load", load_renamed)
    assert main(["compare", str(run), str(other)]) == 1
    assert f"{other} has other columns than {run}" in capsys.readouterr().err


def test_the_same_run_twice_is_one_run(run, capsys):
    assert main(["compare", str(run), str(run)]) == 1
    assert "at least two run folders to compare, got 1" in capsys.readouterr().err


def test_a_folder_without_evaluation_has_no_page(tmp_path, capsys):
    RunFolder.create(tmp_path / "begun")
    assert main(["report", str(tmp_path / "begun")]) == 1
    assert "drl-density: " in capsys.readouterr().err
    assert not (tmp_path / "begun" / "report.html").exists()
