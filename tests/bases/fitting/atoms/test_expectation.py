"""Expectation maximisation of spike-and-slab mixtures: one component in closed form, two that are found, smoothing."""

import pytest
import torch

from drl_density.bases.atoms import AtomCells
from drl_density.bases.fitting.atoms import AtomRows, fit_atom_batch
from drl_density.bases.fitting.atoms.expectation import LEAST_ATOM, LEAST_SLAB, LEAST_VARIANCE
from drl_density.testing import seeded_generator


def cells():
    return AtomCells(torch.tensor([0, 1]), torch.tensor([[0.0, 0.1], [0.5, 0.6]], dtype=torch.float64), 2)


def rows_of_two_kinds():
    """A hundred rows in both cells, and a hundred around (2, -2)."""
    generator = seeded_generator(0)
    in_cells = torch.tensor([0.0, 0.5]) + 0.1 * torch.rand(100, 2, generator=generator)
    return torch.cat([in_cells, torch.tensor([2.0, -2.0]) + 0.3 * torch.randn(100, 2, generator=generator)]).double()


def test_one_component_has_the_smoothed_shares_and_moments_of_its_rows():
    u, weights = rows_of_two_kinds(), torch.ones(1, 200)
    weights[0, :50] = 3.0
    rows, smoothing = AtomRows.of(u, cells()), 0.7
    batch = fit_atom_batch(rows, weights, 1, smoothing=smoothing)
    assert batch.log_weights.tolist() == [[0.0]]
    # 200 weights in cells and 100 outside, smoothed towards the unweighted halves of the prior.
    prior = torch.tensor([0.5 + LEAST_ATOM, 0.5 + LEAST_SLAB])
    truth = torch.tensor([200.0, 100.0], dtype=torch.float64) + smoothing * prior
    torch.testing.assert_close(batch.log_shares[0, 0, ::2].exp(), truth / (300 + smoothing), rtol=1e-6, atol=0)
    # The slab has the moments of the rows outside the cells, which are those of the prior as well.
    torch.testing.assert_close(batch.means[0, 0], u[100:].mean(0), rtol=1e-9, atol=0)
    torch.testing.assert_close(batch.variances[0, 0], u[100:].var(0, correction=0) + LEAST_VARIANCE, rtol=1e-9, atol=0)


def test_rows_that_lie_in_cells_together_become_a_component():
    rows = AtomRows.of(rows_of_two_kinds(), cells())
    batch = fit_atom_batch(rows, torch.ones(4, 200), 8, smoothing=0.1, generator=seeded_generator(1))
    shares = batch.log_shares[..., :2].exp()
    assert bool(((shares > 0.9) | (shares < 0.1)).all())
    in_cells = (batch.log_weights.exp() * shares[..., 0]).sum(1)
    both = (batch.log_weights.exp() * shares.prod(-1)).sum(1)
    # Smoothing by a tenth of a row in each of eight components moves 0.4 of 200 rows at most.
    torch.testing.assert_close(in_cells, torch.full_like(in_cells, 0.5), rtol=0, atol=4e-3)
    torch.testing.assert_close(both, in_cells, rtol=0, atol=4e-3)


def test_more_iterations_do_not_lower_the_likelihood_of_cells():
    """Without values outside the cells, and without smoothing to speak of, the iterations are exact."""
    generator = seeded_generator(2)
    is_first = torch.rand(300, 2, generator=generator) < torch.where(torch.arange(300)[:, None] < 150, 0.8, 0.3)
    u = torch.where(is_first, -1.0, 1.0).double()
    half = torch.tensor([[-torch.inf, 0.0], [0.0, torch.inf]], dtype=torch.float64)
    rows = AtomRows.of(u, AtomCells(torch.tensor([0, 0, 1, 1]), half.repeat(2, 1), 2))
    scores = []
    for number in range(1, 8):
        batch = fit_atom_batch(
            rows, torch.ones(1, 300), 2, smoothing=1e-9, num_iterations=number, tolerance=0.0, generator=seeded_generator(3)
        )
        scores.append(float(batch.log_prob(rows).mean()))
    assert all(later >= earlier - 1e-9 for earlier, later in zip(scores, scores[1:], strict=False))
    assert scores[-1] > scores[0]


def test_a_value_that_no_fitted_row_has_keeps_a_probability():
    """A fold can hold all rows of one value; without a probability they would have density zero there."""
    rows = AtomRows.of(rows_of_two_kinds()[100:], cells())
    batch = fit_atom_batch(rows, torch.ones(1, 100), 2, smoothing=0.1, generator=seeded_generator(4))
    assert bool(batch.log_prob(rows.scored(rows_of_two_kinds()[:5])).isfinite().all())


def test_too_few_rows_are_refused():
    rows = AtomRows.of(rows_of_two_kinds(), cells())
    weights = torch.zeros(1, 200).index_fill(1, torch.arange(3), 1.0)
    with pytest.raises(ValueError, match="at least 4 rows of positive weight"):
        fit_atom_batch(rows, weights, 4, smoothing=1.0)
