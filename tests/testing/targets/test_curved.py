"""Curved targets with two or three coordinates by quadrature, and their draws."""

import math

import pytest
import torch

from drl_density.testing import known_target
from drl_density.testing.targets.curved import (
    TARGETS,
    bananas,
    conditional_rosenbrock,
    egg_box,
    funnel,
    rosenbrock,
    shells,
    sine_wave,
    wells,
)
from drl_density.testing.targets.quadrature import log_integral
from tests.testing.targets.routes import assert_draws, checked_draws, integral


def test_shells_by_quadrature_of_the_plane():
    definition = shells(2, (-3.5, 3.5), 2.0, 0.1)
    assert definition.log_z == pytest.approx(integral(definition, 7.0, 60), abs=1e-6)
    # The integral over the radius of a thin shell is nearly that of the circle.
    assert definition.log_z == pytest.approx(math.log(2 * 2 * math.pi * 2), abs=1e-3)
    assert_draws(definition, torch.tensor([-1.5, 0.0]), torch.tensor([0.07, 0.1]))


@pytest.mark.parametrize("dim", [3, 10, 30])
def test_shells_by_moments_of_a_gaussian(dim):
    """The mean of (2 + 0.1 z)^(d - 1) in closed form, times area and number."""
    moments = sum(
        math.comb(dim - 1, k) * 2.0 ** (dim - 1 - k) * 0.1**k * math.prod(range(1, k, 2))
        for k in range(0, dim, 2)
    )
    log_area = math.log(2) + 0.5 * dim * math.log(math.pi) - math.lgamma(dim / 2)
    assert shells(dim, (-3.5, 3.5), 2.0, 0.1).log_z == pytest.approx(math.log(2 * moments) + log_area, abs=1e-9)


def test_shells_of_many_coordinates_have_their_draws_near_the_radius():
    x = checked_draws(TARGETS["wide_shell_20d"](), 500)
    assert float(x.norm(dim=-1).std()) == pytest.approx(0.5, rel=0.2)


def test_bananas_by_quadrature():
    definition = bananas(1, 1.0, 1.0, 0.3)
    found = log_integral(definition.log_density, [(-6.0, 6.0), (-4.0, 40.0)], 60)
    assert definition.log_z == pytest.approx(found, abs=1e-6)
    assert_draws(definition, 0.0, 0.2)
    three = bananas(3, 1.0, 1.0, 0.3)
    assert three.log_z == pytest.approx(3 * definition.log_z)
    x = three.draws(5, None)
    assert torch.allclose(three.log_density(x), sum(definition.log_density(x[:, k : k + 2]) for k in (0, 2, 4)))


def test_chains_of_rosenbrock_by_quadrature():
    gentle = conditional_rosenbrock(2, 0.5)
    bounds = [(-4.0, 6.0), (-6.0, 42.0)]
    assert gentle.log_z == pytest.approx(log_integral(gentle.log_density, bounds, 60), abs=1e-6)
    assert_draws(gentle, 1.0, 0.25)
    assert TARGETS["rosenbrock_conditional_8d"]().draws(3, None).shape == (3, 8)
    plane = rosenbrock(2, 5.0)
    assert plane.log_z == pytest.approx(log_integral(plane.log_density, bounds, 60), abs=1e-6)
    assert plane.log_z == pytest.approx(math.log(math.pi / math.sqrt(5.0)), abs=1e-9)
    three = rosenbrock(3, 5.0)
    inner = lambda x: three.log_density(torch.cat([x, x[:, 1:].square()], 1)) + 0.5 * math.log(math.pi / 5)  # noqa: E731
    assert three.log_z == pytest.approx(log_integral(inner, [(-5.0, 6.0), (-4.0, 6.0)], 40), abs=1e-7)


def test_funnels_by_quadrature_and_draws():
    definition = funnel(2, spread=1.0)
    found = log_integral(definition.log_density, [(-9.0, 9.0), (-60.0, 60.0)], 80)
    assert definition.log_z == pytest.approx(found, abs=1e-3)  # the rest of the mouth lies beyond 60
    assert_draws(definition, 0.0, 0.5)
    assert_draws(funnel(3), 0.0, 0.5)
    turned = known_target("funnel_rotated_10d")
    x = torch.eye(10).double()
    assert not torch.allclose(turned.target.log_density(x), funnel(10).log_density(x))


def test_wells_by_quadrature_and_by_their_published_value():
    assert wells(1).log_z == pytest.approx(integral(wells(1), 9.0, 30), abs=1e-9)
    assert wells(16).log_z == pytest.approx(164.69568, abs=1e-5)
    assert known_target("many_well_rotated_32d").log_z == wells(16).log_z


def test_waves_by_quadrature():
    definition = sine_wave()
    bounds = [(-18.0, 18.0), (-2.5, 2.5)]
    assert definition.log_z == pytest.approx(log_integral(definition.log_density, bounds, 60), abs=1e-8)
    assert_draws(definition, 0.0, torch.tensor([0.02, 0.07]), num_samples=20_000)
    hills = egg_box()
    assert hills.log_z == pytest.approx(integral(hills, 45.0, 60), abs=1e-9)
