"""Spike-and-slab mixtures: densities in closed form, gradients, covered columns, states; the contract has a battery."""

import math

import pytest
import torch
from torch.distributions import Normal

from drl_density.bases import AtomMixture, base_from_state
from drl_density.testing import assert_z, seeded_generator
from tests.bases.atoms.small import small_atoms


def test_the_density_of_a_row_is_the_sum_over_components_of_products():
    """Two components, written out: a cell [0, 0.5) with one bin and a slab beside it, and a column without cells."""
    shares = torch.tensor([[0.8, 0.2, 1.0], [0.1, 0.9, 1.0]])
    means, variances = torch.tensor([[1.0, -1.0], [0.2, 2.0]]), torch.tensor([[0.5, 1.0], [2.0, 0.3]])
    weights, edges = torch.tensor([0.3, 0.7]), torch.tensor([[0.0, 0.5]])
    base = AtomMixture(weights.log(), shares.log(), means, variances, torch.tensor([0]), edges)
    x = torch.tensor([[0.25, 0.4], [0.75, -2.0]], dtype=torch.float64)
    slabs, standard = Normal(means.double(), variances.double().sqrt()), Normal(torch.zeros(()).double(), 1.0)
    ends = edges.double()[0]
    in_cell = standard.log_prob(x[0, 0]).exp() / (standard.cdf(ends[1]) - standard.cdf(ends[0]))
    first = slabs.cdf(ends[1].expand(2, 2))[:, 0] - slabs.cdf(ends[0].expand(2, 2))[:, 0]
    beside = slabs.log_prob(x[1].expand(2, 2)).exp()
    other = slabs.log_prob(x[0].expand(2, 2)).exp()[:, 1]
    truth = torch.stack(
        [
            (weights * shares[:, 0] * in_cell * other).sum(),
            (weights * shares[:, 1] * beside[:, 0] / (1 - first) * beside[:, 1]).sum(),
        ]
    )
    # Parameters are rounded to float32: relative 6e-8 each.
    torch.testing.assert_close(base.log_prob(x).exp(), truth, rtol=1e-6, atol=0)


def test_columns_whose_cells_cover_the_line_have_no_slab():
    edges = torch.tensor([[-torch.inf, 0.0], [0.0, torch.inf]])
    shares = torch.tensor([[0.3, 0.7, 5.0]]).log()  # the last one does not count
    base = AtomMixture(torch.zeros(1), shares, torch.zeros(1, 1), torch.ones(1, 1), torch.tensor([0, 0]), edges)
    x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    truth = Normal(torch.zeros(()).double(), 1.0).log_prob(x[:, 0]) + torch.tensor([0.6, 1.4], dtype=torch.float64).log()
    torch.testing.assert_close(base.log_prob(x), truth, rtol=0, atol=1e-6)
    drawn = base.sample(4000, generator=seeded_generator(0))
    assert_z((drawn[:, 0] < 0).double(), 0.3)
    assert base.covariances().tolist() == [[[1.0]]]


def test_draws_fall_into_the_cells_with_their_probabilities():
    base, drawn = small_atoms(2), small_atoms(2).sample(20_000, generator=seeded_generator(1)).double()
    shares = (base.conditional().atom_shares.exp() * base.log_weights.double().exp()[:, None]).sum(0)
    assert_z(base.cells.hits(drawn).double(), shares)


def test_gradients_are_those_of_the_log_density():
    base = small_atoms(2)
    x = torch.tensor([[0.1, 0.5], [-2.0, 0.55], [1.3, 1.5], [3.0, -1.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(base.log_prob(x).sum(), x)
    for column in range(2):
        step = torch.zeros(2, dtype=torch.float64).index_fill(0, torch.tensor(column), 1e-5)
        slope = (base.log_prob(x + step) - base.log_prob(x - step)).detach() / 2e-5
        torch.testing.assert_close(gradient[:, column], slope, rtol=1e-5, atol=1e-6)


def test_the_decay_is_bounded_by_the_covariances():
    base, far = small_atoms(2), torch.tensor([[50.0, 60.0], [-80.0, 30.0]], dtype=torch.float64)
    widest = base.covariances().double().amax(0).diagonal()
    assert bool((base.log_prob(far) < -0.5 * (far.abs() - 5).square().div(widest).sum(1)).all())


def test_equal_tensors_loaded_later_change_the_density():
    """What follows from the tensors is computed once, and again after they change."""
    base, x = small_atoms(2), torch.randn(5, 2, generator=seeded_generator(2))
    again = base_from_state(base.to_state())
    before = again.log_prob(x)
    again.load_state_dict(base.state_dict())
    assert not torch.equal(again.log_prob(x), before)
    assert torch.equal(again.log_prob(x), base.log_prob(x))
    assert base.double().sample(3).dtype == torch.float64
    torch.testing.assert_close(base.log_prob(x.double()), again.log_prob(x.double()), rtol=0, atol=1e-12)


def test_no_noised_form():
    base = small_atoms(2)
    assert not base.has_noised_form
    with pytest.raises(NotImplementedError, match="AtomMixture has no noised form"):
        base(torch.zeros(1, 2), torch.tensor(0.0))


def test_tensors_that_do_not_fit_are_refused():
    good = {
        "log_weights": torch.zeros(1),
        "log_shares": torch.zeros(1, 2),
        "means": torch.zeros(1, 1),
        "variances": torch.ones(1, 1),
        "columns": torch.tensor([0]),
        "edges": torch.tensor([[0.0, 1.0]]),
    }
    assert math.isfinite(float(AtomMixture(**good).log_prob(torch.zeros(1, 1))))
    for name, value in (("log_weights", torch.zeros(2)), ("log_shares", torch.zeros(1, 3)), ("variances", torch.ones(2, 1))):
        with pytest.raises(ValueError, match="expected 1 weights, shares of 1 cells and 1 slabs"):
            AtomMixture(**{**good, name: value})
    with pytest.raises(ValueError, match="positive variances"):
        AtomMixture(**{**good, "variances": torch.zeros(1, 1)})
