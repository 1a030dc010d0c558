"""Gaussians, by determinants, quadrature and draws."""

import math

import pytest
import torch

from drl_density.testing import known_target
from drl_density.testing.targets.gaussians import equicorrelated, gaussian, spread, unit
from tests.testing.targets.routes import assert_draws, checked_draws, integral


def test_by_quadrature_with_scales_mean_and_offset():
    definition = gaussian(torch.tensor([0.5, 2.0]).double(), "", mean=3.0, offset=-7.0)
    assert definition.log_z == pytest.approx(integral(definition, 20, 30, center=3.0), abs=1e-9)
    assert_draws(definition, 3.0, torch.tensor([0.3, 1.0]))


def test_correlated_by_quadrature_and_by_its_determinant():
    definition = equicorrelated(2, 0.95)
    assert definition.log_z == pytest.approx(integral(definition, 9, 30), abs=1e-9)
    assert_draws(definition, 0.0, 0.15)
    fifty = known_target("gaussian_correlated_50d")
    log_determinant = 49 * math.log(0.05) + math.log(0.05 + 50 * 0.95)
    assert fifty.log_z == pytest.approx(25 * math.log(2 * math.pi) + 0.5 * log_determinant, abs=1e-9)


@pytest.mark.parametrize("offset", [1e7, 1e8, -9.76e8])
def test_offsets_are_the_height_of_the_mode(offset):
    definition = unit(2, "", offset=offset)
    assert float(definition.log_density(torch.zeros(2).double())) == offset
    assert definition.log_z - offset == pytest.approx(math.log(2 * math.pi), abs=1e-6)


def test_the_condition_of_200_coordinates():
    target = known_target("gaussian_condition_1e4_200d")
    x = checked_draws(target_definition(target), 600)
    values = torch.linalg.eigvalsh(x.T @ x / 600)
    assert 80 < float(values[-1]) < 400  # largest variance 100, seen in 600 draws of 200 coordinates
    assert float(values[0]) < 0.02
    hessian = -torch.autograd.functional.hessian(target.target.log_density, torch.zeros(200).double())
    log_determinant = float(torch.linalg.slogdet(hessian)[1])
    assert target.log_z == pytest.approx(100 * math.log(2 * math.pi) - 0.5 * log_determinant, abs=1e-6)


def target_definition(target):
    """A finished target read as a definition."""
    target_shape = target.target.event_shape
    return type("Read", (), {"draws": staticmethod(target.draws), "shape": tuple(target_shape)})


def test_scales_are_spaced_in_their_logarithm():
    assert spread(-3, 3, 4, "").log_z == pytest.approx(2 * math.log(2 * math.pi), abs=1e-12)
    narrow, wide = known_target("gaussian_narrow_5d"), known_target("gaussian_wide_5d")
    assert wide.log_z - narrow.log_z == pytest.approx(5 * math.log(1e12), abs=1e-9)
