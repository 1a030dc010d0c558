"""Seeded splits and folds that keep duplicates and groups together."""

import numpy as np
import pandas as pd
import pytest
import torch

from drl_density import Split, load_dataset
from drl_density.datasets import Column, folds
from drl_density.datasets.splits import row_groups, split_rows
from drl_density.errors import DataError
from tests.datasets.samples import FRAME, TABLE

RNG = np.random.default_rng(0)


@pytest.mark.filterwarnings("ignore:column 'x.'. values repeat")
def test_duplicates_stay_on_one_side():
    values = np.repeat(RNG.normal(size=(60, 2)), 4, axis=0)
    data = load_dataset(values, seed=3)
    sides = [{tuple(row) for row in part.tolist()} for part in (data.train, data.validation, data.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    for train, validation, test in folds(values, 5, seed=0):
        parts = [{tuple(row) for row in values[index].tolist()} for index in (train, validation, test)]
        assert not parts[0] & parts[2]
        assert not parts[1] & parts[2]
        assert len(train) + len(validation) + len(test) == len(values)


def test_splits_follow_their_seed():
    first, second, third = (load_dataset(TABLE, seed=seed).test for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_every_row_lands_in_one_part_and_shares_are_kept():
    parts = split_rows(np.arange(1000), Split(validation=0.2, test=0.3, seed=2))
    assert sorted(np.concatenate(parts)) == list(range(1000))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (500, 200, 300)
    assert all(bool((np.diff(part) > 0).all()) for part in parts)
    assert len(split_rows(np.arange(50), Split(test=0.0)).test) == 0


def test_the_latest_rows_are_the_test():
    times = np.arange(100)[::-1]
    parts = split_rows(np.arange(100), Split(validation=0.1, test=0.2), times=times)
    assert times[parts.test].min() > times[np.concatenate([parts.train, parts.validation])].max()
    assert (len(parts.validation), len(parts.test)) == (10, 20)
    none = split_rows(np.arange(100), Split(validation=0.1, test=0.0), times=times)
    assert (len(none.train), len(none.validation), len(none.test)) == (90, 10, 0)
    with pytest.raises(DataError, match="all 100 rows have the time of the latest ones"):
        split_rows(np.arange(100), Split(), times=np.zeros(100))


def test_equal_rows_have_equal_numbers():
    assert row_groups(np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]])).tolist() == [1, 0, 1]


def rows_of(part):
    return {tuple(row) for row in part.tolist()}


def test_equal_rows_of_a_discrete_table_are_on_both_sides_and_every_cell_is_trained_on():
    values = np.stack([RNG.integers(0, 3, 500), RNG.integers(0, 2, 500)], 1).astype(float)
    values[0] = [2.0, 7.0]  # one row of its own cell
    for seed in range(12):
        data = load_dataset(values, seed=seed, columns={"x1": {"kind": "integer"}})
        assert rows_of(data.train) == rows_of(torch.as_tensor(values))
        assert (len(data.validation), len(data.test)) in ((50, 50), (49, 50), (50, 49))
        assert len(data.train) + len(data.validation) + len(data.test) == 500
        assert len(rows_of(data.test)) > 4
    one = load_dataset(np.repeat([0.0, 1.0], 300)[:, None], seed=0)
    assert rows_of(one.train) == rows_of(one.test) == {(0.0,), (1.0,)}


def test_many_cells_are_not_moved_into_training():
    values = RNG.integers(0, 40, size=(500, 2)).astype(float)
    data = load_dataset(values, seed=0)
    assert (len(data.train), len(data.validation), len(data.test)) == (400, 50, 50)
    assert rows_of(data.test) - rows_of(data.train)


@pytest.mark.filterwarnings("ignore::drl_density.errors.DataWarning")
def test_weights_groups_and_times_work_in_discrete_tables():
    frame = pd.DataFrame(
        {"k": RNG.integers(0, 4, 400), "g": np.arange(400) // 8, "t": np.arange(400), "w": 1.0 + RNG.random(400)}
    )
    weighted = load_dataset(frame[["k", "w"]], split=Split(weights="w"))
    assert weighted.weights is not None
    assert len(weighted.weights) == len(weighted.train)
    by_group = load_dataset(frame[["k", "g"]], split=Split(group="g"))
    assert len(by_group.test) % 8 == 0
    by_time = load_dataset(frame[["k", "t"]], split=Split(time="t"))
    assert by_time.test.flatten().tolist() == frame.k.to_numpy()[-40:].tolist()


def test_folds_of_a_discrete_table_divide_its_rows():
    values = np.repeat([0.0, 1.0], 50)[:, None]
    parts = next(folds(values, 5, seed=0, columns=(Column("y", "binary", 1.0, values=(0.0, 1.0)),)))
    assert set(values[parts.test].flatten()) == set(values[parts.train].flatten()) == {0.0, 1.0}


BAD = {
    "one group": (lambda p: load_dataset(FRAME.assign(g=1.0), split=Split(group="g")), "at least 5 groups are needed"),
    "shares": (lambda p: Split(test=0.9, validation=0.2), "leave training rows"),
    "two ways": (lambda p: Split(group="a", time="b"), "not by both"),
    "no such group": (lambda p: load_dataset(TABLE, split=Split(group="z")), "no column z"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::drl_density.errors.DataWarning")
def test_bad_input(tmp_path, name):
    call, message = BAD[name]
    with pytest.raises(DataError, match=message):
        call(tmp_path)
