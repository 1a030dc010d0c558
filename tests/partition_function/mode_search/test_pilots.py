"""Pilots reach the target from any width, and give up on a target without mass."""

import math

import torch

from drl_density.mcmc import MALA
from drl_density.partition_function.mode_search.pilots import in_units, run_pilot, widened
from drl_density.partition_function.mode_search.shape import measure_shape
from drl_density.partition_function.target_bases.contract import GivenBase
from drl_density.partition_function.target_bases.mixture import MixtureBase


def normal(dim):
    return MixtureBase(torch.ones(1), torch.zeros(1, dim), torch.eye(dim)[None], torch.zeros(1).double())


def pilot(base, log_density, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return run_pilot(base, log_density, num_particles=200, kernel=MALA(), generator=generator)


def test_a_wide_pilot_reaches_both_modes():
    def log_density(x):
        return torch.logaddexp(-0.5 * (x - 12).square().sum(-1), -0.5 * (x + 12).square().sum(-1))

    wide = widened(normal(2), torch.zeros(2).double(), 16.0)
    particles = pilot(wide, log_density)
    share = float((particles[:, 0] > 0).double().mean())
    assert 0.2 < share < 0.8
    assert abs(float(particles.abs().mean()) - 12) < 0.3


def test_a_widened_base_is_normalised():
    base = widened(normal(1), torch.tensor([3.0]).double(), 4.0)
    grid = torch.linspace(-60, 60, 60_001).double()[:, None]
    assert abs(float(base.log_prob(grid).exp().sum() * 2e-3) - 1) < 1e-6
    assert abs(float(base.draw(4000, torch.Generator().manual_seed(0)).std()) - 4) < 0.3


def test_units_make_a_badly_scaled_target_round():
    wide = torch.tensor([0.01, 100.0]).double()

    def log_density(x):
        return -0.5 * (x / wide).square().sum(-1)

    unit = measure_shape(log_density, torch.zeros(2).double())
    particles = pilot(*in_units(normal(2), log_density, unit))
    assert ((particles.std(0) - 1).abs() < 0.3).all()


def test_a_target_without_mass_has_no_pilot():
    assert pilot(normal(1), lambda x: torch.full((len(x),), -math.inf).double() + 0 * x.sum(-1)) is None


def test_a_base_without_density_at_some_of_its_draws_loses_these_alone():
    """A wall of the base through its own draws makes infinite weights, which would leave none to the others."""
    inner = normal(1)

    def walled(x):
        return torch.where(x[:, 0] > 0, inner.log_prob(x), -torch.inf)

    base = GivenBase(walled, inner.draw, inner.event_shape)
    particles = pilot(base, lambda x: -2.0 * x.square().sum(-1))
    assert particles is not None
    assert bool(particles.isfinite().all())
