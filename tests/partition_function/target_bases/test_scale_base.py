"""Scale regressions and the bases made of them."""

import math

import pytest
import torch

from drl_density.errors import NumericalError
from drl_density.partition_function.target_bases.product import ProductBase
from drl_density.partition_function.target_bases.scale_base import ScaleBase, ScaleRegression
from drl_density.testing import assert_z, seeded_generator


def steered_rows(num_rows, seed):
    """The second coordinate steers scale and place of the others."""
    generator = seeded_generator(seed)
    z, noise = (torch.randn(num_rows, count, generator=generator, dtype=torch.float64) for count in (1, 2))
    mixed = torch.stack([noise[:, 0], 0.6 * noise[:, 0] + 0.8 * noise[:, 1]], 1)
    rest = (
        torch.tensor([1.0, 2.0]) + z * torch.tensor([0.5, -1.0]) + torch.exp(z * torch.tensor([1.0, -0.5]) / 2) * mixed
    )
    return torch.cat([rest[:, :1], z, rest[:, 1:]], 1)


def test_scale_regression_finds_what_made_the_rows():
    chart = ScaleRegression.fit(steered_rows(40_000, 6))
    assert chart.driver == 1
    torch.testing.assert_close(chart.location, torch.tensor([[1.0, 2.0], [0.5, -1.0]]).double(), rtol=0, atol=0.05)
    torch.testing.assert_close(chart.log_variance, torch.tensor([[0.0, 0.0], [1.0, -0.5]]).double(), rtol=0, atol=0.05)
    correlation = chart.factor @ chart.factor.T
    torch.testing.assert_close(correlation, torch.tensor([[1.0, 0.6], [0.6, 1.0]]).double(), rtol=0, atol=0.03)


def test_scale_regression_is_a_map_with_its_jacobian():
    rows = steered_rows(500, 7)
    chart = ScaleRegression.fit(rows)
    unit = chart.to_unit(rows[:20])
    torch.testing.assert_close(chart.from_unit(unit), rows[:20], rtol=1e-10, atol=1e-10)
    for index in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda point: chart.from_unit(point[None])[0], unit[index])
        torch.testing.assert_close(chart.log_volume(unit)[index], torch.linalg.slogdet(jacobian)[1])
    point, x = unit.clone().requires_grad_(), rows[:20].clone().requires_grad_()
    (whole,) = torch.autograd.grad((chart.from_unit(point).sin().sum() + chart.log_volume(point).sum()), point)
    (inner,) = torch.autograd.grad(x.sin().sum(), x)
    torch.testing.assert_close(chart.pull_back(unit, inner), whole, rtol=1e-9, atol=1e-9)
    center, size = torch.tensor([3.0, -1.0, 2.0]).double(), torch.tensor([2.0, 0.5, 4.0]).double()
    torch.testing.assert_close(chart.in_units(center, size).to_unit(center + size * rows[:20]), unit)


def test_scale_base_is_one_normalised_density():
    """E_b[1 / b] over a box is its volume, with a driver that is not normal."""
    chart = ScaleRegression.fit(steered_rows(2_000, 8)).widened(1.3)
    two = torch.tensor([[0.4], [0.6]]).double()
    base = ScaleBase(chart, ProductBase(two, 3 * two - 1.5, 0.5 + two))
    x = base.draw(40_000, seeded_generator(9))
    inside = ((x - torch.tensor([1.0, 0.0, 2.0])).abs() < 1).all(1).double()
    assert_z(inside * (-base.log_prob(x)).exp(), 8.0)


def test_far_from_the_draws_the_density_is_zero_and_never_undefined():
    chart = ScaleRegression.fit(steered_rows(2_000, 8))
    one = torch.ones(1, 1).double()
    base = ScaleBase(chart, ProductBase(one, 0 * one, one))
    far = torch.tensor([[1.0, -1e4, 1.0], [-1.0, 1e4, 5.0], [0.0, 0.0, 0.0]]).double()
    assert base.log_prob(far)[:2].tolist() == [-math.inf, -math.inf]
    assert math.isfinite(float(base.log_prob(far)[2]))


def test_a_driver_that_does_not_vary_has_no_regression():
    with pytest.raises(NumericalError, match="must vary"):
        ScaleRegression.fit(torch.ones(20, 2, dtype=torch.float64))
