"""Fits of all marginals: closed supports beside open ones, missing values, units and bad input."""

import math

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


@pytest.mark.parametrize("count", [0, 1, 4, 7])
def test_columns_of_few_values_beside_missing_ones_are_named(count):
    x = rows(60)
    x[count:, 2] = torch.nan
    with pytest.raises(DataError, match=f"c has {count} values in the 60 rows .*, and needs 8 at least"):
        fit_marginal_gaussianization(x, names=["a", "b", "c", "d"])


PLACES = torch.tensor([-2.1, -1.7, -1.52, -0.9, -0.33, 0.0, 0.05, 0.41, 1.0, 1.03, 1.6, 2.4], dtype=torch.float64)


def half_at_places(count):
    """Half of the rows at one of twelve values, the others normal, all rounded to 0.01; before and after dequantisation."""
    generator = seeded_generator(7)
    x = (100 * torch.randn(count, 1, generator=generator, dtype=torch.float64)).round() / 100
    x[::2, 0] = PLACES[torch.randint(len(PLACES), x[::2, 0].shape, generator=generator)]
    return x, x + 0.01 * (torch.rand(x.shape, generator=generator, dtype=torch.float64) - 0.5)


def test_frequent_values_of_large_tables_become_spikes():
    """The mean log density is that of the twelve values and a normal density, in closed form; small tables get none."""
    x, noised = half_at_places(1200)
    width = torch.tensor([0.01])
    transform = fit_marginal_gaussianization(noised, widths=width, values=x)
    normal = -0.5 * math.log(2 * math.pi) - 0.5
    expected = 0.5 * (math.log(0.5 / 12) - math.log(0.01)) + 0.5 * (math.log(0.5) + normal)
    assert float(transform.marginal_log_density(noised).mean()) == pytest.approx(expected, abs=0.1)
    assert "beside 12 single values with 5" in transform.describe()[0]
    for rows_of, values in ((noised[:499], x[:499]), (noised, None)):
        plain = fit_marginal_gaussianization(rows_of, widths=width, values=values)
        assert not plain.marginals.spikes
        assert float(plain.marginal_log_density(noised).mean()) < expected - 0.3


def test_spikes_of_rows_with_missing_values_and_weights():
    """Rows without the value count neither way, and weights change the shares."""
    x, noised = half_at_places(1000)
    noised[:200, 0], weights = torch.nan, torch.where(torch.isin(x[:, 0], PLACES), 3.0, 1.0)
    for given, share in ((None, 0.5), (weights, 0.75)):
        transform = fit_marginal_gaussianization(noised, widths=torch.tensor([0.01]), values=x, weights=given)
        found = transform.marginals.spikes
        assert list(found) == [0]
        assert float(found[0].log_shares.exp().sum()) == pytest.approx(share, abs=0.05)


def test_columns_of_frequent_values_alone_and_evenly_frequent_ones():
    """Seven values of uneven spacing are spikes whose slab is next to nothing; a full grid of integers needs none."""
    generator = seeded_generator(9)
    few = torch.tensor([0.0, 0.1, 0.5, 2.0, 7.0, 7.1, 30.0]).double()[torch.randint(7, (1200,), generator=generator)]
    grid = torch.randint(200, (1200,), generator=generator).double()
    x, widths = torch.stack([few, grid], 1), torch.tensor([0.1, 1.0], dtype=torch.float64)
    noised = x + widths * (torch.rand(x.shape, generator=generator, dtype=torch.float64) - 0.5)
    transform = fit_marginal_gaussianization(noised, widths=widths, values=x)
    assert list(transform.marginals.spikes) == [0]
    mean = float(transform.marginal_log_density(noised)[:, 0].mean())
    assert mean == pytest.approx(-math.log(7) - math.log(0.1), abs=0.01)
    assert bool(transform(torch.tensor([[-50.0, 3.0], [15.0, 3.0], [900.0, 3.0]]).double()).isfinite().all())


@pytest.mark.parametrize("shares", [torch.ones(30), torch.tensor([300.0, 1.0] * 15)], ids=["even", "uneven"])
def test_a_grid_from_bound_to_bound_leaves_the_slab_a_place(shares):
    """Thirty grades between two bounds, each with twenty rows at least: all cells together would leave no gap."""
    generator = seeded_generator(11)
    x = torch.cat([torch.arange(30.0).repeat(20), torch.multinomial(shares, 3000, True, generator=generator)]).double()
    noised = x[:, None] + torch.rand(3600, 1, generator=generator, dtype=torch.float64) - 0.5
    ends = {"lower": torch.tensor([-0.5]), "upper": torch.tensor([29.5])}
    found = fit_marginal_gaussianization(noised, widths=torch.ones(1), values=x[:, None], **ends)
    assert bool(found(noised).isfinite().all())
    spikes = found.marginals.spikes
    assert [len(each.lower) for each in spikes.values()] == ([29] if float(shares[0]) > 1 else [])
