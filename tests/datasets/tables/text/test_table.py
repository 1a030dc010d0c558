"""Text tables from end to end: what each kind of cell is read as, at once, in chunks and by the columns of a fit."""

import io

import numpy as np
import pandas as pd
import pytest

from drl_density.datasets import Column, ReadOptions, load_dataset, open_table
from drl_density.datasets.tables.text import sources
from drl_density.datasets.tables.text.table import TextTable
from drl_density.errors import DataError, DataWarning

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(200, 3))


def opened(text, columns=None, **options):
    data = io.BytesIO(text if isinstance(text, bytes) else text.encode())
    return open_table(data, reading=ReadOptions(**options), columns=columns)


def read(text, **options):
    return opened(text, **options).read()


@pytest.mark.parametrize("names", [range(3), [2019, 2020, 2021]])
def test_a_header_of_numbers_loses_no_row(names, tmp_path):
    pd.DataFrame(TABLE, columns=list(names)).to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns(DataWarning, match="is read as the names of the columns"):
        data = load_dataset(tmp_path / "t.csv", seed=0)
    assert [column.name for column in data.columns] == [str(name) for name in names]
    assert sum(map(len, (data.train, data.validation, data.test))) == 200
    assert float(data.train.abs().max()) < 10


@pytest.mark.filterwarnings("ignore:column 'x2' has labels")
def test_a_table_without_a_header_keeps_its_first_row(tmp_path):
    frame = pd.DataFrame(TABLE[:, :2]).assign(s=RNG.choice(["setosa", "virginica"], 200))
    frame.to_csv(tmp_path / "t.data", index=False, header=False)
    with pytest.warns(DataWarning, match="is read as data.*--header first-row"):
        data = load_dataset(tmp_path / "t.data", seed=0)
    assert [column.name for column in data.columns] == ["x0", "x1", "x2"]
    assert sum(map(len, (data.train, data.validation, data.test))) == 200
    assert data.columns[2].categories == ("setosa", "virginica")


@pytest.mark.parametrize(
    "token", ["?", "N/A", "null", "None", "-", "n/a", "#N/A", "<NA>", "NaN", "", " NA ", "nAn", "."]
)
@pytest.mark.parametrize("labels", [False, True])
def test_missing_values_are_the_same_for_numbers_and_labels(token, labels):
    cells = RNG.integers(3, 13, 200).astype(str)
    cells = np.char.add("q", cells) if labels else cells
    cells[:7] = token
    found = read(pd.DataFrame({"a": TABLE[:, 0], "quality": cells}).to_csv(index=False))["quality"]
    assert found.isna().tolist() == [True] * 7 + [False] * 193
    assert found.tolist()[7:] == (cells[7:].tolist() if labels else cells[7:].astype(float).tolist())


def test_further_missing_values():
    found = read("a,b\n-999,unknown\n-999.0,u\n1,v\n2,w\n", missing_values=("-999", "Unknown"))
    assert found.isna().to_numpy().tolist() == [[True, True], [True, False], [False, False], [False, False]]


def test_a_saved_index_is_the_index_and_no_column(tmp_path):
    frame = pd.DataFrame(TABLE, columns=["a", "b", "c"])
    with pytest.warns(DataWarning, match="saved index"):
        found = read(frame[frame.a > 0].to_csv())
    pd.testing.assert_frame_equal(found, frame[frame.a > 0], check_exact=True)
    with pytest.warns(DataWarning, match="no name"):
        assert read(frame.to_csv(), index="keep").shape == (200, 4)
    assert read(frame.to_csv(index_label="id"), index="drop").shape == (200, 3)


@pytest.mark.filterwarnings("ignore:.*'b'. read as numbers with decimal commas")
def test_decimal_commas_and_thousands():
    with pytest.warns(DataWarning, match="'a': read as numbers with decimal commas"):
        found = read("a;b\n" + "".join(f"{u:.0f},5;{v:.3f}\n" for u, v in TABLE[:, :2]))
    assert found.to_numpy().tolist() == [[float(f"{u:.0f}.5"), float(f"{v:.3f}")] for u, v in TABLE[:, :2]]
    with pytest.warns(DataWarning, match="'a': read as numbers with thousands separators"):
        found = read("a,b\n" + "".join(f'"{1000 * int(1 + 5 * abs(u)):,}",{v}\n' for u, v in TABLE[:, :2]))
    assert found["a"].tolist() == [1000 * int(1 + 5 * abs(u)) for u in TABLE[:, 0]]
    with pytest.warns(DataWarning, match="thousands separators and decimal commas"):
        assert read("a;b\n1.234;5,6\n2.345;7,75\n").to_numpy().tolist() == [[1234, 5.6], [2345, 7.75]]
    assert read("a;b\n1.234;5.6\n2.345;7.75\n")["a"].tolist() == [1.234, 2.345]
    assert read("a;b\n1,234;5\n", decimal=",")["a"].tolist() == [1.234]
    with pytest.raises(DataError, match="nothing in the table shows"):
        read("a;b\n1,234;5\n")


def test_odd_cells_are_named_with_the_option():
    text = "a,b\n" + "1,2\n" * 30 + "old,3\n"
    with pytest.raises(
        DataError, match="column 'a', row 32: 1 of 31 cells are no numbers .'old'.*--missing-values old"
    ):
        read(text)
    assert read(text, missing_values=("old",))["a"].isna().sum() == 1
    assert opened(text).read(names=["b"]).shape == (31, 1)
    with pytest.raises(DataError, match="column 'a', row 32"):
        list(opened(text, [Column("a"), Column("b")]).chunks(5))


def test_labels_beside_numbers_are_noted_and_keep_their_texts():
    with pytest.warns(DataWarning, match="'a': read as labels, though 2 of 6 cells are numbers"):
        assert read("a,b\n007,1\nx,1\ny,1\nz,1\n1.0,1\nu,2\n")["a"].tolist() == ["007", "x", "y", "z", "1.0", "u"]


def test_booleans():
    found = read("a,b\nTRUE,true\nfalse,NA\n")
    assert [str(dtype) for dtype in found.dtypes] == ["bool", "boolean"]
    assert found["a"].tolist() == [True, False]
    assert found["b"].tolist()[0] is True


def test_large_whole_numbers_stay_exact():
    found = read(f"id,b\n{2**53 + 1},1\n,2\n{2**63 - 1},3\n")
    assert str(found["id"].dtype) == "Int64"
    assert found["id"].tolist()[::2] == [2**53 + 1, 2**63 - 1]
    assert read(f"id,b\n{10**20 + 1},1\n5,2\n")["id"].tolist() == [10**20 + 1, 5]


BAD = {
    "short": ("a,b\n1,2\n3\n", "row 3 has 1 cells, expected 2"),
    "long": ("a,b\n1,2\n\n3,4,5\n", "row 4 has 3 cells, expected 2"),
    "long at once": ("a,b\n1,2,3\n1,2\n1,2\n", "row 2 has 3 cells, expected 2"),
    "short beside quotes": ('a,b\n"1",2\n"3"\n', "row 3 has 1 cells, expected 2"),
    "open quote": ('a,b\n1,2\n"3,4\n', "a quote that opens in row 3 or above is not closed"),
    "empty": ("", "the file is empty"),
    "latin-1": ("a,b\né,2\n".encode("latin-1"), "line 2 is no text in utf-8.*--encoding"),
    "two decimal signs": ("a;b\n1,5;1\n2.5;2\n3,5;3\n", "row 3: 1 of 3 cells .*'2.5' has other decimal signs"),
    "beyond Python's digits": (f"a,b\n1{'0' * 5000},1\nx,2\n2,3\n", "row 3: 1 of 3 cells"),
    "cells under no name": ("a,b,\n" + "1,2,\n" * 500 + "1,2,3\n", "the last column has no name"),
}


@pytest.mark.parametrize("name", BAD)
def test_faults_name_file_and_row(name):
    text, message = BAD[name]
    with pytest.raises(DataError, match=f"standard input: .*{message}"):
        read(text)


def test_ends_blank_lines_comments_and_quotes():
    plain = [[1, 2], [3, 4]]
    texts = ["a,b\r\n1,2\r\n\r\n3,4\r\n", "a,b\r1,2\r3,4", "\n\na,b\n1,2\n   \n3,4", '"a","b"\n"1","2"\n"3","4"\n']
    assert [read(text).to_numpy().tolist() for text in texts] == [plain] * 4
    with pytest.warns(DataWarning, match="left out as comments .--comment"):
        assert read("a,b\n1,2\n# off,1\n3,4\n").to_numpy().tolist() == plain
    assert read('x\n1\n\n2\n""\n').isna()["x"].tolist() == [False, False, True]
    assert read('a,b\n"x, y",1\n"u ""v""",2\n')["a"].tolist() == ["x, y", 'u "v"']


def test_rows_that_look_like_comments_are_refused_until_it_is_said_what_they_are():
    """A first cell of #1 in every second row: neither lost without a word, nor read without being asked."""
    text = "id,a\n#1,5\n2,6\n#3,7\n"
    with pytest.raises(DataError, match=r"row 2 begins with '#' as a comment does, .* '#1,5'. Give comment=''"):
        read(text)
    with pytest.raises(DataError, match=r"row 1 begins with '#' as a comment does, .* '#1,5'"):
        read("#1,5\n#2,6\n3,7\n")
    for remark in ("#note, see below", "# off,1", "#a,b"):
        with pytest.warns(DataWarning, match="left out as comments"):
            assert read(f"a,b\n1,2\n{remark}\n3,4\n")["b"].tolist() == [2, 4]
    assert opened(text, comment="").read(names=["a"])["a"].tolist() == [5, 6, 7]
    with pytest.warns(DataWarning, match="left out as comments"):
        assert read(text, comment="#")["a"].tolist() == [6]
    with pytest.warns(DataWarning, match="left out as comments"):
        assert read("a b\n1 2\n#3 4\n5 6\n")["a"].tolist() == [1, 5]


def test_a_header_alone_has_no_rows():
    for found in (read("a,b\n"), next(opened("a,b\n").chunks(5)), next(opened("a,b", [Column("a")]).chunks(5))):
        assert found.shape == (0, 2)
    with pytest.raises(DataError, match=r"has a header \(a, b\) and no rows"):
        load_dataset(io.BytesIO(b"a,b\n"))


def test_kinds_hold_over_all_chunks(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", 64)
    text = "a,b,c\n" + "".join(f"{i},{i},{i}.25\n" for i in range(40)) + "".join(f"x{i},{i},NA\n" for i in range(60))
    table = opened(text)
    with pytest.warns(DataWarning, match="'a': read as labels"):
        chunks = list(table.chunks(7))
    assert [len(chunk) for chunk in chunks] == [7] * 14 + [2]
    assert table.kinds == {"a": "text", "b": "number", "c": "number"}
    joined = pd.concat(chunks)
    assert joined.index.tolist() == list(range(100))
    assert joined["a"].tolist() == [str(i) for i in range(40)] + [f"x{i}" for i in range(60)]
    with pytest.warns(DataWarning, match="'a': read as labels"):
        pd.testing.assert_frame_equal(opened(text).read(), joined, check_dtype=False)


def test_the_columns_of_a_fit_rule_in_one_pass(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK", 64)
    columns = [Column("q", "categorical", 1.0, categories=("12", "3")), Column("a")]
    text = "a;q;other\n" + "".join(f"{i};{[12, 3][i % 2]};0{i}\n" for i in range(30)) + "0,5;3;x\n"
    with pytest.warns(DataWarning, match="decimal commas"):
        joined = pd.concat(list(opened(text, columns).chunks(4)))
    assert joined["q"].tolist() == ["12", "3"] * 15 + ["3"]
    assert joined["a"].tolist() == [*range(30), 0.5]
    assert joined["other"].tolist()[:2] == ["00", "01"]
    table = opened(text, columns)
    next(table.chunks(4))
    with pytest.raises(DataError, match="opened for reading once"):
        next(table.chunks(4))
    mixed = "a;q\n" + "".join(f"{i}.126;3\n" for i in range(30)) + "0,5;3\n"
    with pytest.raises(DataError, match="row 32: .*'0,5' has other decimal signs"):
        list(opened(mixed, columns).chunks(4))


def test_columns_of_a_fit_without_names_go_by_place():
    columns = [Column("x0"), Column("x1", "categorical", 1.0, categories=("7", "8"))]
    with pytest.warns(DataWarning, match="'x0': read as numbers with decimal commas"):
        found = opened("a;q\n1,5;7\n2;8\n", columns).read()
    assert found.to_dict("list") == {"x0": [1.5, 2.0], "x1": ["7", "8"]}


def test_a_text_table_can_be_made_directly(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("1 2\n3 4\n")
    table = TextTable(path, reading=ReadOptions(header="none"), labels=["x1"])
    assert table.read()["x1"].tolist() == ["2", "4"]
    assert table.num_rows == 2
    assert table.first_row == 1


@pytest.mark.parametrize("word", ["yes", "No", "T"])
def test_yes_and_no_in_a_column_that_a_fit_knows_get_advice_for_scoring(word):
    known = (Column("t", "binary", 1.0, values=(0.0, 1.0), storage="bool"), Column("a"))
    text = f"t,a\ntrue,1\n{word},2\n"
    with pytest.raises(DataError, match=rf"column 't', row 3: .*'{word}'.*write yes as true and no as") as caught:
        open_table(io.BytesIO(text.encode()), columns=known).read()
    assert "--categorical" not in str(caught.value)
    with pytest.raises(DataError, match="the fit has numbers in this column. Correct it, or mark") as caught:
        open_table(io.BytesIO(b"t,a\n1,1\n0,old\n"), columns=known).read()
    assert "--categorical" not in str(caught.value)
