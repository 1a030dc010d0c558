"""Seeded splits and folds that keep duplicates and groups together."""

import numpy as np
import pytest
import torch

from drl_density import Split, load_dataset
from drl_density.datasets import (
    folds,
)
from drl_density.datasets.splits import row_groups, split_rows
from drl_density.errors import DataError
from tests.datasets.samples import FRAME, TABLE

RNG = np.random.default_rng(0)


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


def test_equal_rows_have_equal_numbers():
    assert row_groups(np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]])).tolist() == [1, 0, 1]


BAD = {
    "one group": (lambda p: load_dataset(FRAME.assign(g=1.0), split=Split(group="g")), "more groups are needed"),
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
