"""Fits of all marginals: closed supports beside open ones, missing values, units and bad input."""

import numpy as np
import pytest
import torch

from drl_density.errors import DataError
from drl_density.testing import seeded_generator
from drl_density.transforms import fit_marginal_gaussianization
from tests.transforms.cases import INF, MIXED, mixed_rows, rows


def test_heavy_tails_are_noticed():
    heavy = rows(4000)[:, 1:2]
    transform = fit_marginal_gaussianization(heavy)
    assert "asinh" in transform.describe()[0]
    assert float(transform.marginal_log_density(torch.tensor([[1000.0]]).double())) > -40


def test_fits_are_deterministic():
    first, second = (fit_marginal_gaussianization(rows(200))(rows()) for _ in range(2))
    assert np.array_equal(first.numpy(), second.numpy())


def test_a_closed_support_gets_its_smoothed_shares_and_leaves_the_other_columns_as_they_are():
    x = mixed_rows()
    transform = fit_marginal_gaussianization(x, **MIXED)
    counts = torch.stack([(x[:, 1].round() == value).sum() for value in (1.0, 2.0, 5.0)]).double()
    at_values = torch.tensor([[0.0, value, 0.0, 0.5] for value in (1.0, 2.0, 5.0)]).double()
    expected = ((counts + 0.5) / (len(x) + 1.5)).log()
    torch.testing.assert_close(transform.marginal_log_density(at_values)[:, 1], expected, rtol=1e-12, atol=1e-12)
    assert transform.describe()[1] == "column 1: histogram of 3 values"
    free = torch.tensor([0, 2, 3])
    alone = fit_marginal_gaussianization(x[:, free], lower=MIXED["lower"][free], upper=MIXED["upper"][free])
    assert torch.equal(transform(x)[:, free], alone(x[:, free]))


def test_a_rare_value_is_counted_among_rows_that_mixtures_do_not_see():
    x = torch.zeros(12_000, 1, dtype=torch.float64)
    x[-3:] = 1.0
    transform = fit_marginal_gaussianization(x, widths=torch.ones(1), supports=[(0.0, 1.0)])
    share = float(transform.marginal_log_density(torch.ones(1, 1).double()).exp())
    assert share == pytest.approx(3.5 / 12_001, rel=1e-12)


def test_columns_with_missing_values_are_fitted_to_what_they_have():
    x = mixed_rows()
    holed = x.clone()
    holed[::7, 1:3] = torch.nan
    fitted = fit_marginal_gaussianization(holed, **MIXED)
    kept = holed[:, 1].isfinite()
    for column in range(4):
        one, seen = slice(column, column + 1), kept if column in (1, 2) else slice(None)
        alone = fit_marginal_gaussianization(
            x[seen, one],
            widths=MIXED["widths"][one],
            supports=MIXED["supports"][one],
            lower=MIXED["lower"][one],
            upper=MIXED["upper"][one],
        )
        torch.testing.assert_close(fitted(x)[:, one], alone(x[:, one]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_fits_follow_the_unit(unit):
    x = torch.randn(300, 1, generator=seeded_generator(4), dtype=torch.float64).exp()
    options = {"lower": torch.zeros(1).double(), "is_positive": torch.ones(1, dtype=torch.bool)}
    plain, scaled = (fit_marginal_gaussianization(factor * x, **options) for factor in (1.0, unit))
    torch.testing.assert_close(scaled(unit * x), plain(x), rtol=1e-9, atol=1e-9)


BAD = [
    (lambda: fit_marginal_gaussianization(torch.ones(9, 1)), "is constant"),
    (
        lambda: fit_marginal_gaussianization(rows(), lower=torch.tensor([5.0, -INF, -INF, -INF])),
        "widen the bounds",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[row[1] for row in BAD])
def test_bad_input(call, message):
    with pytest.raises(DataError, match=message):
        call()
