"""p(y | x) of one column against closed forms."""

import dataclasses
import math

import pytest
import torch
from torch.distributions import Normal

from drl_density.datasets import Column
from drl_density.errors import DataError, DataWarning
from drl_density.inverse_problems import ConditionalSettings
from drl_density.testing import assert_z
from tests.density.closed_form import SYSTEM, closed_form_density, conditional

ROWS = torch.tensor([[0.5, 0.3, 0.8], [-1.0, 0.2, 1.5], [2.9, 0.4, -0.2]]).double()


def law_of(row, place):
    mask = torch.zeros(3, dtype=torch.bool)
    mask[place] = True
    law = conditional(row, mask)[1]
    parts = law.component_distribution
    return law, parts.mean.squeeze(-1), parts.covariance_matrix.reshape(-1).sqrt()


def test_quadrature_matches_the_closed_form():
    found = closed_form_density().predict(ROWS, "x0", quantiles=(0.1, 0.5, 0.9))
    for index, row in enumerate(ROWS):
        law, means, spreads = law_of(row, 0)
        weights = law.mixture_distribution.probs
        # The slice is cut where it has fallen by 30 nats and halving the grid moves it by less than found.quadrature_error.
        bound = float(found.quadrature_error[index]) + 1e-6
        assert abs(float(found.mean[index]) - float(law.mean)) < bound * 10
        assert abs(float(found.log_density[index]) - float(law.log_prob(row[0, None]))) < bound
        cdf = (weights[:, None] * Normal(means[:, None], spreads[:, None]).cdf(found.quantiles[index])).sum(0)
        # Linear interpolation of a cumulated grid of h: error h^2 / 8 times the largest slope, below 1e-3 here.
        torch.testing.assert_close(cdf, torch.tensor([0.1, 0.5, 0.9]).double(), rtol=0, atol=2e-3)
    assert float(found.quadrature_error.max()) < 1e-3
    assert bool((found.interval()[0] <= found.interval()[1]).all())


def test_the_value_may_be_absent_or_improbable():
    density = closed_form_density()
    rows = ROWS.clone()
    rows[0, 0], rows[1, 0] = math.nan, 40.0
    found = density.predict(rows, 0)
    assert bool(found.log_density[0].isnan())
    # Float64 far in a Gaussian tail: the logs are of order 1e3 with relative rounding 1e-12; the quadrature is the rest.
    truth = float(law_of(rows[1], 0)[0].log_prob(torch.tensor([40.0]).double()))
    assert abs(float(found.log_density[1]) - truth) < 1e-3
    again = density.predict(ROWS, 0)
    torch.testing.assert_close(found.mean[2], again.mean[2], rtol=0, atol=1e-9)


def test_probabilities_of_labels():
    """Cells of a column with three labels, by the conditional's distribution function."""
    labels = Column("x0", "categorical", 1.0, categories=("a", "b", "c"))
    rows = torch.cat([torch.tensor([[0.0], [1.0], [2.0]]).double(), ROWS[:, 1:]], 1)
    density = closed_form_density(columns=(labels, Column("x1"), Column("x2")))
    found = density.predict(rows, "x0")
    edges = torch.tensor([-0.5, 0.5, 1.5, 2.5]).double()
    for index, row in enumerate(rows):
        law, means, spreads = law_of(row, 0)
        cdf = (law.mixture_distribution.probs[:, None] * Normal(means[:, None], spreads[:, None]).cdf(edges)).sum(0)
        truth = cdf.diff() / (cdf[-1] - cdf[0])
        # Twelve Gauss nodes in a cell about one standard deviation wide are exact to 1e-9.
        torch.testing.assert_close(found.probabilities[index], truth, rtol=0, atol=1e-7)
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(3).double())
    assert bool(found.mean.isnan().all())
    assert found.log_density[0] == found.probabilities[0, 0].log()
    with pytest.raises(DataError, match="-1 is no code of a label; 0 is"):
        density.predict(torch.tensor([[-1.0, 0.0, 0.0]]), "x0")


def test_other_missing_cells_are_integrated_out():
    density = closed_form_density()
    row = torch.tensor([[4.0, 1.5, math.nan]]).double().repeat(48, 1)
    settings = ConditionalSettings(num_particles=128, steps_per_level=8, num_transitions=1, num_final_steps=8)
    found = density.predict(row, "x0", seed=1, settings=settings)
    both = torch.tensor([False, False, True])
    only = torch.tensor([True, False, True])
    truth = conditional(row[0], both)[0] - conditional(row[0], only)[0]
    assert_z(found.log_density.exp(), math.exp(truth))
    with pytest.raises(AssertionError, match="beyond"):
        assert_z(found.log_density.exp(), 1.2 * math.exp(truth))
    assert bool((found.standard_error > 0).all())


def test_a_value_far_outside_is_named_by_its_row_of_the_table():
    """Rows with further missing cells are drawn for together, apart from the others."""
    rows = torch.cat([ROWS, torch.tensor([[0.0, 300.0, math.nan]]).double()])
    settings = ConditionalSettings(num_particles=8, steps_per_level=1, num_final_steps=8)
    with pytest.warns(DataWarning, match="300 in row 3, column 'x1'"):
        closed_form_density().predict(rows, "x0", seed=0, settings=settings)


def test_whole_numbers_get_masses_and_rounded_columns_densities():
    for kind in ("integer", "rounded"):
        column = Column("x0", kind, 0.5)
        found = closed_form_density(columns=(column, Column("x1"), Column("x2"))).predict(ROWS, "x0")
        law, means, spreads = law_of(ROWS[0], 0)
        cell = Normal(means, spreads).cdf(torch.tensor(0.75).double()) - Normal(means, spreads).cdf(
            torch.tensor(0.25).double()
        )
        mass = float((law.mixture_distribution.probs * cell).sum())
        truth = math.log(mass if kind == "integer" else mass / 0.5)
        assert abs(float(found.log_density[0]) - truth) < float(found.quadrature_error[0]) + 1e-6
        assert bool(((found.quantiles / 0.5).round() * 0.5 == found.quantiles).all())


WRONG = {
    "column": (ROWS, "y", "columns are x0, x1, x2"),
    "shape": (ROWS[:, :2], 0, "expected rows of shape"),
    "nothing": (torch.full((1, 3), math.nan), 0, "every column but 'x0' is missing"),
    "infinite": (torch.tensor([[0.0, math.inf, 0.0]]), 0, "infinite value"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests_are_refused(name):
    rows, column, message = WRONG[name]
    with pytest.raises(DataError, match=message):
        closed_form_density(SYSTEM).predict(rows, column)


def test_a_density_of_one_column_has_nothing_to_predict_from():
    alone = dataclasses.replace(closed_form_density(), columns=(Column("x0"),), event_shape=(1,))
    with pytest.raises(DataError, match="'x0' is the only column of this density, so no other column predicts it"):
        alone.predict([[0.0]], "x0")
    with pytest.raises(DataError, match="which is its own marginal: use the density"):
        alone.marginal("x0")
