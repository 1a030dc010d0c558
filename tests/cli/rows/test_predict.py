"""``predict``."""

import csv

from drl_density.cli import main


def test_predict_writes_quantiles_and_the_log_density_of_given_values(run, table, tmp_path, capsys):
    few = tmp_path / "few.csv"
    few.write_text("\n".join(table.read_text().splitlines()[:4]) + "\n")
    out = tmp_path / "predicted.csv"
    arguments = ["predict", str(run), str(few), "--column", "a", "--quantiles", "0.1", "0.9", "--out", str(out)]
    assert main(arguments) == 0
    with out.open() as stream:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    names = ["mean", "quantile_0.1", "quantile_0.9", "log_density", "log_density_lower", "log_density_upper"]
    assert list(rows[0]) == names
    assert len(rows) == 3
    assert all(row["quantile_0.1"] < row["mean"] < row["quantile_0.9"] for row in rows)
    assert all(row["log_density_lower"] <= row["log_density"] <= row["log_density_upper"] for row in rows)
    mean = sum(row["log_density"] for row in rows) / 3
    assert f"3 rows of a, mean log density of the 3 values given {mean:.4f} nats" in capsys.readouterr().err


def test_the_predicted_column_may_be_absent(run, tmp_path, capsys):
    without = tmp_path / "without.csv"
    without.write_text("b,c\n0.5,3\n-1.2,6\n")
    assert main(["predict", str(run), str(without), "--column", "a"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].startswith("mean,quantile_0.05,")
    assert "2 rows of a\n" in printed.err
    assert main(["predict", str(run), str(without), "--column", "z"]) == 1
