"""Histograms of many columns on one grid: shares, tails, smoothing and refusals."""

import math

import pytest
import torch

from drl_density.errors import DataError
from drl_density.testing import seeded_generator
from drl_density.transforms import GridHistograms, Histogram, fit_grid_histograms
from drl_density.transforms.gaussianize import log_probability_to_normal
from drl_density.transforms.grid_histograms import EVEN_ROWS, GridMarginals

SHARES = torch.tensor([[0.2, 0.5, 0.3], [1e-9, 1 - 2e-9, 1e-9]], dtype=torch.float64).log()
LAW = GridMarginals(10.0, 2.0, SHARES)


def test_every_column_is_the_histogram_of_its_own():
    x = torch.tensor([[9.5, 10.0], [11.0, 12.3], [12.9, 13.0], [14.9, 14.0]], dtype=torch.float64)
    u, slopes = GridHistograms(LAW).with_column_log_jacobian(x)
    for index in range(2):
        alone = Histogram(torch.tensor([10.0, 12.0, 14.0]).double(), 2.0, SHARES[index])
        y, slope = alone.to_logit(x[:, index])
        below, above = torch.nn.functional.logsigmoid(y), torch.nn.functional.logsigmoid(-y)
        expected = log_probability_to_normal(below, above)
        torch.testing.assert_close(u[:, index], expected, rtol=1e-9, atol=1e-12)
        log_density = slope + below + above
        torch.testing.assert_close(
            slopes[:, index], log_density + 0.5 * expected**2 + 0.5 * math.log(2 * math.pi), rtol=1e-9, atol=1e-9
        )


def test_both_tails_keep_their_accuracy():
    inside = torch.tensor([1e-14, 1e-6, 0.5], dtype=torch.float64)
    low, high = 9 + 2 * inside, 15 - 2 * inside
    u = GridHistograms(LAW)(torch.stack([low, low], 1))
    exact = torch.special.ndtri(SHARES[:, 0].exp() * ((low[:, None] - 9) / 2))
    torch.testing.assert_close(u, exact, rtol=1e-12, atol=0)
    mirrored = GridHistograms(LAW)(torch.stack([high, high], 1))
    exact = -torch.special.ndtri(SHARES[:, 2].exp() * ((15 - high[:, None]) / 2))
    torch.testing.assert_close(mirrored, exact, rtol=1e-12, atol=0)


def test_quantiles_of_any_score_lie_inside_the_grid():
    u = torch.linspace(-40, 40, 1001, dtype=torch.float64)[:, None].expand(-1, 2)
    transform = GridHistograms(LAW)
    x = transform.inv(u)
    assert bool(transform.bounds.contains(x).all())
    assert bool((x.diff(dim=0) >= 0).all())
    middle = u.abs() < 5
    torch.testing.assert_close(transform(x)[middle], u[middle], rtol=1e-6, atol=1e-6)


def test_shares_are_those_of_many_rows():
    generator = seeded_generator(0)
    shares = torch.tensor([0.7, 0.05, 0.05, 0.2], dtype=torch.float64)
    x = torch.multinomial(shares, 20_000, replacement=True, generator=generator)[:, None].to(torch.uint8)
    found = fit_grid_histograms(x, first=0.0, width=1.0, num_cells=4).marginals.log_shares.exp()[0]
    error = (shares * (1 - shares) / 20_000).sqrt()
    assert bool(((found - shares).abs() < 4.5 * error + 1 / 20_000).all())


def test_smooth_counts_are_spread_and_atoms_are_not():
    """A hundred rows of a bell over 256 values leave most cells empty; an atom must keep its height."""
    generator = seeded_generator(1)
    bell = (128 + 20 * torch.randn(4000, 1, generator=generator, dtype=torch.float64)).round()
    few = fit_grid_histograms(bell[:100], first=0.0, width=1.0, num_cells=256)
    plain = torch.bincount(bell[:100, 0].long(), minlength=256) + EVEN_ROWS[2] / 256
    plain = (plain / plain.sum()).log()
    held_out = bell[100:, 0].long()
    smooth = few.marginals.log_shares[0]
    assert float(smooth[held_out].mean()) > float(plain[held_out].mean()) + 0.5
    atoms = torch.cat([torch.zeros(80, 1).double(), bell[:20]])
    found = fit_grid_histograms(atoms, first=0.0, width=1.0, num_cells=256).marginals.log_shares.exp()[0]
    assert 0.75 < float(found[0]) < 0.85
    assert float(found[1]) < 0.01


def test_a_constant_column_is_uniform_in_its_cell():
    x = torch.full((50, 1), 7, dtype=torch.uint8)
    transform = fit_grid_histograms(x, first=0.0, width=1.0, num_cells=256)
    assert float(transform.marginals.log_shares.exp()[0, 7]) > 0.99
    u = transform(7 - 0.5 + torch.tensor([[0.1], [0.5], [0.9]], dtype=torch.float64))
    expected = torch.special.ndtri(torch.tensor([[0.1], [0.5], [0.9]], dtype=torch.float64))
    torch.testing.assert_close(u, expected, rtol=0, atol=0.05)


def test_weights_count_rows():
    x = torch.tensor([[0], [0], [1], [1]])
    heavy = fit_grid_histograms(x, first=0.0, width=1.0, num_cells=2, weights=torch.tensor([0.1, 0.1, 5.0, 5.0]))
    shares = heavy.marginals.log_shares.exp()[0]
    assert float(shares[1]) > 5 * float(shares[0])


def test_bad_rows_are_refused():
    with pytest.raises(DataError, match="at least 2 rows"):
        fit_grid_histograms(torch.zeros(1, 3), first=0.0, width=1.0, num_cells=4)
    with pytest.raises(DataError, match="row 1, column 0: expected a value from 0 to 3, got 4"):
        fit_grid_histograms(torch.tensor([[0.0], [4.0]]), first=0.0, width=1.0, num_cells=4)
