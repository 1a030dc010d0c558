"""``sample``, ``score``, ``impute`` and ``predict``."""

import csv

from drl_density.cli import main


def test_sample_writes_rows_on_the_columns_grid(run, tmp_path):
    assert main(["sample", str(run), "-n", "30", "--out", str(tmp_path / "draws.csv")]) == 0
    with (tmp_path / "draws.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 30
    assert all(float(row["c"]) == round(float(row["c"])) for row in rows)
    assert all(abs(float(row["b"]) * 10 - round(float(row["b"]) * 10)) < 1e-6 for row in rows)


def test_sample_by_other_methods_says_what_they_are(run, tmp_path, capsys):
    for method, steps in (("ddim", "10"), ("flow", "5"), ("predictor-corrector", "5"), ("ancestral", "60")):
        out = tmp_path / f"{method}.csv"
        assert main(["sample", str(run), "-n", "20", "--method", method, "--steps", steps, "--out", str(out)]) == 0
        assert len(out.read_text().splitlines()) == 21
        assert f"{method}, an approximation" in capsys.readouterr().err
    arguments = ["sample", str(run), "-n", "20", "--method", "ddim", "--chain-steps", "5", "--out", str(tmp_path / "x")]
    assert main(arguments) == 0
    assert "R-hat" in capsys.readouterr().err


def test_score_writes_one_line_per_row(run, table, tmp_path, capsys):
    assert main(["score", str(run), str(table), "--out", str(tmp_path / "scores.csv")]) == 0
    with (tmp_path / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 300
    assert {"log_density", "p_value", "typicality_p_value", "strangeness", "level_0", "level_1"} <= set(rows[0])
    said = capsys.readouterr().err
    assert "verdict" in said
    assert "test rows" in said
    assert main(["score", str(run), str(table), "--reference", str(table), "--out", str(tmp_path / "scores.csv")]) == 0
    assert "300 rows of" in capsys.readouterr().err


def test_impute_fills_the_holes_and_nothing_else(run, table, tmp_path, capsys):
    lines = table.read_text().splitlines()[:7]
    lines[1], lines[2] = "," + lines[1].split(",", 1)[1], lines[2].rsplit(",", 1)[0] + ","
    holes = tmp_path / "holes.csv"
    holes.write_text("\n".join(lines) + "\n")
    assert main(["impute", str(run), str(holes), "--out", str(tmp_path / "full.csv"), "-n", "3"]) == 0
    with (tmp_path / "full.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 18
    assert rows[2]["a"] == f"{float(lines[3].split(',')[0])}"
    assert len({row["a"] for row in rows if row["row"] == "0"}) == 3
    assert all(float(row["c"]) == round(float(row["c"])) for row in rows)
    diagnostics = (tmp_path / "full.diagnostics.csv").read_text().splitlines()
    assert len(diagnostics) == 7
    assert "2 cells filled" in capsys.readouterr().err


def test_a_table_without_holes_is_said_to_have_none(run, table, tmp_path, capsys):
    few = tmp_path / "few.csv"
    few.write_text("\n".join(table.read_text().splitlines()[:4]) + "\n")
    out = tmp_path / "full.csv"
    assert main(["impute", str(run), str(few), "--out", str(out), "-n", "2"]) == 0
    said = capsys.readouterr()
    assert f"2 imputations of 3 rows in {out}" in said.out
    assert f"no cell of {few} is empty: nothing was imputed" in said.err
    assert "doubtful" not in said.err
    assert len(out.read_text().splitlines()) == 7


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


def test_equal_seeds_draw_equal_rows(run, capsys):
    tables = []
    for seed in ("3", "3", "4"):
        assert main(["sample", str(run), "-n", "4", "--seed", seed]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] != tables[2]
