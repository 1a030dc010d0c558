"""Histograms of closed supports: shares, edges, gaps and round trips."""

import math

import pytest
import torch

from drl_density.testing import seeded_generator
from drl_density.transforms import Histogram, fit_histogram

VALUES = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
UNEVEN = Histogram(VALUES, 1.0, torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log())


def test_the_distribution_function_is_linear_inside_every_cell():
    x = torch.tensor([0.75, 1.5, 2.25, 4.5, 5.25], dtype=torch.float64)
    y, slope = UNEVEN.to_logit(x)
    cumulative = torch.tensor([0.05, 0.2, 0.575, 0.7, 0.925], dtype=torch.float64)
    torch.testing.assert_close(torch.sigmoid(y), cumulative, rtol=1e-14, atol=0)
    density = slope.exp() * torch.sigmoid(y) * torch.sigmoid(-y)
    torch.testing.assert_close(density, torch.tensor([0.2, 0.5, 0.5, 0.3, 0.3]).double(), rtol=1e-7, atol=0)


def test_round_trips_are_exact_at_the_edges_of_cells():
    inside = torch.tensor([1e-12, 0.25, 0.5, 1 - 1e-12], dtype=torch.float64)
    x = torch.cat([(VALUES[:, None] - 0.5 + inside).flatten(), torch.tensor([1.5, 4.5]).double()])
    torch.testing.assert_close(UNEVEN.from_logit(UNEVEN.to_logit(x)[0]), x, rtol=1e-15, atol=0)


def test_both_tails_keep_their_accuracy():
    rare = Histogram(torch.tensor([0.0, 1.0]).double(), 1.0, torch.tensor([-700.0, 0.0]).double())
    x = torch.tensor([-0.25], dtype=torch.float64)
    y, _ = rare.to_logit(x)
    assert abs(float(y) - (-700 + math.log(0.25))) < 1e-9
    torch.testing.assert_close(rare.from_logit(y), x, rtol=1e-12, atol=0)
    mirrored = Histogram(torch.tensor([0.0, 1.0]).double(), 1.0, torch.tensor([0.0, -700.0]).double())
    torch.testing.assert_close(mirrored.to_logit(1 - x)[0], -y, rtol=1e-14, atol=0)


def test_values_never_leave_the_cells():
    thresholds = torch.logit(torch.tensor([0.2, 0.7], dtype=torch.float64))
    y = torch.cat([torch.linspace(-800, 800, 4001, dtype=torch.float64), thresholds, thresholds - 1e-16])
    x = UNEVEN.from_logit(y)
    assert bool(UNEVEN.contains(x).all())
    assert set((x + 0.5).floor().tolist()) == {1.0, 2.0, 5.0}


def test_gaps_and_the_outside_belong_to_no_cell():
    x = torch.tensor([0.5, 2.5, 3.5, 4.4999, 5.5, -9.0, math.nan], dtype=torch.float64)
    assert not bool(UNEVEN.contains(x).any())
    assert bool(UNEVEN.to_logit(x)[0].isnan().all())
    assert bool(UNEVEN.contains(torch.tensor([0.5001, 1.5, 2.4999, 4.5, 5.4999])).all())


def test_decimals_that_are_not_exact_in_binary_leave_no_gaps():
    tenths = torch.arange(1, 10, dtype=torch.float64) / 10
    histogram = Histogram(tenths, 0.1, torch.full((9,), 1 / 9, dtype=torch.float64).log())
    edges = torch.arange(2, 10, dtype=torch.float64) / 10 - 0.05
    assert bool(histogram.contains(edges).all())
    torch.testing.assert_close(histogram.from_logit(histogram.to_logit(edges)[0]), edges, rtol=1e-15, atol=0)


def test_shares_are_smoothed_counts_of_weighted_rows():
    x = torch.tensor([1.0, 1.3, 2.0, 2.0], dtype=torch.float64)
    found = fit_histogram(x, VALUES, 1.0)
    torch.testing.assert_close(found.log_shares.exp(), torch.tensor([2.5, 2.5, 0.5]).double() / 5.5)
    weighted = fit_histogram(x, VALUES, 1.0, weights=torch.tensor([2.0, 2.0, 6.0, 6.0]))
    torch.testing.assert_close(weighted.log_shares.exp(), torch.tensor([1.5, 3.5, 0.5]).double() / 5.5)


@pytest.mark.parametrize("factor", [3.0, -3.0])
def test_an_affine_map_moves_the_cells(factor):
    moved = UNEVEN.rescaled(1.0, factor)
    x = torch.linspace(0, 6, 601, dtype=torch.float64) + 1e-4
    assert torch.equal(moved.contains(1.0 + factor * x), UNEVEN.contains(x))
    assert moved.values.diff().min() == 3.0


def test_densities_integrate_to_one_over_all_cells():
    x = torch.linspace(0.5, 5.5, 50_001, dtype=torch.float64)[:-1] + 5e-5
    y, slope = UNEVEN.to_logit(x[UNEVEN.contains(x)])
    density = (slope + torch.nn.functional.logsigmoid(y) + torch.nn.functional.logsigmoid(-y)).exp()
    assert abs(float(density.sum() * 1e-4) - 1.0) < 1e-9
    draws = UNEVEN.from_logit(torch.logit(torch.rand(20_000, generator=seeded_generator(0), dtype=torch.float64)))
    shares = torch.stack([(draws.round() == value).double().mean() for value in VALUES])
    assert bool(((shares - torch.tensor([0.2, 0.5, 0.3])).abs() < 5.2 * 0.5 / 20_000**0.5).all())
