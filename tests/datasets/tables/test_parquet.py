"""Parquet files and folders: order, dtypes, missing values and a saved index."""

import numpy as np
import pandas as pd
import pytest

from drl_density.datasets import ReadOptions, load_dataset, open_table
from drl_density.errors import DataError, DataWarning

FRAME = pd.DataFrame({
    "a": np.arange(30.0),
    "n": pd.array([1, None, 2**60] * 10, dtype="Int64"),
    "q": pd.Categorical(["v", None, "u"] * 10, categories=["v", "u", "w"], ordered=True),
    "y": pd.array([True, None, False] * 10, dtype="boolean"),
    "t": pd.date_range("2024-01-01", periods=30),
})  # fmt: skip


def test_cells_keep_their_types_and_missing_values(tmp_path):
    FRAME.to_parquet(tmp_path / "t.parquet", row_group_size=8)
    table = open_table(tmp_path / "t.parquet")
    assert (table.num_rows, table.names, dict(table.kinds)) == (30, tuple(FRAME), {})
    assert b"pandas" in table.schema.metadata
    for frame in (table.read(), pd.concat(list(table.chunks(30)))):
        pd.testing.assert_frame_equal(frame, FRAME, check_exact=True, check_categorical=False)
        assert frame["q"].cat.ordered
    chunks = list(table.chunks(7, names=["n", "a"]))
    assert [len(chunk) for chunk in chunks] == [7, 7, 7, 7, 2]
    assert all(list(chunk) == ["n", "a"] for chunk in chunks)
    assert [cell for chunk in chunks for cell in chunk["n"]][2] == 2**60
    assert [row for chunk in chunks for row in chunk.index] == list(range(30))


def test_a_saved_index_is_no_column(tmp_path):
    part = FRAME[["a", "n"]][FRAME.a % 3 > 0]
    part.to_parquet(tmp_path / "i.parquet")
    part.set_index("n").to_parquet(tmp_path / "named.parquet")
    with pytest.warns(DataWarning, match="saved index '__index_level_0__' is left out.*--index keep"):
        table = open_table(tmp_path / "i.parquet")
    assert table.names == ("a", "n")
    assert table.read().index.tolist() == part.index.tolist()
    with pytest.warns(DataWarning, match="saved index 'n' is left out"):
        assert open_table(tmp_path / "named.parquet").names == ("a",)
    assert open_table(tmp_path / "i.parquet", reading=ReadOptions(index="keep")).names == (
        "a",
        "n",
        "__index_level_0__",
    )
    FRAME[["a", "n"]].to_parquet(tmp_path / "t.parquet")
    assert open_table(tmp_path / "t.parquet", reading=ReadOptions(index="drop")).names == ("n",)
    FRAME[["a"]].set_index("a", append=True).to_parquet(tmp_path / "e.parquet")
    with pytest.warns(DataWarning, match="saved index"), pytest.raises(DataError, match="no columns other than"):
        open_table(tmp_path / "e.parquet")


def test_folders_in_natural_order_with_partitions(tmp_path):
    for number in range(11):
        folder = tmp_path / f"year={2020 + number // 6}"
        folder.mkdir(exist_ok=True)
        FRAME[["a"]].assign(k=number)[:5].to_parquet(folder / f"part.{number}.parquet")
    (tmp_path / "_SUCCESS").touch()
    frame = open_table(tmp_path).read()
    assert frame["k"].drop_duplicates().tolist() == list(range(11))
    assert frame["year"].astype(int).drop_duplicates().tolist() == [2020, 2021]
    assert len(load_dataset(tmp_path, seed=0).columns) == 3


def test_no_row_and_no_value_is_replaced_silently(tmp_path):
    inner = tmp_path / "k=3"
    inner.mkdir()
    FRAME[["a", "n"]].assign(k=5).to_parquet(inner / "part.parquet")
    with pytest.raises(DataError, match="k=3/part.parquet has a column 'k', and so has its folder k=3"):
        open_table(tmp_path)
    assert open_table(inner).read()["k"].unique().tolist() == [5]
    FRAME.to_csv(inner / "more.csv")
    with pytest.warns(DataWarning, match="in which more.csv is left out"):
        open_table(inner)


def test_faulty_files_are_named(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="t.parquet: cannot be read as .parquet.*is the file complete"):
        open_table(tmp_path / "t.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="a folder without Parquet files"):
        open_table(tmp_path / "empty")
    FRAME[:0].to_parquet(tmp_path / "none.parquet")
    assert [len(chunk) for chunk in open_table(tmp_path / "none.parquet").chunks(5)] == [0]


def folder_of(path, *parts):
    for place, part in enumerate(parts):
        part.to_parquet(path / f"{place}.parquet", index=False)
    return open_table(path)


def test_the_files_of_a_folder_have_the_same_columns(tmp_path):
    part = FRAME[["a", "y", "q"]]
    for name, other, words in (
        ("lacks", part.drop(columns="y"), r"1\.parquet lacks 'y'"),
        ("further", part.assign(z=1.0, w=2), r"1\.parquet has 'z', 'w' in addition"),
        ("types", part.assign(a="text"), r"1\.parquet holds a column in another type"),
    ):
        (tmp_path / name).mkdir()
        with pytest.raises(DataError, match=words):
            folder_of(tmp_path / name, part, other)


def test_the_types_of_a_folder_hold_the_values_of_all_its_files(tmp_path):
    first = pd.DataFrame({"k": [1, 2], "e": [None, None], "q": pd.Categorical(["u", None])})
    second = pd.DataFrame({"q": pd.Categorical(["w", "v"]), "k": [2.5, np.nan], "e": ["x", None]})
    found = folder_of(tmp_path, first, second).read()
    assert found["k"].tolist()[:3] == [1.0, 2.0, 2.5]
    assert [str(cell) for cell in found["q"]] == ["u", "nan", "w", "v"]
    assert found["e"].tolist()[2] == "x"
    assert found.isna().sum().tolist() == [1, 3, 1]
