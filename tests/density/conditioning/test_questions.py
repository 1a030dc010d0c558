"""Questions about columns in the words of a frame: labels, indices and types."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from drl_density.datasets.column import Column
from drl_density.errors import DataError
from drl_density.inverse_problems import ConditionalSettings
from tests.density.closed_form import closed_form_density

FEW = ConditionalSettings(num_particles=16, num_final_steps=8)
COLUMNS = (Column("x0", "categorical", 1.0, categories=("12", "3", "odd")), Column("x1"), Column("x2"))


@pytest.fixture(scope="module")
def density():
    return closed_form_density(columns=COLUMNS)


def test_named_values_hold_labels_and_points_hold_codes(density):
    points = torch.zeros(2, 2, dtype=torch.float64)
    expected = density.condition([1.0, math.nan, math.nan]).log_prob(points)
    row = {"x0": "3", "x1": None, "x2": None}
    for given in ({"x0": 3}, {"x0": 3.0}, {0: "3"}, pd.Series(row), pd.DataFrame([row]), pd.DataFrame({"x0": [3]})):
        assert torch.equal(density.condition(given).log_prob(points), expected)
    for given, words in (
        ({"x0": 1}, "no label 1; it holds 12, 3, odd"),
        ({"x0": None}, "no label None"),
        ({"x1": None}, "finite number to condition on, got None"),
        ({"x1": [1.0, 2.0]}, "one value to condition on"),
        ({"x1": "much"}, "no label 'much'; it holds numbers"),
        ({1.0: 2.0}, "by its name or its index"),
        ([1.0, 2.0], "expected a point of shape"),
        ("abc", "got str 'abc'"),
        ([0.5, math.nan, math.nan], "is no code of a label"),
        (pd.DataFrame({"x0": [3, 12]}), "one row at a time"),
    ):
        with pytest.raises(DataError, match=words):
            density.condition(given)


def test_one_name_is_one_column(density):
    named = density.marginal("x1", settings=FEW, seed=0)
    assert named.columns == (1,)
    values = pd.Series([0.2, 1.0], index=["u", "v"])
    found = named.log_prob(values)
    assert list(found.index) == ["u", "v"]
    assert np.array_equal(found, density.marginal([1], settings=FEW, seed=0).log_prob([[0.2], [1.0]]))
    labels = density.marginal("x0", settings=FEW, seed=0)
    assert np.array_equal(labels.log_prob(pd.Series([3, "odd"])), labels.log_prob([[1.0], [2.0]]))
    with pytest.raises(DataError, match="no column 'x'"):
        density.marginal("x")


def test_a_completed_frame_keeps_labels_types_and_index(density):
    index = pd.MultiIndex.from_tuples([("u", 1), ("u", 2)], names=["site", "visit"])
    frame = pd.DataFrame(
        {"x0": ["3", None], "note": ["one", "two"], "x1": [np.nan, 1.0], "x2": [0.1, 0.2]}, index=index
    )
    frame = frame.astype({"x0": "category", "x2": "float32"})
    found = density.impute(frame, num_samples=3, settings=FEW, seed=0)
    assert found.index.names == ["imputation", "site", "visit"]
    assert found.loc[2].index.equals(index)
    assert list(found) == list(frame)
    assert [str(dtype) for dtype in found.dtypes.drop("x0")] == [str(dtype) for dtype in frame.dtypes.drop("x0")]
    assert isinstance(found.x0.dtype, pd.CategoricalDtype)
    assert found.x0.iloc[::2].eq("3").all()
    assert set(found.x0) <= {"12", "3", "odd"}
    assert (found.x2.to_numpy().reshape(3, 2) == frame.x2.to_numpy()).all()
    assert not found.isna().any(axis=None)


def test_predictions_of_a_frame(density):
    frame = pd.DataFrame({"x1": [0.2, 1.0], "x2": [0.1, 0.4]}, index=["u", "v"])
    found = density.predict(frame, "x0", seed=0)
    assert list(found.index) == ["u", "v"]
    assert list(found.filter(like="probability")) == ["probability_12", "probability_3", "probability_odd"]
    np.testing.assert_allclose(found.filter(like="probability").sum(axis=1), 1.0)
    best = found.filter(like="probability").idxmax(axis=1).str.removeprefix("probability_")
    assert found.most_probable.tolist() == best.tolist()
    numbers = density.predict(frame.assign(x0=[3, 12]), "x1", quantiles=(0.1, 0.9), seed=0)
    assert list(numbers)[:3] == ["mean", "quantile_0.1", "quantile_0.9"]
    assert numbers.log_density.notna().all()
