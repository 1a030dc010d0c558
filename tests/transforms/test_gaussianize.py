"""Fitted marginals as a transform: independence, deep tails, declared bounds."""

import torch

from drl_density.testing import seeded_generator
from drl_density.transforms import fit_marginal_gaussianization
from drl_density.transforms.gaussianize import log_probability_to_normal
from tests.transforms.cases import gaussian, rows


def test_independent_columns_are_a_standard_normal_in_model_space():
    x, transform = rows(), gaussian()
    u = transform(x)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(1) + transform.log_abs_det_jacobian(x, u)
    torch.testing.assert_close(normal, transform.marginal_log_density(x).sum(1), rtol=1e-9, atol=1e-9)


def test_deep_tails_stay_finite_and_invertible():
    transform = fit_marginal_gaussianization(torch.randn(500, 1, generator=seeded_generator(2)).double())
    x = torch.tensor([[-2000.0], [-60.0], [45.0], [3000.0]], dtype=torch.float64)
    u = transform(x)
    assert bool(u.isfinite().all())
    assert bool((u.flatten().diff() > 0).all())
    # Far out u^2 / 2 is the log tail itself: 1e-9 relative is ten million rounding errors.
    torch.testing.assert_close(transform.inv(u), x, rtol=1e-9, atol=0)


def test_no_mass_outside_declared_bounds():
    transform = gaussian(is_bounded=True)
    assert transform.bounds.lower.tolist()[2:] == [0.0, 0.0]
    drawn = transform.inv(8 * torch.randn(500, 4, generator=seeded_generator(3)).double())
    assert bool((drawn[:, 2] > 0).all())
    assert bool(((drawn[:, 3] >= 0) & (drawn[:, 3] <= 1)).all())


def test_the_far_tail_joins_the_near_one():
    """Phi^{-1} of exp(log_ndtr(u)) is u, on both sides of where the series takes over."""
    u = torch.linspace(-60.0, -20.0, 401, dtype=torch.float64)
    below = torch.special.log_ndtr(u)
    found = log_probability_to_normal(below, torch.log1p(-below.exp()))
    # The first term that the series leaves out is 945 / u^10, below 1e-12 at u = -34 where it starts.
    torch.testing.assert_close(found, u, rtol=1e-10, atol=0)
    torch.testing.assert_close(log_probability_to_normal(torch.log1p(-below.exp()), below), -u, rtol=1e-10, atol=0)
