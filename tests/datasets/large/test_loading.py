"""Tables that are streamed or loaded whole, by a stated rule, and what is refused."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import drl_density as drl
from drl_density.datasets.large import loading
from drl_density.datasets.large.loading import LargeTable, large_table, load_large, most_rows
from drl_density.datasets.splits import Split
from drl_density.datasets.tables.text.table import TextTable
from drl_density.errors import DataError, DataWarning
from drl_density.testing.statistics import assert_z
from tests.datasets.large.frames import FrameSource

NUM_ROWS = 20_000


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    a = np.sort(rng.normal(size=NUM_ROWS))
    return pd.DataFrame({"a": a, "b": rng.normal(size=NUM_ROWS) + a, "who": np.arange(NUM_ROWS) // 10})


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    """The table as a folder of a sorted file, one of tiny row groups, and an empty one."""
    path = tmp_path_factory.mktemp("folder") / "table"
    path.mkdir()
    frame.head(8000).to_parquet(path / "part-1.parquet")
    frame.iloc[8000:].reset_index(drop=True).to_parquet(path / "part-2.parquet", row_group_size=700)
    frame.head(0).to_parquet(path / "part-10.parquet")
    return path


def test_a_folder_and_a_file_are_one_table(frame, folder, tmp_path):
    """Parts, samples and columns do not depend on files and row groups."""
    frame.to_parquet(tmp_path / "whole.parquet")
    options = {"seed": 1, "drop": ["who"], "max_rows_in_memory": 3000}
    data = drl.load_dataset(folder, **options)
    whole = drl.load_dataset(str(tmp_path / "whole.parquet"), **options)
    assert data.stream is not None
    assert whole.stream is not None
    assert data.columns == whole.columns == drl.load_dataset(frame, seed=1, drop=["who"]).columns
    for part in ("train", "validation", "test"):
        assert torch.equal(getattr(data, part), getattr(whole, part))
    assert torch.equal(data.stream.sample(2).rows, whole.stream.sample(2).rows)
    assert data.stream.digest == whole.stream.digest
    assert sum(data.stream.num_rows) == NUM_ROWS
    assert data.stream.sample_size <= 3000
    assert "uniform samples of" in data.describe()
    again = drl.datasets.load_again(data.source, data.loading)
    assert torch.equal(again.train, data.train)


def test_samples_of_the_parts_are_uniform_and_disjoint(frame, folder):
    data = drl.load_dataset(folder, seed=2, drop=["who"], max_rows_in_memory=4000)
    middle = frame["a"].median()
    for rows in (data.train, data.validation, data.test):
        assert_z((rows[:, 0] > middle).double(), 0.5)
    held = {*data.validation[:, 0].tolist(), *data.test[:, 0].tolist()}
    assert not held & set(data.train[:, 0].tolist())
    assert not held & set(data.stream.sample(1).rows[:, 0].tolist())
    assert set(data.validation[:, 0].tolist()) <= set(frame["a"])
    assert 300 < len(data.validation) < 500


def test_the_limit_decides(folder, frame):
    assert large_table(folder, max_rows_in_memory=NUM_ROWS) is None
    assert large_table(folder, max_rows_in_memory=NUM_ROWS - 1) is not None
    assert large_table(folder) is None
    assert large_table("wine", max_rows_in_memory=100) is None
    assert large_table(np.zeros((500, 2)), max_rows_in_memory=100) is None
    assert large_table(folder.parent / "none.parquet", max_rows_in_memory=100) is None
    assert drl.load_dataset(folder, drop=["who"]).stream is None
    assert most_rows(20, None) == 2**26 // 20
    with pytest.raises(DataError, match="max_rows_in_memory must be at least 100, got 3"):
        drl.load_dataset(folder, max_rows_in_memory=3)
    with pytest.raises(DataError, match="missing must be .* got 'keep'"):
        drl.load_dataset(folder, missing="keep", max_rows_in_memory=3000)


def test_a_text_file_is_streamed_where_it_is_too_large(frame, tmp_path):
    path = tmp_path / "table.csv"
    frame[["a", "b"]].head(3000).to_csv(path, index=False)
    data = drl.load_dataset(path, seed=0, max_rows_in_memory=500)
    assert data.stream is not None
    assert sum(data.stream.num_rows) == 3000
    assert drl.load_dataset(path, seed=0, max_rows_in_memory=3000).stream is None
    assert drl.load_dataset(path, seed=0).stream is None


def test_a_streamed_text_file_is_scanned_once_and_its_notes_are_given_once(frame, tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    frame[["a", "b"]].head(3000).to_csv(path, index=False, sep=";", decimal=",")
    scans, scan = [], TextTable._scan
    monkeypatch.setattr(TextTable, "_scan", lambda table: scans.append(table) or scan(table))
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        assert drl.load_dataset(path, seed=0, max_rows_in_memory=500).stream is not None
    assert len({id(table) for table in scans}) == 1
    assert sum("decimal commas" in str(note.message) for note in notes) == 1


def test_groups_and_times_split_a_streamed_table(folder, frame):
    data = drl.load_dataset(folder, split=Split(seed=0, group="who"), max_rows_in_memory=3000)
    assert [column.name for column in data.columns] == ["a", "b"]
    person = dict(zip(frame["a"], frame["who"], strict=True))
    people = [{person[value] for value in part[:, 0].tolist()} for part in (data.train, data.validation, data.test)]
    assert not people[0] & people[1]
    assert not people[0] & people[2]
    data = drl.load_dataset(folder, split=Split(seed=0, time="who"), max_rows_in_memory=3000)
    assert data.train[:, 0].max() < data.test[:, 0].min()
    assert_z(
        torch.tensor(data.stream.num_rows.test / NUM_ROWS), 0.1, 0.003
    )  # the last tenth of the times of 10,000 rows


def test_missing_values_are_refused_or_dropped(frame):
    made = frame[["a", "b"]].copy()
    made.loc[[40, 9000], "b"] = np.nan
    source = FrameSource(made, size=999)
    with pytest.raises(DataError, match="the frame: 2 cells in 2 rows are missing, the first in column 'b', row 41"):
        load_large(LargeTable(source, "t", ""), split=Split(), max_rows_in_memory=2000)
    made.loc[7] = np.nan
    with pytest.warns(DataWarning, match="left out 1 rows without a single value"):
        data = load_large(LargeTable(source, "t", ""), split=Split(), missing="draw", max_rows_in_memory=2000)
    assert sum(data.stream.num_rows) == NUM_ROWS - 1
    assert data.has_missing_values  # of which sample 0 may have none
    made.loc[7] = 0.0
    heavy = FrameSource(made.assign(w=1.0))
    with pytest.raises(DataError, match='row weights and missing="draw" cannot be combined'):
        load_large(LargeTable(heavy, "t", ""), split=Split(weights="w"), missing="draw")
    with pytest.warns(DataWarning, match="dropped 2 of 20000 rows with missing values"):
        data = load_large(LargeTable(source, "t", ""), split=Split(), missing="drop", max_rows_in_memory=2000)
    assert sum(data.stream.num_rows) == NUM_ROWS - 2
    assert not data.has_missing_values
    complete = load_large(LargeTable(FrameSource(frame[["a", "b"]]), "t", ""), split=Split(), missing="draw")
    assert complete.train.shape[1] == 2


def test_what_cannot_be_streamed_is_refused_before_anything_is_read(frame):
    source = FrameSource(frame)
    for options, message in (
        ({"split": Split(weights="nobody")}, "there is no column nobody to split or weigh by; columns are a, b, who"),
        ({"split": Split(group="nobody")}, "there is no column nobody to split or weigh by; columns are a, b, who"),
        ({"split": Split(), "drop": ["c"]}, "cannot drop c; columns are a, b, who"),
        ({"split": Split(), "drop": ["a", "b", "who"]}, "every column was dropped"),
    ):
        with pytest.raises(DataError, match=message):
            load_large(LargeTable(source, "t", ""), **options)
    assert source.num_passes == 0


def test_a_table_whose_groups_cannot_be_divided_is_refused(frame):
    one = frame.assign(who=1)
    with pytest.raises(DataError, match="the groups cannot be split: 0 training, 0 validation and 20000 test rows"):
        load_large(LargeTable(FrameSource(one), "t", ""), split=Split(seed=0, group="who"))


def test_the_usual_sizes_bound_the_memory():
    assert loading.LARGEST_IN_MEMORY * 8 == 2**29
    assert loading.SAMPLE_CELLS * 8 == 2**28


def test_weights_of_a_streamed_table_are_those_in_memory(frame, tmp_path):
    """Weighted means of both coordinates, from samples of 2,000 rows and from all rows in memory."""
    path = tmp_path / "weighted.parquet"
    made = frame[["a", "b"]].assign(w=10 * np.exp(frame["a"]))
    made.to_parquet(path, index=False)
    split = Split(seed=0, weights="w")
    whole, data = (drl.load_dataset(path, split=split, max_rows_in_memory=most) for most in (None, 2000))
    assert [column.name for column in data.columns] == ["a", "b"]
    parts = (
        (whole.train, whole.weights, *data.stream.sample(3)),
        (whole.train, whole.weights, data.train, data.weights),
    )
    for rows, weights, some, own in (
        *parts,
        (whole.validation, whole.validation_weights, data.validation, data.validation_weights),
    ):
        truth = (weights[:, None] * rows).sum(0) / weights.sum()
        assert_z(own[:, None] * (some - truth), 0.0)
    assert data.test.shape[1] == 2
    for bad, message in (
        (made.assign(w=made["w"].where(made.index != 8)), "column 'w', row 9: must be a positive"),
        (made.assign(w=1e308), "add up to more than float64 holds"),
    ):
        with pytest.raises(DataError, match=message):
            load_large(LargeTable(FrameSource(bad), "t", ""), split=split, max_rows_in_memory=2000)
