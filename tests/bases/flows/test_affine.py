"""Affine maps: slopes between their bounds, the inverse, and the identity at zero."""

import math

import pytest
import torch

from drl_density.bases.flows.affine import LEAST_SLOPE, MOST_SLOPE, affine, inverse_affine
from drl_density.testing import seeded_generator


def parameters(scale):
    return scale * torch.randn(2, 200, generator=seeded_generator(0), dtype=torch.float64)


def test_the_logarithms_are_those_of_the_slopes():
    x = torch.randn(200, generator=seeded_generator(1), dtype=torch.float64).requires_grad_()
    value, log_slope = affine(x, parameters(3.0))
    (slope,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(slope, log_slope.exp())
    torch.testing.assert_close(value - slope * x, parameters(3.0)[1])


def test_slopes_stay_between_their_bounds_and_small_parameters_are_their_logarithms():
    x = torch.zeros(200, dtype=torch.float64)
    slopes = affine(x, parameters(1e3))[1].exp()
    assert float(slopes.min()) == pytest.approx(LEAST_SLOPE)
    assert float(slopes.max()) == pytest.approx(MOST_SLOPE)
    # L tanh(r / L) = r - r^3 / (3 L^2), with the smaller L = log 10.
    small = parameters(1e-3)
    bound = float(small.abs().max() ** 3 / (3 * math.log(10) ** 2))
    torch.testing.assert_close(affine(x, small)[1], small[0], rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_inverse_returns_in_float64(dtype):
    """Parameters of a flow are float32, and its draws are inverted in float64."""
    x, raw = torch.linspace(-20, 20, 200, dtype=torch.float64), parameters(3.0).to(dtype)
    value = affine(x, raw.double())[0]
    # The bounds of float32 parameters are rounded to float32: relative errors of 1e-7 of values up to 2e4.
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(inverse_affine(value, raw), x, rtol=tolerance, atol=tolerance)


def test_zeros_are_the_identity():
    x = torch.randn(5, generator=seeded_generator(2))
    value, log_slope = affine(x, torch.zeros(2, 5))
    assert torch.equal(value, x)
    assert torch.equal(log_slope, torch.zeros(5))
