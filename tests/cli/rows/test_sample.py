"""``sample``."""

import csv

import pandas as pd
import pytest

import drl_density as drl
from drl_density.cli import main
from drl_density.samplers.importance import IN_WORDS


def test_sample_writes_rows_on_the_columns_grid(run, tmp_path):
    assert main(["sample", str(run), "-n", "30", "--out", str(tmp_path / "draws.csv")]) == 0
    with (tmp_path / "draws.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 30
    assert all(float(row["c"]) == round(float(row["c"])) for row in rows)
    assert all(abs(float(row["b"]) * 10 - round(float(row["b"]) * 10)) < 1e-6 for row in rows)


def test_sample_names_the_sampler_of_the_density(run, tmp_path, capsys):
    plan = drl.Density.load(run).plan
    assert main(["sample", str(run), "-n", "4", "--out", str(tmp_path / "x.csv")]) == 0
    printed = capsys.readouterr().err
    assert f"by {IN_WORDS[plan.method]}" in printed
    assert ("efficiency" in printed) == (plan.efficiency is not None)
    assert main(["sample", str(run), "-n", "4", "--steps", "2", "--out", str(tmp_path / "y.csv")]) == 1
    assert "num_steps belongs to a method" in capsys.readouterr().err


def test_sample_by_other_methods_says_what_they_are(run, tmp_path, capsys):
    for method, steps in (("ddim", "10"), ("flow", "5"), ("predictor-corrector", "5"), ("ancestral", "60")):
        out = tmp_path / f"{method}.csv"
        assert main(["sample", str(run), "-n", "20", "--method", method, "--steps", steps, "--out", str(out)]) == 0
        assert len(out.read_text().splitlines()) == 21
        assert f"{method}, an approximation" in capsys.readouterr().err
    assert main(["sample", str(run), "-n", "20", "--method", "short-run", "--out", str(tmp_path / "s.csv")]) == 1
    assert "repeats the short chains that a density was trained by" in capsys.readouterr().err
    out = tmp_path / "x.csv"
    arguments = ["sample", str(run), "-n", "20", "--method", "ddim", "--chain-steps", "5", "--out", str(out)]
    assert main(arguments) == 0
    assert "R-hat" in capsys.readouterr().err


def test_equal_seeds_draw_equal_rows(run, capsys):
    tables = []
    for seed in ("3", "3", "4"):
        assert main(["sample", str(run), "-n", "4", "--seed", seed]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] != tables[2]


@pytest.mark.usefixtures("small_groups")
def test_interrupted_draws_end_in_the_same_file(run, tmp_path, interrupted_call, capsys):
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    assert main(["sample", str(run), "-n", "10", "--seed", "3", "--out", str(whole)]) == 0
    with interrupted_call("draw") as calls:
        assert main(["sample", str(run), "-n", "10", "--seed", "3", "--out", str(out)]) == 130
    assert "2 row groups are finished" in capsys.readouterr().err
    assert len({call["seed"] for call in calls}) == 3
    assert main(["sample", str(run), "-n", "10", "--resume", "--method", "ddim", "--out", str(out)]) == 1
    assert "--method was the density's own and is ddim now" in capsys.readouterr().err
    assert main(["sample", str(run), "-n", "10", "--resume", "--out", str(out)]) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert len(pd.read_parquet(out).drop_duplicates()) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "whole.parquet"]


def test_draws_of_one_group_are_those_of_the_density(run, tmp_path):
    assert main(["sample", str(run), "-n", "6", "--seed", "3", "--out", str(tmp_path / "x.csv")]) == 0
    found = drl.Density.load(run).draw(6, seed=3).draws
    with (tmp_path / "x.csv").open() as stream:
        assert [float(row["a"]) for row in csv.DictReader(stream)] == found[:, 0].tolist()
