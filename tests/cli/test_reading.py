"""Options of reading on the command line: what is not given follows the fit."""

import dataclasses
import io
from types import SimpleNamespace

import numpy as np
import pytest
import tyro

from drl_density.cli import main
from drl_density.cli.reading import ReadsTable
from drl_density.datasets import ReadOptions


def parse(*words):
    return tyro.cli(ReadsTable, args=list(words))


def test_nothing_given_follows_the_fit():
    fitted = ReadOptions(decimal=",", missing_values=("-9",), index="keep")
    assert parse().reading(fitted) == fitted
    assert parse().reading() == ReadOptions()


def test_each_option_of_reading_is_an_option_of_the_command():
    made = parse(
        *["--header", "none", "--missing-values", "-999", "unknown"],
        *["--decimal", ",", "--thousands", "", "--delimiter", "tab"],
        *["--encoding", "latin-1", "--comment", "%", "--index", "drop"],
    )
    expected = ReadOptions("none", ("-999", "unknown"), ",", "", "\t", "latin-1", "%", "drop")
    assert made.reading() == expected
    given, untouched = dataclasses.asdict(expected), dataclasses.asdict(ReadOptions())
    assert all(given[name] != untouched[name] for name in given)


def test_an_option_given_replaces_that_of_the_fit():
    assert parse("--decimal", ".").reading(ReadOptions(decimal=",", header="none")) == ReadOptions("none", decimal=".")


@pytest.mark.filterwarnings("ignore::drl_density.errors.DataWarning")
def test_a_fit_reads_its_table_by_the_options(tmp_path, capsys, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(60, 2))
    text = "".join(f"{a:.3f};{b:.3f};{7 + (a > 0)}\n".replace(".", ",") for a, b in rows).replace("7\n", "-9\n", 1)
    (tmp_path / "t.CSV").write_text(text)
    options = [
        "--seed",
        "0",
        "--header",
        "none",
        "--decimal",
        ",",
        "--missing-values",
        "-9",
        "--missing",
        "drop",
        "--categorical",
        "x2",
        "--settings.base",
        "gaussian",
    ]
    assert main(["fit", str(tmp_path / "t.CSV"), "--out", str(tmp_path / "run"), "--dry-run", *options]) == 0
    printed = capsys.readouterr().out
    assert "x0: continuous" in printed
    assert "x2: categorical, grid 1; labels 7, 8" in printed
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main(["fit", "-", "--out", str(tmp_path / "run"), "--dry-run", *options]) == 0
    assert capsys.readouterr().out.replace("standard input:", "t:") == printed
    assert (
        main(["fit", str(tmp_path / "t.CSV"), "--out", str(tmp_path / "run"), "--dry-run", "--encoding", "utf-9"]) == 1
    )
    assert "encoding 'utf-9' is unknown" in capsys.readouterr().err


def test_the_fit_remembers_how_its_table_was_read():
    provenance = SimpleNamespace(loading={"reading": ReadOptions(decimal=",").to_dict()})
    assert parse("--header", "none").reading_for(SimpleNamespace(provenance=provenance)) == ReadOptions(
        "none", decimal=","
    )
    assert parse().reading_for(SimpleNamespace(provenance=SimpleNamespace(loading={}))) == ReadOptions()
