"""Rational-quadratic splines: values against zuko's layout by hand, slopes by automatic derivatives, inverses."""

import math

import pytest
import torch

from drl_density.bases.flows.rational_quadratic import HALF_WIDTH, STEEPEST, inverse_spline, spline, trained_spline
from drl_density.testing import seeded_generator


def system(num_bins, seed=0, scale=2.0):
    """Points on both sides of the box's edges, each with a spline of its own."""
    generator = seeded_generator(seed)
    x = 3 * torch.randn(400, generator=generator, dtype=torch.float64)
    return x, scale * torch.randn(3 * num_bins - 1, 400, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("num_bins", [1, 2, 8])
def test_the_log_slope_is_that_of_the_value(num_bins):
    x, raw = system(num_bins)
    (slope,) = torch.autograd.grad(spline(x.requires_grad_(), raw)[0].sum(), x)
    torch.testing.assert_close(slope.log(), spline(x, raw)[1].detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_bins", [1, 2, 8])
def test_the_inverse_finds_every_point(num_bins):
    x, raw = system(num_bins)
    # The slope of a spline is at least 1e-3 at knots: rounding errors grow by at most about that factor.
    torch.testing.assert_close(inverse_spline(spline(x, raw)[0], raw), x, rtol=0, atol=1e-10)


def test_every_spline_rises_and_keeps_the_box():
    grid = torch.linspace(-HALF_WIDTH, HALF_WIDTH, 2001, dtype=torch.float64)[:, None].expand(-1, 20)
    raw = 5 * torch.randn(23, 20, generator=seeded_generator(1), dtype=torch.float64)
    y, _ = spline(grid, raw[:, None].expand(-1, 2001, -1))
    assert bool((y.diff(dim=0) > 0).all())
    torch.testing.assert_close(y[[0, -1]], grid[[0, -1]], rtol=0, atol=1e-9)


def test_knots_lie_where_the_parameters_place_them():
    """Two bins whose widths have the ratio of the exponentials: at the knot the value is that of the heights."""
    raw = torch.tensor([0.3, -0.4, 0.8, 0.1, 0.5], dtype=torch.float64)[:, None]
    bounded = (STEEPEST / 2) * torch.tanh(raw[:4, 0] * 2 / STEEPEST)
    width, height = (2 * HALF_WIDTH * bounded[first : first + 2].softmax(0)[0] for first in (0, 2))
    y, log_slope = spline(width[None] - HALF_WIDTH, raw)
    assert float(y) == pytest.approx(float(height) - HALF_WIDTH, abs=1e-12)
    assert float(log_slope) == pytest.approx(STEEPEST * math.tanh(0.5 / STEEPEST), abs=1e-12)


def test_outside_the_box_everything_stays():
    x = torch.tensor([-math.inf, -1e30, -HALF_WIDTH, HALF_WIDTH, 7.0, math.inf]).requires_grad_()
    raw = torch.randn(23, 6, generator=seeded_generator(2)).requires_grad_()
    y, log_slope = spline(x, raw)
    assert torch.equal(y, x)
    assert torch.equal(log_slope, torch.zeros(6))
    assert torch.equal(inverse_spline(x, raw), x)
    for gradient in torch.autograd.grad(log_slope.sum() + y[1:-1].sum(), (x, raw)):
        assert bool(gradient.isfinite().all())


def test_slopes_join_at_the_edge_of_the_box():
    raw = torch.randn(23, 2, generator=seeded_generator(3), dtype=torch.float64)
    _, log_slope = spline(torch.tensor([-HALF_WIDTH + 1e-9, HALF_WIDTH - 1e-9]).double(), raw)
    assert float(log_slope.abs().max()) < 1e-5  # slope 1 at the edge, and a curvature of up to about 1e3


@pytest.mark.parametrize("num_bins", [1, 2, 8])
def test_the_splines_of_training_have_the_values_and_the_derivatives_of_automatic_differentiation(num_bins):
    x, raw = system(num_bins, seed=4)
    parts = [spline, trained_spline]
    values, gradients = [], []
    for part in parts:
        point, shape = x.clone().requires_grad_(), raw.clone().requires_grad_()
        y, log_slope = part(point, shape)
        # Weights of their own for every value, so that no error cancels.
        loss = (y * torch.arange(400)).sum() + (log_slope * torch.arange(400).flip(0)).sum()
        values.append(torch.stack([y, log_slope]).detach())
        gradients.append(torch.autograd.grad(loss, (point, shape)))
    torch.testing.assert_close(values[1], values[0], rtol=1e-9, atol=1e-9)
    for found, expected in zip(gradients[1], gradients[0], strict=True):
        # Rounding grows with the largest terms; the shares of a single bin have gradients of 0.
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9 * (1 + float(expected.abs().max())))


def test_the_splines_of_training_bear_extreme_values_and_refuse_second_derivatives():
    x = torch.tensor([-math.inf, -HALF_WIDTH, 0.3, 1e30, math.nan], dtype=torch.float64).requires_grad_()
    raw = (1e4 * torch.randn(23, 5, generator=seeded_generator(5), dtype=torch.float64)).requires_grad_()
    y, log_slope = trained_spline(x, raw)
    torch.testing.assert_close((y, log_slope), spline(x, raw), equal_nan=True)
    loss = log_slope.square().sum() + y[1:3].square().sum()
    (gradient,) = torch.autograd.grad(loss, raw, create_graph=True)
    assert bool(gradient.isfinite().all())
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
