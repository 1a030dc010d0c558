"""A user's rows in, answers out."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from drl_density.datasets.column import Column
from drl_density.density.tables import as_columns, as_series, column_place, index_of, read_points
from drl_density.errors import DataError
from tests.density.closed_form import closed_form_density

COLUMNS = (Column("a"), Column("q", "categorical", 1.0, categories=("12", "odd")))
VALUES = np.random.default_rng(0).normal(size=(6, 2))


def test_a_column_is_a_name_or_a_whole_number():
    assert [column_place(COLUMNS, key) for key in ("a", "q", 0, -1, np.int64(1))] == [0, 1, 0, 1, 1]
    for key in (True, 1.0, None, ["a"], np.bool_(True)):
        with pytest.raises(DataError, match="by its name or its index"):
            column_place(COLUMNS, key)
    with pytest.raises(DataError, match="did you mean q"):
        column_place(COLUMNS, "qq")


ARRAYS = {
    "reversed": lambda x: x[::-1][::-1],
    "Fortran": np.asfortranarray,
    "byte-swapped": lambda x: x.astype(">f8"),
    "masked": lambda x: np.ma.masked_array(x, mask=False),
    "tensor": torch.as_tensor,
    "list": np.ndarray.tolist,
    "frame": lambda x: pd.DataFrame(x[:, ::-1], columns=["b", "a"]),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_rows_of_every_form(name):
    plain = (Column("a"), Column("b"))
    found = read_points(ARRAYS[name](VALUES), plain, (2,))
    np.testing.assert_array_equal(found.rows.numpy(), VALUES)
    assert found.batch == (6,)


def test_arrays_that_numpy_alone_can_hold():
    frozen = VALUES.copy()
    frozen.setflags(write=False)
    plain = (Column("a"), Column("b"))
    for view in (frozen, VALUES[::-1], VALUES[:, ::-1], VALUES[::2]):
        np.testing.assert_array_equal(read_points(view, plain, (2,)).rows.numpy(), view)
    assert read_points(VALUES.reshape(2, 3, 2), plain, (2,)).batch == (2, 3)
    assert read_points(VALUES[0], plain, (2,)).batch == ()


def test_one_named_row_and_the_column_of_one():
    row = read_points(pd.Series({"q": 12, "a": 0.5, "other": "x"}), COLUMNS, (2,))
    assert (row.rows.tolist(), row.batch, row.index) == ([[0.5, 0.0]], (), None)
    one = read_points(pd.Series(["odd", 12], index=["u", "v"]), COLUMNS[1:], (1,))
    assert one.rows.tolist() == [[1.0], [0.0]]
    assert list(one.index) == ["u", "v"]
    with pytest.raises(DataError, match="its index must name the columns a, q"):
        read_points(pd.Series([1.0, 2.0]), COLUMNS, (2,))


NONSENSE = {
    "text": "abc",
    "mapping": {"a": None},
    "nothing": None,
    "texts": ["a", "b"],
    "number": 3.0,
    "set": {1.0, 2.0},
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused(name):
    with pytest.raises(DataError, match="expected rows|not a number"):
        read_points(NONSENSE[name], COLUMNS, (2,))


COLUMNS_ALONE = {
    "Arrow": pa.array([1.0, 2.0]),
    "chunks of Arrow": pa.chunked_array([[1.0, 2.0]]),
    "index": pd.Index([1.0, 2.0]),
}


@pytest.mark.parametrize("name", COLUMNS_ALONE)
def test_a_column_of_as_many_values_as_a_row_is_no_row(name):
    with pytest.raises(DataError, match="is one column: give a table or a frame of all columns"):
        read_points(COLUMNS_ALONE[name], COLUMNS, (2,))


@pytest.fixture(scope="module")
def density():
    fit = closed_form_density()
    return dataclasses.replace(fit, estimate=dataclasses.replace(fit.estimate, standard_error=0.1))


def test_a_frame_is_answered_by_its_own_index(density):
    index = pd.DatetimeIndex(["2024-01-03", "2024-01-01"], name="day")
    frame = pd.DataFrame([[0.3, 1.2, 1.5], [math.nan, 1.9, 2.8]], columns=["x0", "x1", "x2"], index=index)
    values = density.log_prob(frame)
    assert values.name == "log_density"
    assert values.index.equals(index)
    assert values.isna().tolist() == [False, True]
    scores = density.score(frame)
    assert list(scores) == ["log_density", "log_density_lower", "log_density_upper"]
    pd.testing.assert_series_equal(scores.log_density, values)
    assert scores.log_density_lower.iloc[0] < values.iloc[0] < scores.log_density_upper.iloc[0]
    record = density.score(torch.as_tensor(frame.to_numpy().copy()), probability=0.5)
    assert float(record.log_density_lower[0]) > scores.log_density_lower.iloc[0]
    with pytest.raises(DataError, match="row 2 holds an infinite value|'x0', row 2: inf is infinite"):
        density.log_prob(frame.fillna(math.inf))
    with pytest.raises(DataError, match="row 1 holds an infinite value"):
        density.log_prob(torch.as_tensor(frame.fillna(math.inf).to_numpy().copy()))


def test_draws_as_a_frame(density):
    frame = density.sample_frame(3, seed=0)
    assert list(frame) == ["x0", "x1", "x2"]
    np.testing.assert_array_equal(frame.to_numpy(), density.sample(3, seed=0).numpy())
    assert len(density.sample_frame(0)) == 0
    with pytest.raises(DataError, match="num_samples must be an integer of at least 0, got 1.5"):
        density.sample_frame(1.5)


def test_answers():
    assert as_series(torch.ones(1), ["u"], "p").to_dict() == {"u": 1.0}
    assert as_columns({"p": torch.ones(1), "q": ["x"]}, None).to_dict("list") == {"p": [1.0], "q": ["x"]}
    assert index_of(torch.ones(1)) is None
    assert index_of(np.zeros(2, dtype=[("a", float)])) is None


@pytest.mark.parametrize("series", [pd.Series(range(600)), pd.Series([1.0, 2.0], index=["a", "b"])])
def test_a_series_that_is_no_row_is_refused_with_the_cure(series):
    cure = r"its index must name the columns a, q;.*frame\.iloc\[0\].*DataFrame"
    with pytest.raises(DataError, match=cure) as caught:
        read_points(series, COLUMNS, (2,))
    assert len(str(caught.value)) < 400
