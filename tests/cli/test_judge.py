"""``evaluate``, ``diagnose``, ``report`` and ``compare``."""

import re

from drl_density.cli import main
from tests.cli.conftest import SMALL


def test_diagnose_writes_into_the_report(run, capsys):
    assert main(["diagnose", str(run), "--steps", "100", "--chains", "8"]) == 0
    assert "chains of 100 steps" in capsys.readouterr().out
    assert main(["diagnose", str(run), "--steps", "100", "--chains", "8", "--level", "1", "--recovery"]) == 0
    assert (run / "diagnosis_level_0.nc").is_file()
    page = (run / "report.html").read_text()
    assert "data:image/png" in page
    assert "Chains of level 0" in page
    assert "Chains of recovery conditionals of level 1" in page
    capsys.readouterr()
    assert main(["report", str(run)]) == 0
    assert "recovery conditionals of level 1" in capsys.readouterr().out
    assert main(["diagnose", str(run), "--steps", "5"]) == 1


def test_evaluate_keeps_a_live_line_and_writes_the_page(run, capsys):
    assert main(["evaluate", str(run), "--particles", "16", "--replicates", "2", "--mixing-steps", "3"]) == 0
    printed = capsys.readouterr()
    assert re.search(r"annealing +100 % .*log Z = -?\d+\.\d{3} ± \d+\.\d{3}, ESS \d+", printed.err)
    assert "log Z" in printed.out
    page = (run / "report.html").read_text()
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").read_text() == page


def test_compare_pairs_the_rows(run, table, tmp_path, capsys):
    other = tmp_path / "other"
    assert main(["fit", str(table), "--out", str(other), *SMALL, "--seed", "1"]) == 0
    capsys.readouterr()
    assert main(["compare", str(run), str(other)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert float(lines[1].split()[2]) == 0.0
    assert main(["compare", str(run), str(other), "--source", str(table)]) == 0
