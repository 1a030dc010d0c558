"""Marginals against quadrature."""

import torch

from tests.density.conditioning.slices import log_mass, slice_of


def test_marginal_integrates_the_rest_out(tiny_density):
    x = torch.tensor([[0.3], [-0.8]])
    value, error = tiny_density.marginal(["x1"], seed=0).log_prob_and_error(x)
    for row in range(2):
        exact = log_mass(slice_of(tiny_density, float(x[row, 0])))
        assert abs(float(value[row]) - exact) < 5 * float(error[row]) + 0.02
    assert torch.equal(tiny_density.marginal([-1], seed=0).log_prob(x), value)
