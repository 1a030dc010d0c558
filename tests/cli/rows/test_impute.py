"""``impute``."""

import csv

from drl_density.cli import main


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
