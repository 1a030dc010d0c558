"""Estimates from equilibrium draws of every density of a path."""

import math

import pyro.distributions as dist
import torch

import drl_density as drl
from drl_density.partition_function import (
    anneal,
    equilibrium_estimates,
    geometric_path,
    plan_annealing,
)
from drl_density.testing import assert_z
from tests.partition_function.known_answers import half_plane


def test_equilibrium_draws_of_every_density_give_log_z():
    target = dist.MultivariateNormal(torch.ones(3), 0.2 * torch.eye(3) + 0.1)
    settings = drl.AISSettings(num_particles=200, num_replicates=6, num_kept=40, num_transitions=5)
    generator = torch.Generator().manual_seed(0)
    path = geometric_path(
        dist.Normal(torch.zeros(3), 1.5).to_event(1), lambda x: target.log_prob(x) + 2.0, num_bridges=20
    )
    plan = plan_annealing(path, settings, generator=generator)
    run = anneal(path, plan, settings, generator=generator)
    assert run.kept.shape == (6, 20, 40, 3)
    result = equilibrium_estimates(path, run.kept, generator=generator)
    assert abs(result.multistate.log_z - 2.0) < 5 * result.multistate.standard_error + 0.02
    assert abs(result.integration.log_z - 2.0) < 5 * result.integration.standard_error + 0.05
    assert result.overlap.shape == (21, 21)


def test_one_lost_draw_of_the_base_does_not_lose_the_multistate_ratio():
    """N(0, 1) cut off at 2 by a cliff of ten million nats: log Z = log Phi(2), though some draws of the base lie there."""
    generator = torch.Generator().manual_seed(21)
    base = dist.Normal(torch.zeros(1).double(), 1.0).to_event(1)

    def cut(x):
        return base.log_prob(x) - 1e7 * (x[..., 0] > 2)

    path = geometric_path(base, cut, num_bridges=1)
    draws = torch.randn(20_000, generator=generator, dtype=torch.float64)
    kept = draws[draws <= 2][: 8 * 64].reshape(8, 1, 64, 1)
    value, error = equilibrium_estimates(path, kept, generator=generator).multistate
    assert_z(value, math.log(0.97725), error)


def test_draws_beyond_a_wall_are_part_of_the_estimates():
    base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    path = geometric_path(base, half_plane(-math.inf), num_bridges=3)
    settings = drl.AISSettings(num_particles=100, num_replicates=6, num_kept=60)
    generator = torch.Generator().manual_seed(0)
    run = anneal(path, plan_annealing(path, settings, generator=generator), settings, generator=generator)
    result = equilibrium_estimates(path, run.kept, generator=generator)
    for found in (result.multistate, result.integration):
        assert_z(found.log_z, -math.log(2), found.standard_error)
        assert 0 < found.standard_error < 0.2
