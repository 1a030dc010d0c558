"""Walls and supports, by quadrature inside them and by draws."""

import math

import pytest
import torch
from torch.distributions import biject_to

from drl_density.testing import known_target
from drl_density.testing.targets.quadrature import log_integral
from drl_density.testing.targets.supports import (
    TARGETS,
    betas,
    boxed_gaussian,
    checkerboard,
    coupled_angles,
    dirichlet,
    gammas,
    half_normal,
    half_space,
    inverse_gammas,
    log_normals,
    nan_gamma,
    on_interval,
    ordered_dirichlet,
    rotor_chain,
    stick_breaking_dirichlet,
    triangle,
    uniform_ball,
    von_mises,
    walled_box,
)
from tests.testing.targets.routes import assert_draws_in_box, checked_draws, integral


def pulled_back(definition):
    """The log density over unconstrained points, with the Jacobian of the bijection onto the support."""
    transform = biject_to(definition.support)

    def log_density(u):
        x = transform(u)
        jacobian = transform.log_abs_det_jacobian(u, x)
        return definition.log_density(x) + (jacobian if jacobian.dim() < u.dim() else jacobian.sum(-1))

    return log_density


@pytest.mark.parametrize(
    ("definition", "half", "num_panels", "tolerance"),
    [
        (half_normal(2), 9.0, 30, 1e-9),
        (half_space(1, 4.0), 12.0, 1200, 1e-6),
        (half_space(2, 0.0), 8.0, 60, 2e-2),
        (boxed_gaussian(2, 6.0), 6.0, 30, 1e-9),
        (boxed_gaussian(1, 0.5), 0.5, 30, 1e-9),
        (walled_box(2), 4.0, 32, 1e-9),
        (triangle(), 1.0, 60, 2e-2),
        (checkerboard(), 4.0, 8, 1e-9),
        (uniform_ball(2), 1.5, 60, 2e-2),
    ],
)
def test_walls_by_quadrature(definition, half, num_panels, tolerance):
    assert definition.log_z == pytest.approx(integral(definition, half, num_panels), abs=tolerance)


def test_volumes_of_balls():
    assert known_target("uniform_ball_10d").log_z == pytest.approx(math.log(math.pi**5 / 120), abs=1e-12)


@pytest.mark.parametrize(
    ("definition", "half", "num_panels"),
    [
        (on_interval(-2.0, 3.0, 2), 40.0, 40),
        (betas(1, 2.0, 5.0), 30.0, 40),
        (betas(1, 0.4, 0.3), 36.0, 60),
        (gammas(1, 3.0, 2.0), 30.0, 60),
        (inverse_gammas(1, 2.0), 30.0, 60),
        (log_normals(2, 1.5), 18.0, 40),
        (rotor_chain(2, 1.0), 40.0, 60),
    ],
)
def test_supports_by_quadrature_of_the_reals(definition, half, num_panels):
    (dim,) = definition.shape
    found = log_integral(pulled_back(definition), [(-half, half)] * dim, num_panels)
    # Float64 ends the bijections onto an interval about 36 from the middle, at the mass of exp(-0.3 * 36).
    assert definition.log_z == pytest.approx(found, abs=1e-4)


def test_rotors_by_quadrature_of_their_angles():
    definition = rotor_chain(2, 1.5)
    assert definition.log_z == pytest.approx(integral(definition, math.pi, 8), abs=1e-10)


def test_simplices_by_quadrature_of_the_reals():
    definition = dirichlet([1.0, 0.7, 2.0])
    found = log_integral(pulled_back(definition), [(-34.0, 34.0)] * 2, 50)
    assert definition.log_z == pytest.approx(found, abs=1e-6)
    x = checked_draws(definition, 500)
    assert torch.allclose(x.sum(-1), torch.ones(500).double())


def test_sticks_by_quadrature_and_by_the_simplex():
    definition = stick_breaking_dirichlet(3, 0.7)
    assert definition.log_z == pytest.approx(integral(definition, 60.0, 60), abs=1e-9)
    assert definition.log_z == pytest.approx(dirichlet([0.7] * 3).log_z, abs=1e-12)
    assert_draws_in_box(definition, -0.5, 0.5)
    # Draws far out, where float64 has no digits left for one minus the share of a stick.
    assert float(checked_draws(stick_breaking_dirichlet(10, 0.1), 500).abs().max()) > 40


def test_nan_stands_for_no_mass():
    definition = nan_gamma(1)
    assert math.isnan(float(definition.log_density(torch.tensor([-1.0]).double())))
    assert definition.log_z == pytest.approx(log_integral(definition.log_density, [(0.0, 80.0)], 60), abs=1e-9)


@pytest.mark.parametrize(
    ("definition", "low", "high"),
    [
        (half_normal(2), 0.2, 1.0),
        (half_space(1, 0.5), -2.0, -1.0),
        (boxed_gaussian(2, 0.5), -0.3, 0.4),
        (uniform_ball(3), -0.4, 0.5),
        (walled_box(2), 1.2, 2.0),
        (triangle(), 0.05, 0.4),
        (checkerboard(), 0.1, 1.9),
        (nan_gamma(2), 2.0, 4.0),
        (on_interval(-2.0, 3.0, 2), -1.0, 2.0),
        (betas(2, 2.0, 5.0), 0.15, 0.4),
        (gammas(2, 3.0, 2.0), 0.8, 1.8),
        (inverse_gammas(2, 2.0), 0.3, 0.8),
        (log_normals(2, 1.5), 0.5, 2.0),
    ],
)
def test_draws(definition, low, high):
    if definition.shape == (1,) and float(definition.log_density(torch.tensor([1.0]).double())) > -math.inf:
        low, high = 0.6, 1.5  # the wall's direction may point either way
    assert_draws_in_box(definition, low, high)


def test_oblique_walls_keep_their_draws():
    definition = TARGETS["half_space_oblique_10d"]()
    assert bool(torch.isfinite(definition.log_density(checked_draws(definition, 500))).all())


def test_every_draw_lies_in_its_support():
    for name, build in TARGETS.items():
        definition = build()
        if definition.draws is not None and definition.support is not None:
            assert bool(definition.support.check(checked_draws(definition, 200)).all()), name


def test_angles_by_quadrature():
    definition = von_mises((0.5, 20.0), (0.0, 3.0))
    assert definition.log_z == pytest.approx(integral(definition, math.pi, 20), abs=1e-9)
    assert coupled_angles().log_z == pytest.approx(integral(coupled_angles(), math.pi, 15), abs=1e-9)


def test_rising_shares_are_one_order_of_all():
    definition = ordered_dirichlet(3, 2.0)
    inside = log_integral(
        lambda x: definition.log_density(torch.cat([x, 1 - x.sum(-1, keepdim=True)], -1)),
        [(0.0, 1 / 3), (0.0, 0.5)],
        60,
    )
    assert definition.log_z == pytest.approx(inside, abs=2e-2)  # the rule has a wall across its panels
    x = checked_draws(definition, 200)
    assert bool((x[:, 1:] > x[:, :-1]).all())
    assert bool(definition.log_density(x).isfinite().all())
