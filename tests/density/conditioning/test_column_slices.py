"""Slices of one column: their ends, the refined grid, and mixtures of contexts."""

import math

import pytest
import torch

from drl_density.density.conditioning.column_slices import DEPTH, TOLERANCE, ColumnSlices, Contexts
from drl_density.errors import NumericalError
from tests.density.closed_form import closed_form_density, conditional

ROW = torch.tensor([[0.5, 0.3, 0.8]], dtype=torch.float64)


def slices_through(density, places, *, are_draws=False):
    count = places.shape[1]
    weights, effective = torch.zeros(len(places), count).double(), torch.full((len(places),), float(count)).double()
    return ColumnSlices(density, 0, Contexts(density.to_model(places), weights, are_draws, effective), (0.5,))


def test_a_slice_ends_where_it_has_fallen_off():
    density = closed_form_density()
    slices = slices_through(density, ROW[:, None])
    low, high = slices._ends()
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    values = slices._log_slice(grid[None])[0, 0]
    inside = grid[values > values.max() - DEPTH]
    step = 16 / 256  # of the grid that finds the ends
    assert float(inside[0]) - 2 * step <= float(low) <= float(inside[0])
    assert float(inside[-1]) <= float(high) <= float(inside[-1]) + 2 * step
    assert float(slices._refined(low, high)[2].max()) < TOLERANCE


def test_contexts_that_are_draws_count_equally_and_others_by_their_mass():
    """Two contexts: the mean of their conditionals, or the conditionals weighted by their densities."""
    density = closed_form_density()
    other = torch.tensor([[0.5, 1.0, 1.6]], dtype=torch.float64)
    places, mask = torch.stack([ROW, other], 1), torch.tensor([True, False, False])
    laws = [conditional(row, mask) for row in (ROW[0], other[0])]
    logs = torch.stack([law.log_prob(ROW[0, :1]) for _, law in laws])
    evidence = torch.tensor([value for value, _ in laws], dtype=torch.float64)
    wanted = {
        True: float(logs.logsumexp(0)) - math.log(2),
        False: float((logs + evidence.log_softmax(0)).logsumexp(0)),
    }
    for are_draws, truth in wanted.items():
        found = slices_through(density, places, are_draws=are_draws).quantities(ROW[:, 0])
        assert float(found.log_density) == pytest.approx(truth, abs=float(found.quadrature_error) + 1e-6)


def test_a_slice_that_does_not_fall_off_is_an_error():
    density = closed_form_density()
    slices = slices_through(density, ROW[:, None])
    object.__setattr__(slices, "_log_slice", lambda points: torch.zeros(1, 1, points.shape[1], dtype=torch.float64))
    with pytest.raises(NumericalError, match="'x0' does not fall off within 128 standard deviations"):
        slices._ends()
