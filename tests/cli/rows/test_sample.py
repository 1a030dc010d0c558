"""``sample``."""

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


def test_equal_seeds_draw_equal_rows(run, capsys):
    tables = []
    for seed in ("3", "3", "4"):
        assert main(["sample", str(run), "-n", "4", "--seed", seed]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] != tables[2]
