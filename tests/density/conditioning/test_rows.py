"""Conditional draws of whole rows: values far outside the data, and out of bounds."""

import math
import warnings

import pytest
import torch

from drl_density.density.conditioning import rows as conditional_rows
from drl_density.errors import DataError, DataWarning
from drl_density.inverse_problems import ConditionalSettings
from tests.density.closed_form import closed_form_density

FEW = ConditionalSettings(num_particles=8, num_final_steps=8, steps_per_level=1)
# Weighted particles are unbiased in the weights, not in self-normalised means: their bias of order one over the number of
# particles is far below the standard error, as independent rows of 512 particles and 400 draws each are averaged. The rows'
# estimates spread by 4 to 6 % of the truth (means, variances, mode weights) and 3 % (densities), so that 5 % is at least
# 7 standard errors of 80 rows; power 80 % at the suite's limit of 5.2 needs 6.04.
SETTINGS = ConditionalSettings(num_particles=256, steps_per_level=12, num_transitions=1, num_final_steps=8)


@pytest.fixture(scope="module")
def density():
    return closed_form_density()


def test_observations_far_outside_the_data_are_told(density):
    row = torch.tensor([[math.nan, 300.0, 0.0]])
    with pytest.warns(DataWarning, match="300 in row 0, column 'x1'.*extrapolation"):
        density.impute(row, num_samples=2, settings=ConditionalSettings(num_particles=8, num_final_steps=8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        density.condition({"x1": 1.3}, settings=SETTINGS).sample((2,))


def test_values_out_of_bounds_cannot_be_conditioned_on(bounded_density):
    with pytest.raises(DataError, match="outside the bounds"):
        bounded_density.condition({0: 7.0}).sample((2,))
    draws = bounded_density.condition({1: 0.2}, settings=FEW).sample((8,))
    assert bool(((draws > 0) & (draws < 1)).all())


def gaps(density, places):
    """Draws of the density with the first cell missing in some rows."""
    rows = density.pool[:9].double().clone()
    rows[places, 0] = math.nan
    return rows


def test_blocks_of_rows_take_up_the_generator_one_after_the_other(density, monkeypatch):
    """Rows of the first block do not depend on those behind, and every row gets its own figures and draws."""
    places = [1, 2, 3, 5, 6, 8]
    rows = gaps(density, places)
    monkeypatch.setattr(conditional_rows, "MOST_ROWS", 4)
    found = density.impute(rows, num_samples=3, settings=FEW, seed=0)
    first = density.impute(rows[:6], num_samples=3, settings=FEW, seed=0)
    assert torch.equal(found.rows[:, :6], first.rows)
    assert torch.equal(found.log_density[places[:4]], first.log_density[places[:4]])
    assert found.log_density.isfinite().nonzero().flatten().tolist() == places
    assert torch.equal(found.rows[:, ~rows.isnan()], rows[~rows.isnan()].expand(3, -1))
    assert all(len(found.rows[:, place, 0].unique()) == 3 for place in places)
    whole = torch.cat(
        [density.impute(part, num_samples=3, settings=FEW, seed=0).rows for part in (rows[:6], rows[6:])], 1
    )
    assert not torch.equal(found.rows[:, 6:], whole[:, 6:])


def test_predictions_and_marginals_do_not_depend_on_blocks(density, monkeypatch):
    rows = gaps(density, [])
    whole = density.predict(rows, 0)
    monkeypatch.setattr(conditional_rows, "MOST_ROWS", 2)
    found = density.predict(rows, 0)
    for name in ("mean", "quantiles", "log_density"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name), rtol=1e-12, atol=1e-12)
    marginal = density.marginal([0, 1], settings=FEW, seed=0)
    assert bool(marginal.log_prob(rows[:, :2]).isfinite().all())


@pytest.mark.parametrize("question", ["impute", "predict"])
def test_a_value_out_of_bounds_is_named_by_its_row_before_any_draw(bounded_density, question, monkeypatch):
    """Behind complete rows and in a later block: the row's number is that of the table."""
    rows = torch.full((9, 2), 0.5, dtype=torch.float64)
    rows[[2, 4, 6, 8], 1] = math.nan
    rows[8, 0] = 7.0
    monkeypatch.setattr(conditional_rows, "MOST_ROWS", 2)
    monkeypatch.setattr(conditional_rows, "sample_conditional", lambda *_, **__: pytest.fail("drew before the check"))
    arguments = (rows, 1) if question == "predict" else (rows,)
    with pytest.raises(DataError, match=r"row 8: 7 of column 'x0' lies outside"):
        getattr(bounded_density, question)(*arguments)
