"""Bases with heavy tails."""

import torch
from torch.distributions import StudentT

from drl_density.partition_function.target_bases.student import StudentBase, StudentFits, StudentProduct, TailChart
from drl_density.testing import assert_z, seeded_generator

LIKE = torch.empty(0, dtype=torch.float64)


def test_product_is_that_of_torch_and_its_draws_are_exact():
    degrees, centers, scales = (torch.tensor(values).double() for values in ([1.0, 5.0], [0.5, -2.0], [0.3, 2.0]))
    base = StudentProduct(degrees, centers, scales)
    x = base.draw(40_000, seeded_generator(0))
    exact = StudentT(degrees, centers, scales)
    torch.testing.assert_close(base.log_prob(x), exact.log_prob(x).sum(-1), rtol=1e-9, atol=1e-9)
    # Quartiles of a Cauchy density lie one scale from its centre; the variance of the other is 5 / 3 of its squared scale.
    assert_z((x[:, 0] > 0.8).double(), 0.25)
    assert_z((x[:, 0] > 0.5 + 0.3 * 100).double(), 0.5 - torch.atan(torch.tensor(100.0)).item() / torch.pi)
    assert_z((x[:, 1] + 2).square(), 4 * 5 / 3)
    assert base.draw(0, seeded_generator(0)).shape == (0, 2)


def test_joint_density_is_normalised_and_its_draws_are_exact():
    """E_b[1 / b] over a box is its volume, and squared distances over d follow Fisher's F."""
    scale = torch.tensor([[1.0, 0.6], [0.6, 2.0]]).double()
    base = StudentBase(2, torch.tensor([1.0, -1.0]).double(), scale, LIKE)
    x = base.draw(40_000, seeded_generator(1))
    inside = ((x - torch.tensor([1.0, -1.0])).abs() < 1).all(1).double()
    assert_z(inside * (-base.log_prob(x)).exp(), 4.0)
    away = torch.linalg.solve_triangular(base.factor, (x - base.mean).T, upper=False).square().sum(0) / 2
    assert_z((away > 9).double(), 0.1)  # P(F(2, 2) > t) = 1 / (1 + t)
    one = StudentBase(3, torch.tensor([0.5]).double(), torch.tensor([[4.0]]).double(), LIKE)
    rows = torch.linspace(-9, 9, 7).double()[:, None]
    torch.testing.assert_close(one.log_prob(rows), StudentT(3.0, 0.5, 2.0).log_prob(rows)[:, 0])


def test_fits_find_degrees_and_scales():
    generator = seeded_generator(2)
    scale = torch.tensor([[1.0, 0.6], [0.6, 2.0]]).double()
    rows = StudentBase(2, torch.tensor([3.0, -1.0]).double(), scale, LIKE).draw(4000, generator)
    fits = StudentFits.fit(rows[:2000], rows[2000:])
    score, degrees, mean, found = fits.joint()
    assert degrees == 2
    torch.testing.assert_close(mean, torch.tensor([3.0, -1.0]).double(), rtol=0, atol=0.15)
    torch.testing.assert_close(found, scale, rtol=0, atol=0.25)
    assert score > fits.alone()[0]
    assert fits.joint(most=1)[1] == 1
    columns = StudentProduct(
        torch.tensor([1.0, 10.0]).double(), torch.zeros(2).double(), torch.tensor([2.0, 0.5]).double()
    )
    rows = columns.draw(4000, generator)
    fits = StudentFits.fit(rows[:2000], rows[2000:])
    score, degrees, _, spreads = fits.alone()
    assert float(degrees[0]) == 1
    assert float(degrees[1]) >= 5
    torch.testing.assert_close(spreads, torch.tensor([2.0, 0.5]).double(), rtol=0.1, atol=0)
    assert score > fits.joint()[0]


def test_tail_chart_is_a_map_with_its_jacobian():
    chart = TailChart(torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 3.0]).double())
    unit = 3 * torch.randn(5, 2, generator=seeded_generator(4), dtype=torch.float64)
    x = chart.from_unit(unit)
    torch.testing.assert_close(chart.to_unit(x), unit, rtol=1e-9, atol=1e-9)
    jacobian = torch.autograd.functional.jacobian(lambda point: chart.from_unit(point[None])[0], unit[0])
    torch.testing.assert_close(chart.log_volume(unit)[0], torch.linalg.slogdet(jacobian)[1])
    point, rows = unit.clone().requires_grad_(), x.clone().requires_grad_()
    (whole,) = torch.autograd.grad(chart.from_unit(point).sin().sum() + chart.log_volume(point).sum(), point)
    (inner,) = torch.autograd.grad(rows.sin().sum(), rows)
    torch.testing.assert_close(chart.pull_back(unit, inner), whole, rtol=1e-9, atol=1e-9)
    assert bool(chart.log_volume(torch.tensor([[800.0, -800.0]]).double()).isfinite())
