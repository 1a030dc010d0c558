"""``impute``."""

import csv
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch

from drl_density.cli import main
from drl_density.cli.rows.impute import _filled, _put
from drl_density.datasets import Column


def test_impute_fills_missing_cells_and_nothing_else(run, table, tmp_path, capsys):
    lines = table.read_text().splitlines()[:7]
    lines[1], lines[2] = "," + lines[1].split(",", 1)[1], lines[2].rsplit(",", 1)[0] + ","
    gaps = tmp_path / "gaps.csv"
    gaps.write_text("\n".join(lines) + "\n")
    assert main(["impute", str(run), str(gaps), "--out", str(tmp_path / "full.csv"), "-n", "3"]) == 0
    with (tmp_path / "full.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 18
    assert list(rows[0]) == ["a", "b", "c", "row", "imputation"]
    assert [(row["row"], row["imputation"]) for row in rows[:4]] == [("0", "0"), ("0", "1"), ("0", "2"), ("1", "0")]
    assert float(rows[6]["a"]) == float(lines[3].split(",")[0])
    assert len({row["a"] for row in rows if row["row"] == "0"}) == 3
    assert all(float(row["c"]) == round(float(row["c"])) for row in rows)
    diagnostics = (tmp_path / "full.diagnostics.csv").read_text().splitlines()
    assert len(diagnostics) == 7
    assert "2 cells filled" in capsys.readouterr().err


def test_a_complete_table_is_reported_as_complete(run, table, tmp_path, capsys):
    few = tmp_path / "few.csv"
    few.write_text("\n".join(table.read_text().splitlines()[:4]) + "\n")
    out = tmp_path / "full.csv"
    assert main(["impute", str(run), str(few), "--out", str(out), "-n", "2"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert f"2 imputations of 3 rows in {out}" in said.err
    assert f"no cell of {few} is empty: nothing was imputed" in said.err
    assert "doubtful" not in said.err
    assert len(out.read_text().splitlines()) == 7


@pytest.mark.usefixtures("small_groups")
def test_observed_cells_are_as_given_and_an_interruption_changes_nothing(run, few, tmp_path, resumed_like_whole):
    frame = pd.read_csv(few, dtype=str)
    frame.loc[[0, 5, 9], "a"] = None
    frame.loc[[3, 5], "c"] = None
    frame.loc[7, ["a", "b", "c"]] = None
    frame.to_csv(tmp_path / "gaps.csv", index=False)
    files = resumed_like_whole(["impute", str(run), str(tmp_path / "gaps.csv"), "-n", "3", "--seed", "2"], "impute")
    back = pd.read_csv(files[0], dtype=str)
    assert back["row"].tolist() == [str(row) for row in range(10) for _ in range(3)]
    assert back["note"].tolist() == frame["note"].repeat(3).tolist()
    for name in ("a", "b", "c"):
        given = frame[name].repeat(3).reset_index(drop=True)
        seen = given.notna()
        assert back[name].notna().all()
        assert back[name][seen].astype(float).tolist() == given[seen].astype(float).tolist()
    diagnostics = [path.with_name(f"{path.stem}.diagnostics.csv") for path in files]
    assert diagnostics[0].read_bytes() == diagnostics[1].read_bytes()
    assert len(pd.read_csv(diagnostics[0])) == 10


@pytest.mark.usefixtures("small_groups")
def test_parquet_keeps_types_where_cells_are_filled(run, few, tmp_path):
    frame = pd.read_csv(few)
    frame["c"] = frame["c"].astype("Int32")
    frame["a"] = frame["a"].astype("float32")
    frame.loc[[1, 6], ["a", "c"]] = None
    frame["b"] = [None, *(Decimal(f"{value:.2f}") for value in frame["b"][1:])]
    frame.to_parquet(tmp_path / "gaps.parquet")
    out = tmp_path / "full.parquet"
    assert main(["impute", str(run), str(tmp_path / "gaps.parquet"), "-n", "2", "--seed", "0", "--out", str(out)]) == 0
    back = pd.read_parquet(out)
    assert back.columns.tolist() == [*frame.columns, "row", "imputation"]
    assert back[frame.columns].dtypes.tolist() == frame.dtypes.tolist()
    assert back.notna().all().all()
    seen = frame["a"].notna()
    assert back[::2].reset_index(drop=True)["a"][seen].equals(frame["a"][seen])
    assert (tmp_path / "full.diagnostics.csv").is_file()


def test_standard_output_has_rows_alone(run, few, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few.write_text("a,b,c\n,0.1,3\n")
    assert main(["impute", str(run), str(few), "-n", "2", "--seed", "0", "--out", "-"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == "a,b,c,row,imputation"
    assert len(printed.out.splitlines()) == 3
    assert "2 imputations of 1 rows" in printed.err
    assert [path.name for path in tmp_path.iterdir()] == ["few.csv"]
    arguments = ["impute", str(run), str(few), "-n", "2", "--seed", "0", "--out", "-", "--diagnostics", "d.csv"]
    assert main(arguments) == 0
    assert len((tmp_path / "d.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("out", "beside", "words"),
    [
        ("a.csv", "a.csv", "is the file of the rows .--out. as well"),
        ("a.csv", "link.csv", "is the file of the rows .--out. as well"),
        ("a.csv", "-", "is standard output, which is for the rows alone"),
        ("-", "-", "is standard output, which is for the rows alone"),
        ("a.csv", "few.csv", "is what is read here"),
    ],
)
def test_each_output_needs_a_file_of_its_own(out, beside, words, run, few, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.csv").symlink_to("a.csv")
    assert main(["impute", str(run), str(few), "-n", "1", "--out", out, "--diagnostics", beside]) == 1
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(
    ("own", "drawn", "expected"),
    [
        (pd.Series([1.5, np.nan]), [0.0, 2.5], [1.5, 2.5]),
        (pd.Series([1, None], dtype="Int64"), [0, 7], [1, 7]),
        (pd.Series(["x", None]), ["y", "y"], ["x", "y"]),
        (pd.Series(["x", None], dtype="category"), ["y", "y"], ["x", "y"]),
        (pd.Series([3, None], dtype=pd.CategoricalDtype([3, 12])), ["12", "12"], [3, 12]),
        (pd.Series([True, None], dtype="boolean"), [False, False], [True, False]),
        (pd.Series([5, None], dtype="Int64"), [0.5, 2.5], [5, 2.5]),
    ],
)
def test_drawn_values_go_into_missing_cells_alone(own, drawn, expected):
    found = _put(own, np.array(drawn, dtype=object), np.array([False, True]))
    assert found.tolist() == expected
    assert [type(value) is int for value in found.tolist()] == [type(value) is int for value in expected]
    assert own.isna().tolist() == [False, True]


def test_a_name_in_another_form_of_unicode_is_filled():
    frame = pd.DataFrame({"cafe\u0301": [1.5, np.nan], "note": ["u", "v"]})
    found = _filled(frame, torch.tensor([[0.0], [2.5]]), torch.tensor([[False], [True]]), (Column("caf\u00e9"),))
    assert found["cafe\u0301"].tolist() == [1.5, 2.5]
