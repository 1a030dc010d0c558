"""A Dask DataFrame as a table in chunks."""

import numpy as np
import pandas as pd
import pytest
import torch

import drl_density as drl
from drl_density.datasets.large.dask_table import DaskTable, as_pandas, is_dask_frame

dd = pytest.importorskip("dask.dataframe")


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"a": rng.normal(size=2000), "q": rng.choice(["x", "y"], 2000), 3: np.arange(2000)})


@pytest.fixture(autouse=True)
def _one_thread():
    import dask

    with dask.config.set(scheduler="sync"):
        yield


def test_chunks_have_all_rows_in_order(frame):
    table = DaskTable(dd.from_pandas(frame, npartitions=3))
    assert (table.names, table.num_rows) == (("a", "q", "3"), 2000)
    chunks = list(table.chunks(300, names=["3", "a"]))
    assert max(map(len, chunks)) == 300
    joined = pd.concat(chunks)
    assert list(joined.columns) == ["3", "a"]
    assert (joined["3"].to_numpy() == np.arange(2000)).all()
    assert (joined["a"].to_numpy() == frame["a"].to_numpy()).all()


def test_only_dask_frames_are_recognised(frame):
    lazy = dd.from_pandas(frame, npartitions=2)
    assert is_dask_frame(lazy)
    assert not any(is_dask_frame(other) for other in (frame, frame["a"], lazy["a"].compute(), "folder"))
    assert as_pandas(lazy).shape == frame.shape


@pytest.mark.filterwarnings("ignore:column 'q' has labels:drl_density.errors.DataWarning")
def test_a_small_frame_is_loaded_whole_and_a_large_one_streamed(frame):
    lazy = dd.from_pandas(frame, npartitions=4)
    small = drl.load_dataset(lazy, seed=0)
    expected = drl.load_dataset(frame, seed=0)
    assert small.stream is None
    assert torch.equal(small.train, expected.train)
    large = drl.load_dataset(lazy, seed=0, max_rows_in_memory=500)
    other = drl.load_dataset(dd.from_pandas(frame, npartitions=7), seed=0, max_rows_in_memory=500)
    assert large.stream is not None
    assert large.columns == expected.columns
    assert torch.equal(large.stream.sample(1).rows, other.stream.sample(1).rows)


def test_a_small_frame_with_weights_or_missing_values_is_loaded_as_the_pandas_frame():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=300), "b": rng.normal(size=300), "w": rng.random(300) + 0.1})
    options = {"split": drl.Split(weights="w", seed=0)}
    weighted = [drl.load_dataset(table, **options) for table in (frame, dd.from_pandas(frame, npartitions=3))]
    assert torch.equal(weighted[0].weights, weighted[1].weights)
    assert torch.equal(weighted[0].validation_weights, weighted[1].validation_weights)
    frame.loc[::7, "b"] = np.nan
    drawn = [drl.load_dataset(t, seed=0, missing="draw") for t in (frame, dd.from_pandas(frame, npartitions=3))]
    assert drawn[1].has_missing_values
    torch.testing.assert_close(drawn[0].train, drawn[1].train, rtol=0, atol=0, equal_nan=True)


def test_a_frame_larger_than_the_limit_has_weights_and_drawn_values():
    frame = pd.DataFrame({"a": np.arange(300.0) ** 0.5, "b": np.arange(300.0) ** 1.5, "w": np.arange(1.0, 301.0)})
    lazy = dd.from_pandas(frame, npartitions=3)
    data = drl.load_dataset(lazy, split=drl.Split(seed=0, weights="w"), max_rows_in_memory=200)
    assert [column.name for column in data.columns] == ["a", "b"]
    assert len(data.weights) == len(data.train)
    holes = dd.from_pandas(frame.assign(b=frame["b"].where(frame.index % 5 > 0)), npartitions=3)
    data = drl.load_dataset(holes, seed=0, missing="draw", max_rows_in_memory=200)
    assert data.has_missing_values
    assert bool(data.stream.sample(1).rows.isnan().any())
