"""Tables in and out: rows of the fit, written values, remarks, and whole files."""

from drl_density.cli import main


def test_a_failed_fit_is_called_one_by_every_command(run, table, tmp_path, capsys, monkeypatch):
    """The remark of the fit's own summary, on standard error so that tables stay tables."""
    commands = [
        ["sample", str(run), "-n", "3", "--out", str(tmp_path / "x.csv")],
        ["score", str(run), str(table), "--out", str(tmp_path / "x.csv")],
        ["impute", str(run), str(table), "-n", "1", "--out", str(tmp_path / "x.csv")],
        ["diagnose", str(run), "--steps", "100", "--chains", "8"],
    ]
    failure = "FAILURE: about the fit: the model is below its floor"
    for is_failed in (True, False):
        monkeypatch.setattr("drl_density.density.provenance.Baselines.is_above_floor", not is_failed)
        for command in commands[: 4 if is_failed else 1]:
            assert main(command) == 0
            assert (failure in capsys.readouterr().err) == is_failed, command


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

    monkeypatch.setattr("drl_density.run_folder.os.fsync", full)
    assert main(["sample", str(run), "-n", "5", "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "No space left" in error
    assert "untouched" in error
    assert out.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [out]
