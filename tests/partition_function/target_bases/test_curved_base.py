"""Chains of curved regressions."""

import pytest
import torch

from drl_density.partition_function.target_bases.curved_base import CurvedRegression, curved_orders
from drl_density.partition_function.target_bases.product import ProductBase
from drl_density.partition_function.target_bases.scale_base import ScaleBase, strongest_drivers
from drl_density.testing import assert_z, seeded_generator


def chain(count, seed):
    """x2 = x1^2 + noise, x3 = x2^2 + noise, in the order 3, 1, 2."""
    noise = torch.randn(count, 3, generator=seeded_generator(seed), dtype=torch.float64)
    first = 0.5 + 0.5 * noise[:, 0]
    second = first.square() + 0.1 * noise[:, 1]
    return torch.stack([second.square() + 0.1 * noise[:, 2], first, second], 1)


def hierarchy(count, seed):
    """A mean and a log scale z, and three effects that are pulled from the mean to places of their own as z grows."""
    noise = torch.randn(count, 5, generator=seeded_generator(seed), dtype=torch.float64)
    z, mean = 1.5 * noise[:, 0], 2 * noise[:, 1]
    pull = (z.exp().square() / (1 + z.exp().square()))[:, None]
    effects = (1 - pull) * mean[:, None] + pull * torch.tensor([3.0, 0.0, -2.0]) + pull.sqrt() * noise[:, 2:]
    return torch.cat([mean[:, None], z[:, None], effects], 1)


def fitted(rows, index):
    order, shape = curved_orders(rows, strongest_drivers(rows)[:2])[index]
    return CurvedRegression.fit(rows, order, shape)


def test_a_chain_of_squares_is_put_in_order_and_followed():
    chart = fitted(chain(2000, 0), 0)
    assert chart.order == (1, 2, 0)
    unit = chart.to_unit(chain(2000, 1))
    assert float(unit.mean(0).abs().max()) < 0.1
    assert float((unit.square().mean(0) - 1).abs().max()) < 0.15
    # Each square has one coordinate behind it: the others carry no coefficient.
    assert chart.places[1][[1, 3]].tolist() == [0, 0]


def test_places_that_turn_with_the_scale_are_followed():
    rows = hierarchy(3000, 2)
    chart = CurvedRegression.fit(rows, (1, 0, 2, 3, 4), "driven")
    assert chart.driver == 1
    unit = chart.to_unit(hierarchy(3000, 3))
    assert float((unit[:, 1:].square().mean(0) - 1).abs().max()) < 0.25
    neck = unit[unit[:, 0] < -1.5]
    assert float((neck[:, 1:].square().mean(0) - 1).abs().max()) < 0.7


@pytest.mark.parametrize("index", [0, 1], ids=["bent", "driven"])
def test_the_regression_is_a_map_with_its_jacobian(index):
    rows = hierarchy(500, 4)
    chart = fitted(rows, index).widened(1.2)
    unit = chart.to_unit(rows[:10])
    torch.testing.assert_close(chart.from_unit(unit), rows[:10], rtol=1e-9, atol=1e-9)
    for row in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda point: chart.from_unit(point[None])[0], unit[row])
        torch.testing.assert_close(chart.log_volume(unit)[row], torch.linalg.slogdet(jacobian)[1])
    x = rows[:10].clone().requires_grad_()
    (inner,) = torch.autograd.grad(x.sin().sum(), x)
    point = unit.clone().requires_grad_()
    (whole,) = torch.autograd.grad(chart.from_unit(point).sin().sum() + chart.log_volume(point).sum(), point)
    torch.testing.assert_close(chart.pull_back(unit, inner), whole, rtol=1e-9, atol=1e-9)
    center, size = torch.tensor([3.0, -1.0, 2.0, 0.0, 1.0]).double(), torch.tensor([2.0, 0.5, 4.0, 1.0, 3.0]).double()
    moved = chart.in_units(center, size)
    torch.testing.assert_close(moved.to_unit(center + size * rows[:10]), unit)
    assert moved.to(rows[0].float()).to_unit(rows[:10].float()).dtype == torch.float32


def test_a_base_on_it_is_one_normalised_density():
    """E_b[1 / b] over a box is its volume."""
    chart = fitted(chain(1000, 5), 0).widened(1.3)
    one = torch.ones(1, 1).double()
    base = ScaleBase(chart, ProductBase(one, 0.5 * one, 0.8 * one))
    x = base.draw(40_000, seeded_generator(6))
    inside = ((x - torch.tensor([0.2, 0.5, 0.4])).abs() < 0.25).all(1).double()
    assert_z(inside * (-base.log_prob(x)).exp(), 0.125)
