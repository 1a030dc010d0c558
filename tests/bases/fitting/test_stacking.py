"""Stacking weights: closed forms, optimality, and rows that no density covers."""

import math

import pytest
import torch

from drl_density.bases.fitting import stacking_weights
from drl_density.bases.fitting.stacking import left_out_log_density
from drl_density.testing import seeded_generator


def test_densities_of_disjoint_supports_get_their_share_of_the_rows():
    values = torch.full((2, 10), -math.inf)
    values[0, :3], values[1, 3:] = -1.0, -7.0
    torch.testing.assert_close(stacking_weights(values), torch.tensor([0.3, 0.7], dtype=torch.float64))


def test_equal_densities_share_and_a_worse_one_loses_all():
    values = torch.tensor([[-1.0, -2.0], [-1.0, -2.0], [-3.0, -9.0]])
    torch.testing.assert_close(stacking_weights(values), torch.tensor([0.5, 0.5, 0.0]).double(), atol=1e-4, rtol=0)


def test_the_optimum_satisfies_its_condition():
    """At the optimum the mean of p_g / mixture is 1 where a weight is positive and at most 1 elsewhere."""
    values = 3 * torch.randn(6, 200, generator=seeded_generator(0), dtype=torch.float64)
    weights = stacking_weights(values, num_iterations=100_000, tolerance=1e-14)
    ratios = (values - (values + weights.log()[:, None]).logsumexp(0)).exp().mean(1)
    assert float(weights.sum()) == pytest.approx(1.0)
    assert float(ratios.max()) < 1 + 1e-4
    assert float((ratios[weights > 1e-3] - 1).abs().max()) < 1e-4


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_a_row_that_nothing_covers_is_refused(bad):
    with pytest.raises(ValueError, match="at least one of them above -inf for every row"):
        stacking_weights(torch.tensor([[-1.0, bad], [-2.0, bad]]))


def test_a_row_is_scored_by_the_mean_density_of_the_bags_without_it():
    values = torch.tensor([[0.2, 0.5, 0.1], [0.4, 0.5, 0.3], [0.9, 0.7, 0.8]]).log()
    found = left_out_log_density(values, torch.tensor([[True, False, True], [True, False, False], [False, False, True]]))
    torch.testing.assert_close(found.exp(), torch.tensor([0.3, math.nan, 0.45]), equal_nan=True)
