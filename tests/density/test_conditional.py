"""Conditionals, marginals and imputations of a fitted density, in data units, against quadrature of its own log_prob."""

import dataclasses
import math

import pyro
import pytest
import torch

import drl_density as drl
from drl_density.errors import DataError
from drl_density.inverse_problems import ConditionalSettings
from drl_density.transforms import whiten

GRID = torch.linspace(-8, 8, 4001, dtype=torch.float64)
STEP = float(GRID[1] - GRID[0])


def log_mass(log_density):
    return float(log_density.logsumexp(0)) + math.log(STEP)


def slice_of(density, value):
    """log p(x1 = value, x0) on the grid of x0."""
    return density.log_prob(torch.stack([GRID, torch.full_like(GRID, value)], 1))


def test_conditional_density_is_normalized(tiny_density):
    partial = tiny_density.condition({"x1": 0.3}, normalize=True, seed=0)
    assert partial.event_shape == (1,)
    assert partial.is_normalized
    values = partial.log_prob(GRID[:, None])
    assert abs(log_mass(values)) < 0.1
    exact = slice_of(tiny_density, 0.3)
    torch.testing.assert_close(values - values.max(), exact - exact.max(), rtol=0, atol=1e-4)


def test_conditional_draws_follow_their_density(tiny_density):
    partial = tiny_density.condition({1: 0.3})
    assert partial.normalization == "none"
    torch.manual_seed(0)
    draws = partial.sample((600,))
    assert draws.shape == (600, 1)
    exact = slice_of(tiny_density, 0.3)
    shares = (exact - exact.logsumexp(0)).exp()
    mean = float((shares * GRID).sum())
    spread = math.sqrt(float((shares * (GRID - mean) ** 2).sum()))
    assert abs(float(draws.mean()) - mean) < 6 * spread / math.sqrt(600)
    assert abs(float(draws.std()) / spread - 1) < 0.2
    assert float(partial.last_result.stats["r_hat"]) < 1.3


def test_conditional_in_a_pyro_model(tiny_density):
    partial = tiny_density.condition({0: 0.1}, settings=ConditionalSettings(num_particles=16))

    def model():
        with pyro.plate("rows", 3):
            return pyro.sample("x", partial)

    trace = pyro.poutine.trace(model).get_trace()
    assert trace.nodes["x"]["value"].shape == (3, 1)
    assert trace.log_prob_sum().isfinite()


def test_marginal_integrates_the_rest_out(tiny_density):
    x = torch.tensor([[0.3], [-0.8]])
    value, error = tiny_density.marginal(["x1"], seed=0).log_prob_and_error(x)
    for row in range(2):
        exact = log_mass(slice_of(tiny_density, float(x[row, 0])))
        assert abs(float(value[row]) - exact) < 5 * float(error[row]) + 0.02
    assert torch.equal(tiny_density.marginal([-1], seed=0).log_prob(x), value)


def test_imputation_keeps_what_is_observed(tiny_density, tiny_data):
    rows = tiny_data.test[:6].clone()
    rows[0, 0], rows[1, 1] = math.nan, math.nan
    rows[2] = math.nan
    found = tiny_density.impute(rows, num_samples=5, seed=0)
    assert found.rows.shape == (5, 6, 2)
    assert bool(found.rows.isfinite().all())
    assert torch.equal(found.rows[:, ~rows.isnan()], rows[~rows.isnan()].expand(5, -1))
    assert float(found.rows[:, 0, 0].std()) > 0
    assert bool(found.r_hat[:2].isfinite().all())
    assert bool(found.r_hat[2:].isnan().all())
    again = tiny_density.impute(rows, num_samples=5, seed=0)
    assert torch.equal(found.rows, again.rows)


WRONG = {
    "unknown": (lambda d: d.condition({"y": 0.0}), "columns are x0, x1"),
    "index": (lambda d: d.condition({2: 0.0}), "run from -2 to 1"),
    "nan": (lambda d: d.condition({0: math.nan}), "finite number"),
    "everything": (lambda d: d.condition({0: 0.0, 1: 0.0}), "every column is given"),
    "nothing": (lambda d: d.condition({}), "nothing is given"),
    "shape": (lambda d: d.condition(torch.zeros(3)), "with NaN where values are missing"),
    "all columns": (lambda d: d.marginal([0, 1]), "some but not all"),
    "width": (lambda d: d.marginal([0]).log_prob(torch.zeros(4, 2)), "rows of 1 columns"),
    "infinite": (lambda d: d.impute(torch.tensor([[math.inf, 0.0]])), "mark missing values with NaN"),
    "rows": (lambda d: d.impute(torch.zeros(2, 3)), "expected rows of shape"),
    "count": (lambda d: d.impute(torch.zeros(2, 2), num_samples=0), "at least 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_requests_are_refused(name, tiny_density):
    call, message = WRONG[name]
    with pytest.raises(DataError, match=message):
        call(tiny_density)


def test_transforms_that_mix_columns_are_refused(tiny_density, tiny_data):
    mixed = dataclasses.replace(tiny_density, transform=whiten(tiny_data.train))
    with pytest.raises(DataError, match="mixes columns"):
        mixed.condition({0: 0.0}).sample((2,))


@pytest.mark.parametrize("name", ["wine", "digits"])
def test_column_jacobians_add_up(name):
    from drl_density.datasets import choose_transform

    data = drl.load_dataset(name, seed=0)
    transform, dequantization = choose_transform(data)
    x = data.train[:20]
    if dequantization is not None:
        x = dequantization(x, generator=torch.Generator().manual_seed(0))
    by_column = transform.column_log_jacobian(x)
    assert by_column.shape == x.shape
    torch.testing.assert_close(by_column.sum(1), transform.log_abs_det_jacobian(x, transform(x)))


def test_values_out_of_bounds_cannot_be_conditioned_on(bounded_density):
    with pytest.raises(DataError, match="outside the bounds"):
        bounded_density.condition({0: 7.0}).sample((2,))
    draws = bounded_density.condition({1: 0.2}).sample((8,))
    assert bool(((draws > 0) & (draws < 1)).all())


@pytest.fixture(scope="module")
def bounded_density(tiny_settings):
    x = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)).double() ** 2
    data = drl.load_dataset(x, columns={"x0": {"lower": 0.0, "upper": 1.0}}, seed=0)
    return drl.fit(data, seed=0, settings=tiny_settings, progress=False)
