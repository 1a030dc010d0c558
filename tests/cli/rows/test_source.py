"""Tables of a command: which are read group by group, whose cells stay as they are, and where faults are."""

import os

import numpy as np
import pandas as pd
import pytest

from drl_density.cli.rows.row_groups import PlacedError
from drl_density.cli.rows.source import TableSource
from drl_density.datasets import Column, ReadOptions
from drl_density.datasets.tables.writing.text_rows import written_cells
from drl_density.errors import DataError

COLUMNS = (Column("a"), Column("q", "categorical", 1.0, categories=("no", "yes"), values=(0.0, 1.0)))


def source(path, **options):
    return TableSource(str(path), COLUMNS, reading=ReadOptions(), **options)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("note,q,a\n007,yes,0.5\n 1e3 x,no,1\n2024-01-01,yes,2\n")
    return path


def test_pipes_cannot_be_read_again(text, tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    table = source(text)
    assert not table.is_stream
    table.source = str(tmp_path / "pipe.csv")
    assert table.is_stream


def test_groups_are_of_one_size_and_further_columns_stay_as_they_are(text):
    table = source(text)
    groups = list(table.groups(2))
    assert [(group.index, group.first_row, group.num_rows) for group in groups] == [(0, 0, 2), (1, 2, 1)]
    assert list(table.names) == ["note", "q", "a"]
    assert groups[0].frame["note"].tolist()[0] == "007"
    assert groups[1].frame["note"].tolist() == ["2024-01-01"]
    assert [table.encode(group).tolist() for group in groups] == [[[0.5, 1.0], [1.0, 0.0]], [[2.0, 1.0]]]


@pytest.mark.parametrize(("bad", "words"), [("maybe", "maybe"), ("", "row 4")])
def test_a_fault_names_its_row_in_the_table(text, bad, words):
    text.write_text(text.read_text().replace("2024-01-01,yes,2", f"2024-01-01,{bad},2"))
    table = source(text)
    *_, last = table.groups(2)
    with pytest.raises(PlacedError, match=words) as found:
        table.encode(last)
    assert "row 4" in str(found.value)


def test_missing_values_and_columns_are_kept_where_they_may_be(text, tmp_path):
    text.write_text("q,note\n,x\n")
    table = source(text, missing="keep", absent=("a",))
    (group,) = table.groups(5)
    assert table.encode(group).isnan().all()
    with pytest.raises(DataError, match="the fit has columns that are not here: a"):
        source(text, missing="keep")


def test_arrays_are_read_at_once_and_written_with_labels(tmp_path):
    np.save(tmp_path / "t.npy", np.array([[0.5, 1.0], [1.0, 0.0], [2.0, 1.0]]))
    columns = (Column("x0"), Column("x1", "categorical", 1.0, categories=("no", "yes"), values=(0.0, 1.0)))
    table = TableSource(str(tmp_path / "t.npy"), columns, reading=ReadOptions())
    groups = list(table.groups(2))
    assert table.num_rows == 3
    assert groups[0].frame["x1"].tolist() == ["yes", "no"]
    assert table.encode(groups[1]).tolist() == [[2.0, 1.0]]


def test_a_changed_table_has_another_identity(text):
    first = source(text).identity()
    assert first == source(text).identity()
    text.write_text(text.read_text() + "x,no,3\n")
    assert source(text).identity() != first


def test_ours_stand_behind_the_table_or_alone(text):
    table = source(text)
    (group,) = table.groups(5)
    ours = pd.DataFrame({"a": [1.0, 2.0, 3.0], "p": [4.0, 5.0, 6.0]})
    assert list(table.beside(group.frame, ours).columns) == ["note", "q", "a", "a_2", "p"]
    assert list(table.beside(group.frame, ours, "ours").columns) == ["a", "p"]


def test_renamed_columns_are_said(text, capsys):
    source(text).say_renamed(["a", "p"])
    assert "a is written as a_2" in capsys.readouterr().err
    source(text).say_renamed(["a"], "ours")
    source(text).say_renamed(["p"])
    assert capsys.readouterr().err == ""


def test_texts_that_mark_missing_values_elsewhere_stay_in_further_columns(text):
    text.write_text("note,q,a\nNA,yes,NA\n-,?,1\nnone,no,2\n,no,3\n")
    (group,) = (table := source(text, missing="keep")).groups(10)
    assert group.frame["note"].tolist() == ["NA", "-", "none", ""]
    assert table.encode(group).isnan().tolist() == [[True, False], [False, True], [False, False], [False, False]]


def test_whole_numbers_stay_whole_beside_missing_cells(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("k,x\n5,1\n,2\n7,2.5\n")
    columns = (Column("k", "integer", 1.0, storage="int64"), Column("x"))
    table = TableSource(str(path), columns, reading=ReadOptions(), missing="keep")
    (group,) = table.groups(10)
    assert written_cells(group.frame["k"]) == [5, None, 7]
    assert written_cells(group.frame["x"]) == [1.0, 2.0, 2.5]
    assert table.encode(group)[:, 0].nan_to_num(-1).tolist() == [5.0, -1.0, 7.0]


def test_truth_values_stay_so_where_a_whole_group_lacks_them(tmp_path):
    columns = (Column("a"), Column("b", "binary", 1.0, storage="bool", values=(0.0, 1.0)))
    for cells, kind in ((["", "", "true", "false"], "boolean"), (["1", "0", "", ""], "float64")):
        path = tmp_path / "t.csv"
        path.write_text("a,b\n" + "".join(f"1,{cell}\n" for cell in cells))
        table = TableSource(str(path), columns, reading=ReadOptions(), missing="keep")
        first, last = table.groups(2)
        assert str((first if kind == "boolean" else last).frame["b"].dtype) == kind
