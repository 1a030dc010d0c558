"""A density over the partitions of a Dask DataFrame: the answers of one process, on any scheduler."""

import numpy as np
import pandas as pd
import pytest

import drl_density as drl
from drl_density.datasets.large.partitions import partition_seed
from drl_density.errors import DataError

dask = pytest.importorskip("dask")
dd = pytest.importorskip("dask.dataframe")


@pytest.fixture(scope="module")
def client():
    """A cluster of two workers on this machine."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, memory_limit=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def frame(tiny_data):
    rows = tiny_data.test.numpy()
    return pd.DataFrame(rows, columns=["x0", "x1"], index=pd.Index(range(100, 100 + len(rows)), name="who"))


@pytest.fixture(scope="module")
def lazy(frame):
    return dd.from_pandas(frame, npartitions=3)


def test_scores_are_those_of_one_process(tiny_density, frame, lazy, client):
    expected = tiny_density.score(frame)
    scores = tiny_density.score(lazy)
    assert scores.divisions == lazy.divisions
    assert (scores.dtypes == expected.dtypes).all()
    for scheduler in ("sync", "threads", client):
        pd.testing.assert_frame_equal(scores.compute(scheduler=scheduler), expected, rtol=1e-5, check_exact=False)


def test_draws_do_not_depend_on_the_scheduler(tiny_density, client):
    draws = tiny_density.sample_frame(11, num_partitions=3, seed=5)
    assert draws.npartitions == 3
    one = draws.compute(scheduler="sync")
    assert one.shape == (11, 2)
    assert list(one.index) == list(range(11))
    assert len(np.unique(one.to_numpy())) == 22
    pd.testing.assert_frame_equal(draws.compute(scheduler=client), one)
    again = tiny_density.sample_frame(11, num_partitions=3, seed=5).compute(scheduler="sync")
    pd.testing.assert_frame_equal(again, one)
    other = tiny_density.sample_frame(11, num_partitions=3, seed=6).compute(scheduler="sync")
    assert (other.to_numpy() != one.to_numpy()).all()
    assert partition_seed(5, 0) < 2**63
    with pytest.raises(DataError, match="num_partitions must be at least 1, got 0"):
        tiny_density.sample_frame(11, num_partitions=0)


def test_imputations_keep_index_types_and_observed_cells(tiny_density, frame, client):
    holes = frame.head(8).copy()
    holes.iloc[[1, 6], 1] = np.nan
    lazy = dd.from_pandas(holes, npartitions=2)
    small = drl.ConditionalSettings(num_replicates=2, num_particles=8)
    filled = tiny_density.impute(lazy, num_samples=1, settings=small, seed=3)
    one = filled.compute(scheduler="sync")
    pd.testing.assert_frame_equal(filled.compute(scheduler=client), one)
    assert (one.index == holes.index).all()
    is_seen = holes.notna().to_numpy()
    assert (one.to_numpy()[is_seen] == holes.to_numpy()[is_seen]).all()
    assert np.isfinite(one.to_numpy()).all()
    several = tiny_density.impute(lazy, num_samples=2, settings=small, seed=3).compute(scheduler="sync")
    assert several["imputation"].value_counts().to_dict() == {0: 8, 1: 8}
