"""``score``."""

import csv

from drl_density.cli import main


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
