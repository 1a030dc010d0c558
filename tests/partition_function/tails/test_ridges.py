"""Ridges along which all coordinates change together."""

import pytest
import torch

import drl_density as drl
from drl_density.distributions.experts import log_density_of
from drl_density.partition_function.tails.examine import examine_tails
from drl_density.partition_function.tails.report import Integrability
from drl_density.partition_function.tails.ridges import follow_ridges
from drl_density.testing import seeded_generator


def normal(*shape):
    return torch.randn(4, 128, *shape, generator=seeded_generator(1), dtype=torch.float64)


def known(name):
    target = drl.testing.known_target(name)
    return log_density_of(target.target), target


def test_a_chain_of_squares_goes_on_where_draws_end():
    """Half of the mass has a first coordinate above 1, and a last one above any draw that local steps reach."""
    log_density, target = known("rosenbrock_conditional_8d")
    rows = target.draws(20_000, seeded_generator(2))
    near = rows[rows[:, -1].abs() < 40][:512].reshape(4, 128, 8)
    report = examine_tails(log_density, near, generator=seeded_generator(3))
    assert report.integrability is Integrability.UNDECIDED
    assert "a ridge with coordinate 7 up" in {tail.label for tail in report.tails}


def test_an_oblique_line_of_slow_decay_is_undecided():
    """1 / r along a line, whose integral is infinite."""
    line = torch.tensor([0.6, 0.0, 0.8]).double()
    across = torch.tensor([[0.8, 0.0, -0.6], [0.0, 1.0, 0.0]]).double()

    def oblique(x):
        return -torch.log1p((x @ line).abs()) - 0.5 * (x @ across.T).square().sum(-1)

    draws = normal(2) @ across + (4 * normal(1)).sinh() * line
    assert examine_tails(oblique, draws, generator=seeded_generator(4)).integrability is not Integrability.INTEGRABLE


@pytest.mark.parametrize("name", ["funnel_3d", "banana_2d", "bananas_mild_10d", "multivariate_cauchy_3d", "cauchy_10d"])
def test_proper_curved_and_heavy_tails_are_integrable(name):
    log_density, target = known(name)
    draws = target.draws(512, seeded_generator(5)).reshape(4, 128, -1)
    assert examine_tails(log_density, draws, generator=seeded_generator(6)).integrability is Integrability.INTEGRABLE


@pytest.mark.parametrize("log_density", [lambda x: -0.5 * x.square().sum(-1), lambda x: -x.abs().floor().sum(-1)])
def test_steep_targets_and_those_without_curvature_have_no_ridge(log_density):
    rows = normal(3).flatten(0, 1)
    assert follow_ridges(log_density, rows, torch.zeros(3).double(), torch.ones(3).double()) == []


def test_the_width_across_a_ridge_is_part_of_its_mass():
    """The height of Cauchy tails that are Gaussian across falls as r^-3, and the width there grows as r."""

    def widening(x):
        return -1.5 * torch.log1p(x[:, 0].square()) - 0.5 * x[:, 1].square() / (1 + x[:, 0].square())

    rows = normal(2).flatten(0, 1)
    tails = follow_ridges(widening, rows, torch.zeros(2).double(), torch.ones(2).double())
    exponents = {tail.label: tail.exponent for tail in tails}
    for side in ("down", "up"):
        assert exponents[f"a ridge with coordinate 0 {side}"] == pytest.approx(-1, abs=0.01)
