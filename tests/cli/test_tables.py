"""Tables in and out: rows of the fit, written values, remarks, and whole files."""

from types import SimpleNamespace

import pytest
import torch

from drl_density.cli import main
from drl_density.cli.tables import complete_rows, load_run, rows_of, say_remarks
from drl_density.density.provenance import Provenance, Stage
from drl_density.errors import DataError


def test_a_failed_fit_is_called_one_by_every_command(run, table, tmp_path, capsys, monkeypatch):
    """The remark of the fit's own summary, on standard error so that tables stay tables."""
    commands = [
        ["sample", str(run), "-n", "3", "--out", str(tmp_path / "x.csv")],
        ["score", str(run), str(table), "--out", str(tmp_path / "x.csv")],
        ["impute", str(run), str(table), "-n", "1", "--out", str(tmp_path / "x.csv")],
        ["diagnose", str(run), "--steps", "100", "--chains", "8", "--tempering", "False"],
    ]
    failure = "FAILURE: about the fit: the model is below its floor"
    for is_failed in (True, False):
        monkeypatch.setattr("drl_density.density.provenance.Baselines.is_above_floor", not is_failed)
        for command in commands[: 4 if is_failed else 1]:
            assert main(command) == 0
            assert (failure in capsys.readouterr().err) == is_failed, command


def test_a_fit_left_at_its_reference_is_no_failure(capsys):
    stages = (Stage("reference", -1.5), Stage("tilt", -1.5, 0.0, 0.1, kept=False))
    for record, said in (
        (Provenance(stages=stages), "note: about the fit: the density is its reference"),
        (Provenance(best_step={"a": 0}, selected_member="a"), "FAILURE: about the fit: validation kept the untrained"),
    ):
        say_remarks(SimpleNamespace(remarks=(record.untrained_remark,), provenance=record))
        assert capsys.readouterr().err.startswith(said)


def test_tables_have_plain_line_ends(run, tmp_path, capsys):
    assert main(["sample", str(run), "-n", "3", "--out", str(tmp_path / "x.csv")]) == 0
    assert main(["sample", str(run), "-n", "3"]) == 0
    assert b"\r" not in (tmp_path / "x.csv").read_bytes()
    assert "\r" not in capsys.readouterr().out


def test_a_table_that_cannot_be_written_leaves_the_old_one(run, tmp_path, capsys, monkeypatch):
    out = tmp_path / "draws.csv"
    out.write_text("mine")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(["sample", str(run), "-n", "5", "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "No space left" in error
    assert out.read_text() == "mine"
    assert [item.name for item in tmp_path.iterdir() if not item.is_dir()] == [out.name]


def test_complete_rows_have_no_missing_value():
    rows = torch.tensor([[1.0, 2.0], [float("nan"), 3.0], [4.0, 5.0]])
    assert complete_rows(rows).tolist() == [[1.0, 2.0], [4.0, 5.0]]
    counts = torch.tensor([[1, 2]])
    assert complete_rows(counts) is counts


def test_test_rows_of_the_fit_are_read_again_without_incomplete_ones(run, monkeypatch, capsys):
    density = load_run(run)
    assert len(rows_of(density, None)) == 30
    some = torch.tensor([[1.0, 0.1, 2.0], [float("nan"), 0.1, 2.0]])
    monkeypatch.setattr("drl_density.cli.tables.load_fit_rows", lambda *_: SimpleNamespace(test=some))
    assert rows_of(density, None).tolist() == some[:1].tolist()
    assert "note: 1 of 2 test rows have missing values and are left out" in capsys.readouterr().err
    monkeypatch.setattr("drl_density.cli.tables.load_fit_rows", lambda *_: SimpleNamespace(test=some[1:]))
    with pytest.raises(DataError, match="every test row of the fit has a missing value"):
        rows_of(density, None)
