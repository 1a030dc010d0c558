"""Widths of Gaussians, kinks, flat tops and walls."""

import math

import pytest
import torch

from drl_density.partition_function.mode_search.shape import fitted_shape, measure_shape


def rotation(dim):
    return torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(1)).double())[0]


def test_a_gaussian_is_exact():
    turn, wide = rotation(12), torch.logspace(-2, 2, 12).double()
    center = torch.arange(12).double()
    shape = measure_shape(lambda x: 3 - 0.5 * (((x - center) @ turn) / wide).square().sum(-1), center)
    torch.testing.assert_close(shape.widths, wide, rtol=1e-6, atol=0)
    assert shape.log_mass == pytest.approx(3 + 6 * math.log(2 * math.pi) + float(wide.log().sum()), abs=1e-6)
    covariance = turn @ wide.square().diag() @ turn.T
    torch.testing.assert_close(shape.factor @ shape.factor.T, covariance, rtol=1e-6, atol=1e-8)
    assert float(shape.distances(shape.color(torch.ones(1, 12).double()))) == pytest.approx(12)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_any_first_guess_serves(scale):
    shape = measure_shape(lambda x: -0.5 * x.square().sum(-1), torch.zeros(2).double(), scale=scale)
    torch.testing.assert_close(shape.widths, torch.ones(2).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("log_density", "width"),
    [
        (lambda x: -x.abs().sum(-1), 0.5),
        (lambda x: -((x / 2) ** 8).sum(-1), 2 * 0.5 ** (1 / 8)),
        (lambda x: torch.where(x.abs().amax(-1) < 3, 0.0, -math.inf).double() + 0 * x.sum(-1), 3.0),
    ],
    ids=["kink", "flat top", "box"],
)
def test_shapes_without_second_derivatives_have_widths(log_density, width):
    shape = measure_shape(log_density, torch.zeros(1).double())
    assert shape.width == pytest.approx(width, rel=0.1)


def test_the_directions_along_a_shell_are_wide():
    """Across: the shell's width. Along: a sagitta of one width, about sqrt(2 R w)."""
    top = torch.tensor([2.0, 0.0, 0.0]).double()
    shape = measure_shape(lambda x: -0.5 * ((x.norm(dim=-1) - 2) / 0.1).square(), top)
    assert float(shape.widths[0]) == pytest.approx(0.1, rel=0.05)
    assert float(shape.widths[1]) == pytest.approx(math.sqrt(2 * 2 * 0.1), rel=0.1)


def test_without_a_gradient_the_axes_are_the_coordinates():
    wide = torch.tensor([1.0, 5.0]).double()
    shape = measure_shape(
        lambda x: -0.5 * (x / wide).square().sum(-1).detach(), torch.zeros(2).double(), has_gradient=False
    )
    torch.testing.assert_close(shape.factor, wide.diag(), rtol=1e-6, atol=1e-9)


def test_the_gaussian_of_draws():
    draws = 3 * torch.randn(4000, 2, generator=torch.Generator().manual_seed(0)).double() + 7
    shape = fitted_shape(draws)
    assert shape.log_mass == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(shape.widths, torch.full((2,), 3.0).double(), rtol=0.1, atol=0)
    few = fitted_shape(draws[:2].repeat(1, 4))
    assert few.factor.isfinite().all()


def test_a_singularity_without_width_has_a_shape():
    shape = measure_shape(lambda x: -0.5 * x.abs().log().sum(-1) - x.square().sum(-1), torch.zeros(2).double())
    assert bool(shape.inverse.isfinite().all())
