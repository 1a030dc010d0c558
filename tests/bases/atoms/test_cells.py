"""Cells: masses and quantiles of truncated normals, bins, gaps, and what a row says about them."""

import math

import pytest
import torch

from drl_density.bases.atoms import AtomCells
from drl_density.bases.atoms.cells import inside_normal, log_normal_mass


def float64(*values):
    return torch.tensor(values, dtype=torch.float64)


def cells():
    columns = torch.tensor([0, 0, 2])
    edges = float64([-0.5, 0.0, 0.2], [0.2, 0.5, 1.0], [-torch.inf, 0.0, torch.inf])
    return AtomCells(columns, edges, 3)


def test_masses_of_intervals_keep_their_digits_in_both_tails():
    lower, upper = float64(-1.0, 30.0, -31.0, 5.0, -torch.inf, 2.0), float64(1.0, 31.0, -30.0, 5.0 + 1e-9, torch.inf, 2.0)
    found = log_normal_mass(lower, upper)
    assert float(found[0].exp()) == pytest.approx(math.erf(1 / math.sqrt(2)), rel=1e-14)
    # Phi(-30) is exp(-454.3212439563...); Phi(-31) is below it by a factor of 1e-14.
    assert found[1:3].tolist() == pytest.approx([-454.3212439563] * 2, abs=1e-9)
    # A narrow interval has its width times the density. log_ndtr is near -15 there, so its rounding is 2e-15 of 5e-9.
    assert float(found[3]) == pytest.approx(math.log(1e-9) - 12.5 - 0.5 * math.log(2 * math.pi), abs=1e-5)
    assert found[4:].tolist() == [0.0, -math.inf]


def test_quantiles_invert_the_share_below_them_in_both_tails():
    lower, upper = float64(-1.0, 5.0, -7.0, -torch.inf, 1.0), float64(2.0, 6.0, -6.5, torch.inf, torch.inf)
    share = float64(0.3, 0.5, 0.9, 0.2, 0.999)
    found = inside_normal(lower, upper, share)
    again = (log_normal_mass(lower, found) - log_normal_mass(lower, upper)).exp()
    # torch's quantile is accurate to 1e-8 in the tail, where the share changes as 7 times as fast.
    torch.testing.assert_close(again, share, rtol=1e-6, atol=0)


def test_cells_out_of_order_or_overlapping_are_refused():
    good = float64([0.0, 1.0], [1.0, 2.0])
    AtomCells(torch.tensor([0, 0]), good, 1)
    for columns, edges in (([1, 0], good), ([0, 0], good.flip(0)), ([0, 0], good - float64([0.0, 0.0], [0.1, 0.0]))):
        with pytest.raises(ValueError, match="ascending"):
            AtomCells(torch.tensor(columns), edges, 2)
    AtomCells(torch.tensor([0, 1]), good.flip(0), 2)  # cells of different columns have no order
    with pytest.raises(ValueError, match="two ends for each cell"):
        AtomCells(torch.tensor([0]), good, 1)


def test_gaps_are_the_rest_of_each_line():
    where, lower, upper = cells().gaps
    found = list(zip(where.tolist(), lower.tolist(), upper.tolist(), strict=True))
    assert found == [(0, -math.inf, -0.5), (0, 1.0, math.inf), (1, -math.inf, math.inf)]
    assert cells().has_gap.tolist() == [True, True, False]


def test_gap_masses_are_what_the_cells_leave():
    means, spreads = float64([0.1, 0.0, 0.0], [-3.0, 0.0, 5.0]), float64([0.7, 1.0, 1.0], [0.5, 1.0, 2.0])
    law = torch.distributions.Normal(means[:, 0], spreads[:, 0])
    truth = (1 - (law.cdf(float64(1.0)) - law.cdf(float64(-0.5)))).log()
    found = cells().log_gap_mass(means, spreads)
    torch.testing.assert_close(found[:, 0], truth, rtol=0, atol=1e-12)
    assert found[:, 1:].tolist() == [[0.0, 0.0]] * 2


def test_features_count_each_coordinate_once():
    u = float64([0.1, 2.0, -1.0], [0.2, -3.0, 4.0], [7.0, 1.0, 0.0])
    features, shared = cells().features(u)
    hits, free, values, squares = features.split([3, 3, 3, 3], 1)
    assert hits.tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 1]]  # a cell begins at its lower end and ends before its upper one
    assert free.tolist() == [[0, 1, 0], [0, 1, 0], [1, 1, 0]]
    assert values.tolist() == [[0, 2, 0], [0, -3, 0], [7, 1, 0]]
    torch.testing.assert_close(squares, values.square())
    normal = torch.distributions.Normal(float64(0.0), float64(1.0))
    # Bins of [-0.5, 0, 0.2), [0.2, 0.5, 1.0) and the half lines, of probability a half each.
    bins = [[(0.0, 0.2), (-torch.inf, 0.0)], [(0.2, 0.5), (0.0, torch.inf)], [(0.0, torch.inf)]]
    for row, (values_in, own) in enumerate(zip([(0.1, -1.0), (0.2, 4.0), (0.0,)], bins, strict=True)):
        truth = sum(
            normal.log_prob(float64(value)) - (normal.cdf(float64(b)) - normal.cdf(float64(a))).log() - math.log(2)
            for value, (a, b) in zip(values_in, own, strict=True)
        )
        assert float(shared[row]) == pytest.approx(float(truth), abs=1e-12)


def test_missing_coordinates_do_not_count():
    u = float64([0.1, torch.nan, -1.0])
    features, shared = cells().features(u, torch.tensor([[False, True, True]]))
    assert features.nonzero()[:, 1].tolist() == [0]
    assert bool(shared.isfinite().all())
