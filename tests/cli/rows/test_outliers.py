"""``outliers``: p-values, strangeness and the profile beside every row."""

import csv

import numpy as np
import pandas as pd
import pytest

import drl_density as drl
from drl_density.cli import main


def test_outliers_writes_what_the_density_says(run, table, tmp_path, capsys):
    out = tmp_path / "outliers.csv"
    assert main(["outliers", str(run), str(table), "--out", str(out)]) == 0
    with out.open() as stream:
        rows = list(csv.DictReader(stream))
    scores = drl.Density.load(run).outlier_scores(np.loadtxt(table, delimiter=",", skiprows=1))
    for name in ("log_density", "p_value", "typicality_p_value", "strangeness"):
        assert [float(row[name]) for row in rows] == getattr(scores, name).tolist()
    assert {"a", "level_0", "level_1", "level_2"} <= set(rows[0])
    assert "300 rows, " in (said := capsys.readouterr().err)
    assert "test rows" in said
    arguments = ["outliers", str(run), str(table), "--reference", str(table), "--out", str(out)]
    assert main(arguments) == 0
    assert "against 300 rows of" in capsys.readouterr().err


@pytest.mark.usefixtures("small_groups")
def test_a_table_without_rows_gives_the_same_header(run, few, tmp_path):
    (tmp_path / "empty.csv").write_text(few.read_text().splitlines()[0] + "\n")
    for source, out in ((few, "x.csv"), (tmp_path / "empty.csv", "y.csv")):
        assert main(["outliers", str(run), str(source), "--columns", "ours", "--out", str(tmp_path / out)]) == 0
    full, empty = (pd.read_csv(tmp_path / name) for name in ("x.csv", "y.csv"))
    assert full.columns.tolist() == empty.columns.tolist()
    assert (len(full), len(empty)) == (10, 0)


def test_the_reference_is_no_place_to_write(run, few, table, tmp_path, capsys):
    copy = tmp_path / "copy.csv"
    copy.write_text(table.read_text())
    assert main(["outliers", str(run), str(few), "--reference", str(copy), "--out", str(copy)]) == 1
    assert "is what is read here" in capsys.readouterr().err
