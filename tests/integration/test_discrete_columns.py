"""Labels, yes or no, and ratings keep their support from the table to draws, imputations, predictions and files."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

import drl_density as drl
from drl_density.errors import DataError, DataWarning

pytestmark = pytest.mark.usefixtures("short_paths")
SMALL = drl.FitSettings(
    network=drl.MLPNetwork(width=8),
    schedule=drl.LogSpacedSchedule(num_levels=3),
    num_pool_draws=40,
    num_particles=32,
    training=drl.TrainingSettings(num_steps=10, batch_size=32),
)
RNG = np.random.default_rng(5)
A = RNG.normal(size=400)
STARS = np.array([1, 2, 3, 5])[np.clip(np.round(1.5 + A), 0, 3).astype(int)]
RARE = pd.DataFrame({"c": ["x"] * 250 + ["y"] * 148 + ["z"] * 2, "y": RNG.random(400) < 0.3, "k": STARS})


@pytest.fixture(scope="module")
def ratings():
    """Columns a (continuous) and stars (the values 1, 2, 3 and 5), where no row has 4 stars."""
    return drl.fit(
        drl.load_dataset(pd.DataFrame({"a": A, "stars": STARS}), seed=0), settings=SMALL, seed=0, progress=False
    )


@pytest.fixture(scope="module")
def labels():
    """Labels of which one has two rows, yes or no, and ratings."""
    with pytest.warns(DataWarning, match="has labels"):
        data = drl.load_dataset(RARE, seed=0)
    return data, drl.fit(data, settings=SMALL, seed=0, progress=False)


def test_draws_never_leave_the_support(ratings, labels):
    assert set(ratings.sample(300, seed=1)[:, 1].tolist()) <= {1.0, 2.0, 3.0, 5.0}
    draws = labels[1].sample(300, seed=1)
    for index, values in enumerate(({0.0, 1.0, 2.0}, {0.0, 1.0}, {1.0, 2.0, 3.0, 5.0})):
        assert set(draws[:, index].tolist()) <= values
    assert set(ratings.draw(20, seed=0).draws[:, 1].tolist()) <= {1.0, 2.0, 3.0, 5.0}


def test_the_density_is_zero_between_the_values(ratings):
    rows = torch.tensor([[0.0, 4.0], [0.0, 0.0], [0.0, 6.0], [0.0, 3.0]])
    values = ratings.log_prob(rows)
    assert values[:3].tolist() == [-math.inf] * 3
    assert bool(values[3].isfinite())
    with pytest.raises(DataError, match="row 0: 4 of column 'stars' is none of the permitted values"):
        ratings.evaluate(rows[[0, 3]], seed=0)
    with pytest.raises(DataError, match="4 of column 'stars' is none of the values of the fit"):
        ratings.condition({"stars": 4})
    with pytest.raises(DataError, match="none of the values of the fit"):
        ratings.impute(torch.tensor([[math.nan, 4.0]]), seed=0)


@pytest.mark.parametrize("value", [2.3, 2.4999, 0.6])
def test_a_value_inside_a_cell_is_no_permitted_value(ratings, value):
    frame = pd.DataFrame({"a": [0.0, 0.0], "stars": [value, 2.0]})
    for found in (ratings.log_prob(frame), ratings.score(frame).log_density, ratings.outlier_scores(frame).log_density):
        assert np.isneginf(found[0])
        assert np.isfinite(found[1])
    prediction = ratings.predict(ratings.rows(frame), "stars")
    assert prediction.log_density.isneginf().tolist() == [True, False]
    with pytest.raises(DataError, match="none of the values of the fit"):
        ratings.condition({"stars": value})
    with pytest.raises(DataError, match="none of the values of the fit"):
        ratings.predict(frame, "a")
    spread = ratings.log_density_of(torch.tensor([[0.0, value]]))
    assert bool(spread.isfinite().all())  # the density of dequantised values


def test_predictions_have_a_probability_for_every_value(ratings, labels):
    found = ratings.predict(torch.tensor([[0.2, math.nan], [1.4, 5.0], [0.0, 4.0]]), "stars")
    assert found.values.tolist() == [1.0, 2.0, 3.0, 5.0]
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(3).double(), rtol=1e-14, atol=0)
    torch.testing.assert_close(found.mean, found.probabilities @ found.values)
    assert set(found.quantiles.flatten().tolist()) <= {1.0, 2.0, 3.0, 5.0}
    reached = (found.probabilities * (found.values <= found.quantiles[:, 2:3])).sum(1)
    assert bool((reached >= 0.5).all())
    assert bool(found.log_density[0].isnan())
    assert found.log_density[1] == found.probabilities[1, 3].log()
    assert found.log_density[2] == -math.inf
    by_label = labels[1].predict(torch.tensor([[math.nan, 1.0, 2.0]]), "c")
    assert by_label.probabilities.shape == (1, 3)
    assert float(by_label.probabilities.min()) > 0


def test_imputations_stay_on_the_support(ratings):
    rows = torch.tensor([[0.3, math.nan], [math.nan, 2.0], [math.nan, math.nan]])
    found = ratings.impute(rows, num_samples=12, seed=0)
    assert set(found.rows[..., 1].flatten().tolist()) <= {1.0, 2.0, 3.0, 5.0}
    assert bool((found.rows[:, 0, 0] == rows[0, 0]).all())


def test_independent_columns_have_the_smoothed_frequencies(labels):
    """The log density of independent discrete columns of width 1 is the log of the smoothed shares, without noise."""
    data, density = labels
    expected = torch.zeros(len(data.validation), dtype=torch.float64)
    for index, column in enumerate(data.columns):
        values = torch.tensor(column.values, dtype=torch.float64)
        counts = (data.train[:, index, None] == values).sum(0).double() + 0.5
        expected += (counts / counts.sum()).log()[(data.validation[:, index, None] == values).double().argmax(1)]
    assert density.baselines.independent == pytest.approx(float(expected.mean()), rel=1e-12)


def test_a_saved_fit_keeps_its_support(ratings, tmp_path):
    ratings.save(tmp_path / "run")
    again = drl.Density.load(tmp_path / "run")
    assert again.columns == ratings.columns
    rows = torch.tensor([[0.1, 5.0], [0.1, 4.0], [0.1, 1.4]])
    assert torch.equal(again.log_prob(rows), ratings.log_prob(rows))
    assert torch.equal(again.sample(40, seed=3), ratings.sample(40, seed=3))


def test_one_yes_or_no_column_fits():
    data = drl.load_dataset((RNG.random((600, 1)) < 0.4).astype(float), seed=0)
    density = drl.fit(data, settings=SMALL, seed=0, progress=False)
    assert set(density.sample(50, seed=0).flatten().tolist()) == {0.0, 1.0}
    assert float(density.log_prob(torch.full((1, 1), 2.0))) == -math.inf


def test_a_fit_does_not_depend_on_the_unit():
    x = np.random.default_rng(0).exponential(size=200)
    fits = {}
    for unit in (1.0, 1e-12, 1e12):
        data = drl.load_dataset(unit * x[:, None], seed=0, columns={"x0": {"lower": 0.0}})
        fits[unit] = drl.fit(data, settings=SMALL, seed=0, progress=False)
    rows = torch.tensor([[0.01], [0.7], [3.0], [-0.1]], dtype=torch.float64)
    plain = fits.pop(1.0)
    for unit, scaled in fits.items():
        assert (scaled.columns[0].kind, scaled.columns[0].lower) == (plain.columns[0].kind, 0.0)
        found = scaled.log_prob(unit * rows) + math.log(unit)
        torch.testing.assert_close(found, plain.log_prob(rows), rtol=1e-6, atol=1e-6)
        draws = scaled.sample(50, seed=0)
        torch.testing.assert_close(draws / unit, plain.sample(50, seed=0), rtol=1e-5, atol=0)
        assert float(draws.min()) >= 0


@pytest.mark.filterwarnings("ignore:column 'x0'. 128 rows:drl_density.errors.DataWarning")
def test_amounts_of_which_many_are_zero_make_no_spike_and_no_draw_below_zero():
    x = np.where(np.arange(400) < 128, 0.0, np.random.default_rng(0).lognormal(size=400))
    with pytest.warns(DataWarning, match="128 of 400 values are exactly 0 and none is below"):
        data = drl.load_dataset(x[:, None], seed=0)
    density = drl.fit(data, settings=SMALL, seed=0, progress=False)
    at_zero = float(density.log_prob(torch.zeros(1, 1)))
    assert 0 < at_zero < math.log(1.0 / data.columns[0].width)  # no more than all rows in one cell
    draws = density.sample(300, seed=0)
    assert float(draws.min()) == 0.0
    assert 0.15 < float((draws == 0).double().mean()) < 0.45
