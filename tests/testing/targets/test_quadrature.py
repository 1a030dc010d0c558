"""Rules on panels, against integrals in closed form."""

import math

import pytest
import torch

from drl_density.testing.targets.quadrature import log_half_cauchy, log_integral, log_normal_density, rule


def test_a_rule_is_exact_for_polynomials_on_every_panel():
    grid = rule(-1.0, 2.0, 3)
    assert float((grid.points.pow(8) * grid.log_weights.exp()).sum()) == pytest.approx((2**9 + 1) / 9, rel=1e-12)
    assert bool((grid.points > -1).all())
    assert bool((grid.points < 2).all())


def test_integrals_of_several_coordinates_with_bounds_of_their_own():
    found = log_integral(lambda x: x[:, 0] - 2 * x[:, 1], [(0.0, 1.0), (0.0, 40.0)], 20)
    assert found == pytest.approx(math.log(math.e - 1) - math.log(2), abs=1e-10)


def test_minus_infinity_counts_as_no_mass():
    found = log_integral(lambda x: torch.where(x[:, 0] > 0, 0.0, -math.inf).double(), [(-1.0, 1.0)], 4)
    assert found == pytest.approx(0, abs=1e-12)


def test_densities_of_priors():
    x = torch.linspace(-3, 3, 7).double()
    normal = torch.distributions.Normal(torch.zeros(()).double(), 2.0)
    assert torch.allclose(log_normal_density(x, 4.0), normal.log_prob(x))
    half_cauchy = torch.distributions.HalfCauchy(torch.tensor(5.0).double())
    assert torch.allclose(log_half_cauchy(x, 5.0), half_cauchy.log_prob(x.exp()) + x)
    assert float(log_half_cauchy(torch.tensor(400.0).double(), 5.0)) == pytest.approx(math.log(10 / math.pi) - 400)
