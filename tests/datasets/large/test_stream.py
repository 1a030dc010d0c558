"""Splits and samples of a streamed table: uniform, exhaustive, and the same whatever the order and the chunks."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from drl_density.datasets.column import Column
from drl_density.datasets.large.stream import DiscreteCells, StreamedRows, TablePasses, training_sample, wrapped_sum
from drl_density.datasets.splits import Parts, Split
from drl_density.errors import DataError
from drl_density.testing.statistics import assert_z
from tests.datasets.large.frames import FrameSource

CONTINUOUS = (Column("a"), Column("b"))
DISCRETE = (Column("k", "integer", 1.0, values=(0.0, 1.0, 5.0)), Column("q", "categorical", 1.0, categories=("x", "y")))


@pytest.fixture(scope="module")
def ordered():
    """12,000 rows sorted by their first column, whose second column differs between the first and the second half."""
    rng = np.random.default_rng(0)
    a = np.sort(rng.normal(size=12_000))
    return pd.DataFrame({"a": a, "b": np.where(np.arange(12_000) < 6000, 0.0, 50.0) + rng.normal(size=12_000)})


@pytest.fixture(scope="module")
def labels():
    """6,000 rows of five common cells, and one rare cell in the last row."""
    rng = np.random.default_rng(1)
    k = rng.choice([0, 1, 5], 6000)
    q = np.where(k == 5, "x", rng.choice(["x", "y"], 6000))
    k[-1], q[-1] = 5, "y"
    return pd.DataFrame({"k": k, "q": q})


def passes_of(frame, *, size=None, columns=CONTINUOUS, split=None, **further):
    return TablePasses(FrameSource(frame, size=size), columns, split or Split(seed=3), **further)


def stream_of(passes, *, num_slices):
    """The stream over ``passes``, counted by a pass of its own."""
    chunks = list(passes)
    counts = np.bincount(np.concatenate([chunk.part for chunk in chunks]), minlength=3)
    checksum = sum(wrapped_sum(chunk.content) for chunk in chunks) % 2**64
    return StreamedRows(passes, Parts(*counts.tolist()), num_slices, checksum)


def joined(passes):
    """(rows, part of each) of a whole pass."""
    chunks = list(passes)
    return np.concatenate([chunk.values for chunk in chunks]), np.concatenate([chunk.part for chunk in chunks])


def test_the_split_has_its_shares_and_does_not_depend_on_chunks(ordered):
    rows, part = joined(passes_of(ordered))
    for index, share in ((1, 0.1), (2, 0.1), (0, 0.8)):
        assert_z(torch.as_tensor(part == index).double(), share)
    for size in (1000, 977, 7):
        other_rows, other = joined(passes_of(ordered, size=size))
        assert (other == part).all()
        assert (other_rows == rows).all()
    assert (joined(passes_of(ordered, split=Split(seed=4)))[1] != part).any()


def test_rows_keep_their_part_in_any_order_of_the_file(ordered):
    _, part = joined(passes_of(ordered))
    order = np.random.default_rng(2).permutation(len(ordered))
    _, shuffled = joined(passes_of(ordered.iloc[order]))
    assert (shuffled == part[order]).all()


def test_equal_rows_share_a_part_where_a_column_is_continuous(ordered):
    twice = pd.concat([ordered.head(500)] * 3)
    _, part = joined(passes_of(twice))
    assert (part.reshape(3, 500) == part[:500]).all()
    assert set(part) == {0, 1, 2}


def test_equal_rows_of_a_discrete_table_are_divided_and_every_cell_trains(labels):
    rows, part = joined(passes_of(labels, columns=DISCRETE))
    assert_z(torch.as_tensor(part == 2).double(), 0.1)
    for cell in np.unique(rows, axis=0)[:5]:
        assert set(part[(rows == cell).all(1)]) == {0, 1, 2}
    for seed in range(20):  # by chance alone one of twenty seeds would take the rare row out of training
        _, part = joined(passes_of(labels, columns=DISCRETE, split=Split(seed=seed), size=700))
        assert part[-1] == 0


def test_discrete_cells_are_only_counted_where_they_are_few():
    wide = tuple(dataclasses.replace(DISCRETE[0], name=f"k{index}") for index in range(40))
    assert DiscreteCells.of(wide, 2**60) is None
    assert DiscreteCells.of((*DISCRETE, CONTINUOUS[0]), 6000) is None
    assert DiscreteCells.of(DISCRETE, 60) is not None
    assert DiscreteCells.of(DISCRETE, 59) is None


def test_a_discrete_table_of_many_combinations_keeps_its_shares():
    columns = tuple(Column(f"k{index}", "integer", 1.0, values=(0.0, 1.0)) for index in range(20))
    values = np.random.default_rng(4).integers(0, 2, (20_000, 20))
    _, part = joined(passes_of(pd.DataFrame(values, columns=[column.name for column in columns]), columns=columns))
    for index, share in ((1, 0.1), (2, 0.1), (0, 0.8)):
        assert_z(torch.as_tensor(part == index).double(), share)


def test_groups_stay_together_and_times_order(ordered):
    frame = ordered.assign(who=[f"person {index % 300}" for index in range(12_000)], when=np.arange(12_000)[::-1])
    _, part = joined(passes_of(frame, split=Split(seed=0, group="who"), size=1234))
    parts_of = pd.Series(part).groupby(frame["who"].to_numpy()).nunique()
    assert (parts_of == 1).all()
    assert set(part) == {0, 1, 2}
    _, part = joined(passes_of(frame, split=Split(seed=0, time="when"), first_test_time=11_000.0, size=1234))
    assert (np.flatnonzero(part == 2) == np.arange(1000)).all()
    assert_z(torch.as_tensor(part[1000:] == 1).double(), 0.1 / 0.9)


@pytest.mark.parametrize("size", [None, 97])
def test_the_samples_of_an_epoch_use_every_training_row_once(ordered, size):
    passes = passes_of(ordered, size=size)
    rows, part = joined(passes)
    stream = stream_of(passes, num_slices=5)
    expected = np.sort(rows[part == 0][:, 0])
    for epoch in (0, 3):
        samples = [stream.sample(5 * epoch + slot).rows for slot in range(5)]
        assert (np.sort(torch.cat(samples)[:, 0].numpy()) == expected).all()
        sizes = torch.tensor([float(len(sample)) for sample in samples])
        assert_z(sizes, len(expected) / 5, math.sqrt(len(expected) * 0.16))
    assert stream.sample_size == round(len(expected) / 5)
    assert set(stream.sample(0).rows[:, 0].tolist()) != set(stream.sample(5).rows[:, 0].tolist())


def test_a_sample_of_a_sorted_table_is_a_sample_of_the_shuffled_one(ordered):
    """Shares of ten ordered blocks in each sample, against their shares among all training rows."""
    passes = passes_of(ordered)
    rows, part = joined(passes)
    stream = stream_of(passes, num_slices=4)
    edges = np.quantile(rows[part == 0][:, 0], np.linspace(0, 1, 11)[1:-1])
    for number in range(6):
        sample = stream.sample(number).rows.numpy()
        counts = np.bincount(np.digitize(sample[:, 0], edges), minlength=10)
        # Each of about 960 rows in a block is taken with probability 1/4, independently.
        block = np.bincount(np.digitize(rows[part == 0][:, 0], edges), minlength=10)
        assert_z(torch.as_tensor(counts), torch.as_tensor(block / 4), torch.as_tensor(np.sqrt(block * 3 / 16)))
        is_late = torch.as_tensor(sample[:, 1] > 25).double()
        assert_z(is_late, (rows[part == 0][:, 1] > 25).mean())


def test_a_sample_is_the_same_whenever_and_wherever_it_is_drawn(ordered):
    stream = stream_of(passes_of(ordered), num_slices=3)
    first = stream.sample(7).rows
    stream.sample(2)
    assert torch.equal(stream.sample(7).rows, first)
    assert torch.equal(stream_of(passes_of(ordered, size=13), num_slices=3).sample(7).rows, first)
    assert stream.digest == stream_of(passes_of(ordered, size=13), num_slices=3).digest


def test_rows_are_divided_alike_in_every_epoch(ordered):
    (chunk,) = passes_of(ordered)
    for shares in (None, np.ones(len(ordered))):
        chunk = chunk._replace(shares=shares)
        for epoch in range(3):
            numbers = np.stack([training_sample(chunk, 4 * epoch + slot, 4, seed=1)[0] for slot in range(4)])
            assert (numbers.sum(0) == (chunk.part == 0)).all()


def test_a_table_that_changes_is_noticed(ordered):
    stream = stream_of(passes_of(ordered), num_slices=3)
    changed = ordered.copy()
    changed.loc[17, "b"] += 1e-9
    for frame in (changed, ordered.iloc[:-1]):
        other = dataclasses.replace(stream, passes=passes_of(frame))
        with pytest.raises(DataError, match="the frame has changed since the fit began to read it"):
            other.sample(1)
        assert stream_of(passes_of(frame), num_slices=3).digest != stream.digest


def test_a_cancelled_pass_stops_between_chunks(ordered):
    stream = stream_of(passes_of(ordered, size=100), num_slices=3)
    asked = []
    with pytest.raises(DataError, match="cancelled"):
        stream.sample(1, is_cancelled=lambda: bool(asked.append(1)) or len(asked) > 3)
    assert len(asked) == 4


def test_incomplete_rows_are_left_out_on_request(ordered):
    frame = ordered.head(400).copy()
    frame.loc[frame.index[::4], "b"] = np.nan
    rows, _ = joined(passes_of(frame, missing="drop", size=30))
    assert len(rows) == 300
    assert not np.isnan(rows).any()
    kept = joined(passes_of(ordered.head(400)))[1][np.arange(400) % 4 != 0]
    assert (joined(passes_of(frame, missing="drop"))[1] == kept).all()


@pytest.fixture(scope="module")
def weighted(ordered):
    """The rows with weights that grow with the first column; one row has as much weight as 3,000 average ones."""
    weights = np.exp(ordered["a"].to_numpy())
    weights[5000] = 3000 * weights.mean()
    return ordered.assign(w=weights)


def test_each_row_is_expected_in_proportion_to_its_weight(weighted):
    weights = weighted["w"].to_numpy()
    passes = passes_of(weighted, split=Split(seed=3, weights="w"), mean_weight=weights.mean(), size=999)
    chunks = list(passes)
    part = np.concatenate([chunk.part for chunk in chunks])
    assert (part == joined(passes_of(weighted[["a", "b"]]))[1]).all()  # weights do not move the split
    stream = stream_of(passes, num_slices=6)
    place = {value: index for index, value in enumerate(weighted["a"])}
    totals = np.zeros(len(weights))
    for number in range(6):
        rows, own = stream.sample(number)
        totals[[place[value] for value in rows[:, 0].tolist()]] += own.numpy()
        assert len(rows) < 1.05 * stream.sample_size
    expected = np.where(part == 0, weights / weights.mean(), 0.0)
    assert np.abs(totals - expected).max() < 1 + 1e-9
    assert totals[5000] == pytest.approx(expected[5000])  # in every sample, with a sixth of its weight
    assert_z(torch.as_tensor(totals - expected)[part == 0], 0.0)
    assert stream.digest != dataclasses.replace(stream, checksum=0).digest


def test_weights_belong_to_the_content_of_a_table(weighted):
    split, mean = Split(seed=3, weights="w"), float(weighted["w"].mean())
    stream = stream_of(passes_of(weighted, split=split, mean_weight=mean), num_slices=3)
    changed = passes_of(weighted.assign(w=weighted["w"].to_numpy()[::-1]), split=split, mean_weight=mean)
    with pytest.raises(DataError, match="has changed since the fit began"):
        dataclasses.replace(stream, passes=changed).sample(0)
    bad = passes_of(weighted.assign(w=0.0), split=split)
    with pytest.raises(DataError, match="column 'w', row 1: must be a positive number"):
        list(bad)


def test_rows_without_a_value_are_left_out_where_missing_values_are_drawn(ordered):
    frame = ordered.head(400).copy()
    frame.loc[frame.index[::4], "b"] = np.nan
    frame.loc[frame.index[::8], "a"] = np.nan
    rows, _ = joined(passes_of(frame, missing="draw", size=30))
    assert len(rows) == 350
    assert np.isnan(rows).sum() == 50


def test_a_missing_value_is_a_cell_of_its_own_in_a_discrete_table():
    values = np.array([[np.nan, 0.0], [0.0, 0.0], [0.0, 0.0], [5.0, 1.0]])
    assert set(DiscreteCells.of(DISCRETE, 6000).first_rows(values)) == {0, 1, 3}
