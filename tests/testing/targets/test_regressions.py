"""Regressions: closed forms by quadrature and by another algebra."""

import math

import pytest
import torch

from drl_density.testing.targets import regressions
from drl_density.testing.targets.quadrature import log_half_cauchy, log_integral, log_normal_density, rule
from drl_density.testing.targets.regressions import (
    TARGETS,
    grouped_logistic_regression,
    horseshoe,
    linear_regression,
    spike_and_slab_regression,
    state_space,
)
from tests.testing.targets.routes import assert_draws, integral


def test_linear_regression_by_quadrature_and_draws():
    definition = linear_regression(12, 2, 1.0, 0.3)
    assert definition.log_z == pytest.approx(integral(definition, 9.0, 40), abs=1e-8)
    assert_draws(definition, definition.draws(500, None).mean(0), 0.15)


@pytest.mark.parametrize("name", ["linear_regression_collinear_20d", "gaussian_process_30d", "state_space_100d"])
def test_linear_models_by_their_mode_and_curvature(name):
    """Laplace's approximation is exact for a Gaussian."""
    definition = TARGETS[name]()
    (dim,) = definition.shape
    zero = torch.zeros(dim, dtype=torch.float64)
    (gradient,) = torch.autograd.functional.jacobian(definition.log_density, zero[None])[0]
    hessian = -torch.autograd.functional.hessian(definition.log_density, zero)
    mode = torch.linalg.solve(hessian, gradient)
    laplace = definition.log_density(mode) + 0.5 * dim * math.log(2 * math.pi) - 0.5 * torch.linalg.slogdet(hessian)[1]
    assert definition.log_z == pytest.approx(float(laplace), abs=1e-6)


def test_states_by_a_kalman_filter():
    """Observations are predicted one after another; none is stored but through the definition's own density."""
    definition = state_space(20)
    steps = torch.arange(20).double()
    y = torch.sin(0.3 * steps) + 0.7 * torch.randn(20, generator=torch.Generator().manual_seed(22), dtype=torch.float64)
    mean, variance, total = 0.0, 0.25 / (1 - 0.81), 0.0
    for value in y.tolist():
        predicted = variance + 0.49
        total += float(log_normal_density(torch.tensor(value - mean, dtype=torch.float64), predicted))
        gain = variance / predicted
        mean, variance = mean + gain * (value - mean), variance * (1 - gain)
        mean, variance = 0.9 * mean, 0.81 * variance + 0.25
    assert definition.log_z == pytest.approx(total, abs=1e-9)


def test_spikes_and_slabs_by_quadrature():
    definition = spike_and_slab_regression(2, 4)
    assert definition.log_z == pytest.approx(integral(definition, 18.0, 90), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "half", "num_panels"),
    [
        ("logistic_regression_2d", 14.0, 40),
        ("logistic_regression_separable_2d", 70.0, 50),
        ("poisson_regression_2d", 14.0, 40),
        ("robust_regression_2d", 22.0, 50),
    ],
)
def test_two_coefficients_by_another_rule(name, half, num_panels):
    definition = TARGETS[name]()
    assert definition.log_z == pytest.approx(integral(definition, half, num_panels), abs=1e-6)


def test_robust_regression_has_two_modes():
    log_density = TARGETS["robust_regression_2d"]().log_density
    lines = log_density(torch.tensor([[0.0, 4.0], [1.0, -4.0], [0.5, 0.0]]).double())
    assert float(lines[0]) > float(lines[2]) + 5
    assert float(lines[1]) > float(lines[2]) + 5


def test_groups_by_quadrature_of_two_at_once():
    definition = grouped_logistic_regression(2, 2.0)
    assert definition.log_z == pytest.approx(integral(definition, 18.0, 30), abs=1e-9)


@pytest.mark.parametrize("is_centred", [False, True])
def test_the_horseshoe_by_quadrature_of_all_three_coordinates(is_centred):
    """In log tau and log lambda on a coarse rule, and the mean in units of its prior's or its likelihood's width."""
    definition = horseshoe(1, is_centred=is_centred)
    if not is_centred:
        bounds = [(-22.0, 22.0), (-22.0, 22.0), (-7.0, 7.0)]
        assert definition.log_z == pytest.approx(log_integral(definition.log_density, bounds, 6), abs=1e-2)
        return
    x = torch.tensor([[0.3, -0.4, 0.5], [1.0, 2.0, -3.0]]).double()
    scale = (x[:, 0] + x[:, 1]).exp()
    standard = torch.cat([x[:, :2], (x[:, 2] / scale)[:, None]], 1)
    other = horseshoe(1, is_centred=False).log_density(standard) - scale.log()
    assert torch.allclose(definition.log_density(x), other)
    assert definition.log_z == horseshoe(1, is_centred=False).log_z


def test_densities_keep_any_leading_shape():
    for name, build in regressions.TARGETS.items():
        definition = build()
        x = torch.ones(2, 3, *definition.shape).double()
        assert definition.log_density(x).shape == (2, 3), name


def test_weibull_times_and_a_frequency_by_other_rules():
    weibull, frequency = TARGETS["weibull_regression_3d"](), TARGETS["frequency_1d"]()
    bounds = [(-3.0, 4.0), (-3.0, 4.5), (-3.0, 3.5)]
    assert weibull.log_z == pytest.approx(log_integral(weibull.log_density, bounds, 4), abs=1e-5)
    assert frequency.log_z == pytest.approx(integral(frequency, 45.0, 14000), abs=1e-6)


def test_the_rule_of_the_horseshoe_reaches_its_tails():
    grid = rule(-34.0, 34.0, 40)
    mass = (log_half_cauchy(grid.points, 1.0) + grid.log_weights).exp().sum()
    assert float(mass) == pytest.approx(1, abs=1e-12)
