"""``score``: its columns, every format, and the habits of a shell."""

import csv
import gzip
import io
import os
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest

import drl_density as drl
from drl_density.cli import main
from drl_density.cli.rows.part_folder import part_path
from drl_density.cli.rows.score import NAMES
from tests.processes import run as run_process

COMMAND = "import sys; from drl_density.cli import main\nsys.exit(main(sys.argv[1:]))"


def read(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_score_writes_the_log_density_beside_every_row(run, table, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    assert main(["score", str(run), str(table), "--out", str(out)]) == 0
    rows = read(out)
    assert list(rows[0]) == ["a", "b", "c", *NAMES]
    density = drl.Density.load(run)
    values = density.log_prob(np.loadtxt(table, delimiter=",", skiprows=1))
    assert [float(row["log_density"]) for row in rows] == values.tolist()
    assert all(float(row[NAMES[1]]) < float(row[NAMES[0]]) < float(row[NAMES[2]]) for row in rows)
    with table.open() as stream:
        given = list(csv.DictReader(stream))
    assert [float(row["a"]) for row in rows] == [float(row["a"]) for row in given]
    said = capsys.readouterr().err
    assert "verdict" in said
    assert f"300 rows, mean {float(values.mean()):.4f} nats" in said


def test_only_our_columns_are_an_option(run, few, tmp_path):
    out = tmp_path / "scores.csv"
    assert main(["score", str(run), str(few), "--columns", "ours", "--out", str(out)]) == 0
    assert out.read_text().splitlines()[0] == ",".join(NAMES)


def test_rows_with_missing_values_are_refused_or_left_without_a_score(run, few, tmp_path, capsys):
    frame = pd.read_csv(few, dtype=str)
    frame.loc[2, "a"] = ""
    frame.to_csv(tmp_path / "gap.csv", index=False)
    command, out = ["score", str(run), str(tmp_path / "gap.csv")], tmp_path / "scores.csv"
    assert main([*command, "--out", str(out)]) == 1
    assert "1 cells in 1 rows are empty" in capsys.readouterr().err
    assert not out.exists()
    assert main([*command, "--out", str(out), "--incomplete", "nan"]) == 0
    assert [bool(row["log_density"]) for row in read(out)] == [True, True, False] + [True] * 7
    assert "1 rows with missing values, which have no score" in capsys.readouterr().err


@pytest.mark.usefixtures("small_groups")
def test_further_columns_and_other_orders_are_kept(run, few, tmp_path):
    frame = pd.read_csv(few, dtype=str)[["note", "c", "a", "b"]]
    frame.to_csv(tmp_path / "other.csv", index=False)
    for source, out in ((few, "x.csv"), (tmp_path / "other.csv", "y.csv")):
        assert main(["score", str(run), str(source), "--out", str(tmp_path / out)]) == 0
    first, second = read(tmp_path / "x.csv"), read(tmp_path / "y.csv")
    assert list(second[0])[:4] == ["note", "c", "a", "b"]
    assert [row["log_density"] for row in first] == [row["log_density"] for row in second]


@pytest.mark.usefixtures("small_groups")
def test_names_of_the_table_stay_and_ours_give_way(run, few, tmp_path, capsys):
    frame = pd.read_csv(few).assign(log_density="mine")
    frame.to_csv(tmp_path / "scored.csv", index=False)
    assert main(["score", str(run), str(tmp_path / "scored.csv"), "--out", str(tmp_path / "x.csv")]) == 0
    rows = read(tmp_path / "x.csv")
    assert rows[0]["log_density"] == "mine"
    assert float(rows[0]["log_density_2"]) < float(rows[0]["log_density_upper"])
    assert "log_density is written as log_density_2" in capsys.readouterr().err


@pytest.mark.usefixtures("small_groups")
def test_every_format_holds_the_same_numbers(run, few, tmp_path):
    names = ["x.csv", "x.TSV", "x.Csv.GZ", "x.PARQUET"]
    for name in names:
        assert main(["score", str(run), str(few), "--out", str(tmp_path / name)]) == 0
    frames = [
        pd.read_csv(tmp_path / names[0], dtype=str),
        pd.read_csv(tmp_path / names[1], dtype=str, sep="\t"),
        pd.read_csv(io.BytesIO(gzip.decompress((tmp_path / names[2]).read_bytes())), dtype=str),
        pd.read_parquet(tmp_path / names[3]),
    ]
    values = [[float(value) for value in frame["log_density"]] for frame in frames]
    assert len(values[0]) == 10
    assert all(each == values[0] for each in values)


@pytest.mark.usefixtures("small_groups")
def test_parquet_keeps_index_types_and_metadata(run, table, tmp_path):
    frame = pd.read_csv(table)[:10]
    frame.index = pd.Index([f"p{number}" for number in range(10)], name="patient")
    frame["when"] = pd.Timestamp("2024-05-01")
    frame["size"] = pd.Categorical(["low", "high"] * 5, categories=["low", "middle", "high"], ordered=True)
    frame["count"] = pd.array([None, *range(9)], dtype="Int16")
    frame.to_parquet(tmp_path / "in.parquet")
    assert main(["score", str(run), str(tmp_path / "in.parquet"), "--out", str(tmp_path / "out.parquet")]) == 0
    back = pd.read_parquet(tmp_path / "out.parquet")
    assert list(back.columns) == [*frame.columns, *NAMES]
    pd.testing.assert_frame_equal(back[list(frame.columns)], frame)
    before, after = (parquet.read_schema(tmp_path / name) for name in ("in.parquet", "out.parquet"))
    assert [after.field(name) for name in before.names] == [before.field(name) for name in before.names]


def test_an_empty_table_gives_a_header_and_one_row_gives_one(run, few, tmp_path):
    lines = few.read_text().splitlines()
    for count, name in ((1, "empty.csv"), (2, "one.csv")):
        (tmp_path / name).write_text("\n".join(lines[:count]) + "\n")
        for out in ("out.csv", "out.parquet"):
            assert main(["score", str(run), str(tmp_path / name), "--out", str(tmp_path / out)]) == 0
        assert len((tmp_path / "out.csv").read_text().splitlines()) == count
        assert (tmp_path / "out.csv").read_text().startswith("a,b,c,note,log_density,")
        assert pd.read_parquet(tmp_path / "out.parquet").shape == (count - 1, 7)


REFUSED = {
    "unknown ending": (["FEW", "--out", "x.xlsx"], "expected a file ending in .csv"),
    "no ending": (["FEW", "--out", "x"], "got no ending"),
    "no folder": (["FEW", "--out", "none/x.csv"], "there is no folder none"),
    "itself": (["FEW", "--out", "few.csv"], "is what is read here"),
    "resume to standard output": (["FEW", "--resume"], "--resume needs --out"),
    "no table": (["none.csv", "--out", "x.csv"], "none.csv"),
    "a text among numbers": (["BAD", "--out", "x.csv"], "column 'b'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_one_clear_line_and_leaves_nothing(name, run, few, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = few.read_text().splitlines()
    (tmp_path / "bad.csv").write_text("\n".join([*lines[:8], "0.5,many,3,x", *lines[8:]]) + "\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    arguments, message = REFUSED[name]
    arguments = [{"FEW": "few.csv", "BAD": "bad.csv"}.get(word, word) for word in arguments]
    assert main(["score", str(run), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.usefixtures("small_groups")
def test_an_interruption_says_how_to_continue_and_ends_in_the_same_file(run, few, tmp_path, interrupted_call, capsys):
    out, whole = tmp_path / "out.csv", tmp_path / "whole.csv"
    assert main(["score", str(run), str(few), "--out", str(whole)]) == 0
    arguments = ["score", str(run), str(few), "--out", str(out)]
    with interrupted_call("log_prob"):
        assert main(arguments) == 130
    said = capsys.readouterr().err
    assert f"2 row groups are finished in {part_path(out)}: run the same command with --resume" in said
    assert not out.exists()
    assert main(arguments) == 1
    assert "continue it with --resume" in capsys.readouterr().err
    few.write_text(few.read_text() + "0.1,0.2,3,x\n")
    assert main([*arguments, "--resume"]) == 1
    assert "size of the table was" in capsys.readouterr().err
    few.write_text("\n".join(few.read_text().splitlines()[:-1]) + "\n")
    job = part_path(out) / "job.json"
    job.write_text(job.read_text().replace('"time of the table": ', '"time of the table": 1'))
    capsys.readouterr()
    assert main([*arguments, "--resume"]) == 1
    assert "time of the table was" in capsys.readouterr().err
    shutil.rmtree(part_path(out))
    assert main([*arguments, "--resume"]) == 0
    assert out.read_bytes() == whole.read_bytes()


def test_a_reader_that_leaves_gets_no_traceback(run, table, tmp_path):
    """``drl-density score ... - | head``: the exit status of a process that a broken pipe ends, as for other tools."""
    reading, writing = os.pipe()
    os.close(reading)
    with table.open("rb") as source:
        done = run_process(COMMAND, "score", run, "-", stdin=source, stdout=writing)
    os.close(writing)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


def test_standard_input_and_output_are_a_pipe(run, few, monkeypatch, capsys, tmp_path):
    out = tmp_path / "x.csv"
    assert main(["score", str(run), str(few), "--out", str(out)]) == 0
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(few.read_bytes())))
    assert main(["score", str(run), "-", "--out", "-"]) == 0
    assert capsys.readouterr().out == out.read_text()


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
@pytest.mark.parametrize("out", ["out.csv", "out.parquet"])
def test_a_saved_index_goes_from_every_format_to_every_other(run, few, tmp_path, source, out):
    """Also where only our columns are written, which the index then joins to the table."""
    frame = pd.read_csv(few)[["a", "b", "c"]]
    frame.index = np.arange(len(frame)) * 3 + 7
    write = frame.to_csv if source == "in.csv" else frame.to_parquet
    write(tmp_path / source)
    for columns in ("all", "ours"):
        assert (
            main(["score", str(run), str(tmp_path / source), "--columns", columns, "--out", str(tmp_path / out)]) == 0
        )
        back = pd.read_csv(tmp_path / out, index_col=0) if out == "out.csv" else pd.read_parquet(tmp_path / out)
        assert back.index.tolist() == frame.index.tolist()
        assert back.columns.tolist() == (["a", "b", "c"] if columns == "all" else []) + list(NAMES)


@pytest.mark.parametrize("name", ["/dev/stdin", "/dev/fd/0"])
def test_score_reads_and_writes_the_names_of_standard_streams(name, run, table, tmp_path):
    arguments = ["score", run, name, "--columns", "ours", "--out", "/dev/stdout"]
    with table.open() as stream, (tmp_path / "out.txt").open("w") as out:  # plain files without an ending there
        done = run_process(COMMAND, *arguments, stdin=stream, stdout=out)
    assert done.returncode == 0, done.stderr
    assert "/dev/stdout has no ending that names a format: rows are written as CSV" in done.stderr
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert lines[0] == ",".join(NAMES)
    assert len(lines) == len(table.read_text().splitlines())
