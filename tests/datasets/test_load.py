"""Loading by name, from files and from memory; roles of columns; missing values; every refusal."""

import io
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from drl_density import ReadOptions, Split, load_dataset
from drl_density.datasets import Column, load_again, read_rows
from drl_density.errors import DataError, DataWarning
from tests.datasets.samples import FRAME, TABLE

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("name", "d"), [("digits", 64), ("wine", 13), ("breast_cancer", 30), ("diabetes", 10)])
@pytest.mark.filterwarnings("ignore:column .* (are exactly 0|lie on a bound):drl_density.errors.DataWarning")
def test_bundled_sets(name, d):
    data = load_dataset(name, seed=1)
    assert data.train.shape[1] == d == len(data.columns)
    assert data.train.dtype == torch.float64
    total = len(data.train) + len(data.validation) + len(data.test)
    assert abs(len(data.test) / total - 0.1) < 0.03
    with pytest.raises(DataError, match="not known"):
        data.log_density(data.test)


@pytest.mark.parametrize("source", [TABLE, torch.as_tensor(TABLE), pd.DataFrame(TABLE, columns=list("abc"))], ids=str)
def test_sources_in_memory(source):
    assert load_dataset(source).num_columns == 3


def test_images_keep_their_shape():
    data = load_dataset(RNG.normal(size=(200, 4, 4)))
    assert data.event_shape == (4, 4)
    assert data.train.shape[1] == 16


def test_overrides_win():
    data = load_dataset(TABLE, columns={"x1": {"lower": -100.0, "width": 0.5}})
    assert (data.columns[1].lower, data.columns[1].width) == (-100.0, 0.5)
    assert data.likelihood_label == "density of dequantised values"


def test_group_time_and_weights():
    frame = pd.DataFrame(TABLE, columns=["a", "b", "c"])
    frame["who"], frame["when"], frame["w"] = np.arange(200) // 10, np.arange(200), 1.0 + np.arange(200)
    data = load_dataset(frame.drop(columns=["who", "w"]), split=Split(time="when"))
    np.testing.assert_allclose(data.test.numpy(), TABLE[180:])
    data = load_dataset(frame.drop(columns=["when"]), split=Split(group="who", weights="w"))
    assert [column.name for column in data.columns] == ["a", "b", "c"]
    assert len(data.test) % 10 == 0
    assert data.weights.shape == (len(data.train),)


def with_text(count=200):
    days = pd.date_range("2024-01-01", periods=count)[::-1]
    ids = [f"patient {i // 5}" for i in range(count)]
    return pd.DataFrame(TABLE[:count], columns=["a", "b", "c"]).assign(who=ids, day=days)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "memory"])
def test_free_text_groups_dates_order_and_both_can_be_dropped(tmp_path, suffix):
    frame = with_text()
    source = frame if suffix == "memory" else tmp_path / f"t.{suffix}"
    if suffix != "memory":
        {"csv": frame.to_csv, "parquet": frame.to_parquet}[suffix](source, index=False)
    data = load_dataset(source, split=Split(group="who"), drop=["day"])
    assert data.num_columns == 3
    group_of = dict(zip(TABLE[:, 0], frame["who"], strict=True))
    sides = [{group_of[row] for row in part[:, 0].tolist()} for part in (data.train, data.validation, data.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    data = load_dataset(source, split=Split(time="day"), drop=["who"])
    np.testing.assert_allclose(data.test.numpy(), TABLE[:20])
    assert load_dataset(source, drop=["who", "day"]).num_columns == 3
    with pytest.raises(DataError, match="cannot drop whoday"):  # one name, not its letters
        load_dataset(source, drop="whoday")
    assert read_rows(source, data.columns).shape == (200, 3)
    with pytest.raises(DataError, match="column 'who', row [12]: 'patient 0' is text.*--drop who.*--group who"):
        load_dataset(source, drop=["day"])
    with pytest.raises(DataError, match="column 'day', row [12]: '2024-"):
        load_dataset(source, drop=["who"])


def test_names_in_advice_can_be_pasted_into_a_shell():
    frame = pd.DataFrame({"height (cm)": [*map(str, range(60)), "k.A.", "?x"], "it's": np.arange(62.0)})
    with pytest.raises(DataError, match=r"--missing-values k.A. '\?x'\).*--categorical 'height \(cm\)'\)"):
        load_dataset(io.BytesIO(frame.to_csv(index=False).encode()))
    with pytest.raises(DataError, match=r"--drop 'patient id'\).*--group 'patient id', --time 'patient id'\)"):
        load_dataset(with_text().rename(columns={"who": "patient id"}), drop=["day"])
    with pytest.raises(DataError, match=r"\(--drop 'a b' c\)"):
        load_dataset(pd.DataFrame({"a b": [1.0] * 30, "c": 2.0, "d": np.arange(30.0)}))


def test_holes_in_the_column_that_groups_orders_or_weighs():
    frame = with_text().assign(t=np.arange(200.0), w=1.0)
    frame.loc[[3, 9], ["t", "w", "day"]] = [np.nan, np.inf, pd.NaT]
    frame.loc[3, "who"] = ""
    cases = {"time": ["t", "day"], "weights": ["w"], "group": ["who"]}
    for role, names in cases.items():
        for name in names:
            others = [other for other in ("who", "day", "t", "w") if other != name]
            with pytest.raises(DataError, match=f"column '{name}', row 4"):
                load_dataset(frame, split=Split(**{role: name}), drop=others)
    with pytest.raises(DataError, match="'who' must order the rows by time.*ISO date"):
        load_dataset(with_text(), split=Split(time="who"), drop=["day"])
    with pytest.raises(DataError, match="'who' must order the rows by time.*ISO date"):  # of which NumPy makes a date
        load_dataset(with_text().assign(who="now"), split=Split(time="who"), drop=["day"])


def test_the_same_split_is_loaded_again(tmp_path):
    path = tmp_path / "table.csv"
    frame = pd.DataFrame(TABLE, columns=["a", "b", "c"]).assign(who=np.arange(200) // 10)
    frame.to_csv(path, index=False)
    data = load_dataset(path, split=Split(group="who", seed=3), columns={"a": {"lower": -1e6}}, drop=["b"])
    again = load_again(data.source, json.loads(json.dumps(data.loading)))
    assert torch.equal(data.test, again.test)
    assert again.columns == data.columns
    assert torch.equal(
        load_dataset("banana", seed=2).test, load_again("banana", load_dataset("banana", seed=2).loading).test
    )
    with pytest.raises(DataError, match="array in memory"):
        load_again("", {})


def test_the_options_of_reading_are_loaded_again(tmp_path):
    path = tmp_path / "table.csv"
    FRAME.to_csv(path, index=False, sep=";", decimal=",", encoding="utf-16", header=False)
    reading = ReadOptions(header="none", decimal=",", encoding="utf-16")
    data = load_dataset(path, seed=0, reading=reading)
    again = load_again(data.source, json.loads(json.dumps(data.loading)))
    assert torch.equal(data.test, again.test)
    assert ReadOptions.from_dict(data.loading["reading"]) == reading
    assert torch.equal(read_rows(path, data.columns, reading=reading), torch.as_tensor(TABLE))
    with pytest.raises(DataError, match="columns that are not here: a; here are x0"):
        read_rows(path, (Column("a"),), reading=reading)
    data = load_dataset(io.BytesIO(FRAME.to_csv(index=False).encode()), seed=0)
    assert torch.equal(data.train, load_dataset(FRAME, seed=0).train)
    with pytest.raises(DataError, match="standard input"):
        load_again(data.source, data.loading)


def test_labels_are_coded_and_read_back():
    frame = pd.DataFrame({"a": TABLE[:, 0], "color": np.array(["red", "blue"])[RNG.integers(0, 2, 200)]})
    with pytest.warns(DataWarning, match="in the order blue, red, which"):
        data = load_dataset(frame)
    assert data.columns[1].categories == ("blue", "red")
    rows = read_rows(frame[["color", "a"]], data.columns)
    np.testing.assert_allclose(rows[:, 0], TABLE[:, 0])
    assert rows[:, 1].tolist() == [float(c == "red") for c in frame["color"]]
    with pytest.raises(DataError, match="green"):
        read_rows(pd.DataFrame({"a": [1.0], "color": ["green"]}), data.columns)
    with pytest.raises(DataError, match="not here: a"):
        read_rows(pd.DataFrame({"b": [1.0], "color": ["red"]}), data.columns)


def test_holes_are_refused_or_dropped():
    values = TABLE.copy()
    values[7, 1] = np.nan
    with pytest.raises(DataError, match='column \'x1\', row 8.*missing="drop".*missing="draw"'):
        load_dataset(values)
    with pytest.warns(DataWarning, match="dropped 1 of 200"):
        data = load_dataset(values, missing="drop")
    assert len(data.train) + len(data.validation) + len(data.test) == 199


def test_few_rows_are_a_warning():
    with pytest.warns(DataWarning, match="fewer than 10 rows per column"):
        load_dataset(TABLE[:20])


def test_rows_with_missing_values_can_be_kept_and_empty_ones_are_left_out():
    values = TABLE.copy()
    values[3, 0], values[5] = np.nan, np.nan
    with pytest.warns(DataWarning, match="left out 1 rows without a single value"):
        data = load_dataset(values, missing="draw")
    assert data.has_missing_values
    assert len(data.train) + len(data.validation) + len(data.test) == 199
    kept = read_rows(values, data.columns, missing="keep")
    assert kept.isnan().sum() == 4
    with pytest.raises(DataError, match="first in column 'x0', row 4"):
        read_rows(values, data.columns)
    lacking = read_rows(FRAME[["a", "b"]], load_dataset(FRAME).columns, missing="keep", absent=["c"])
    assert bool(lacking[:, 2].isnan().all())


BAD = {
    "unknown name": (lambda p: load_dataset("digit"), "did you mean digits"),
    "no file": (lambda p: load_dataset(str(p / "none.csv")), "there is no file"),
    "drop": (lambda p: load_dataset(TABLE, drop=["z"]), "cannot drop z"),
    "group": (
        lambda p: load_dataset(TABLE, split=Split(group="z")),
        "there is no column z to split or weigh by; columns are x0, x1",
    ),
    "missing": (lambda p: load_dataset(TABLE, missing="guess"), "missing must be"),
    "infinite": (lambda p: load_dataset(np.where(TABLE > 2.3, math.inf, TABLE)), "infinite, which is no missing value"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::drl_density.errors.DataWarning")
def test_bad_input(tmp_path, name):
    call, message = BAD[name]
    with pytest.raises(DataError, match=message):
        call(tmp_path)
