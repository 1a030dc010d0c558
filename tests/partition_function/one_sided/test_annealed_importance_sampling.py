"""Annealed importance sampling against closed forms."""

import dataclasses
import math

import pyro.distributions as dist
import pytest
import torch

from drl_density import AISSettings, annealed_importance_sampling, geometric_path, sequence_path
from drl_density.partition_function import OtherSideSettings
from drl_density.testing import assert_z, seeded_generator
from tests.partition_function.known_answers import SMALL, SYSTEM, funnel, half_plane


@pytest.mark.parametrize("resample_below", [None, 0.5], ids=["plain", "resampled"])
def test_recovers_the_offset(resample_below):
    settings = dataclasses.replace(SMALL, resample_below=resample_below)
    estimate = annealed_importance_sampling(
        sequence_path(SYSTEM.model), settings=settings, generator=seeded_generator(1)
    )
    assert_z(estimate.log_z, SYSTEM.log_z(0), estimate.standard_error)
    assert estimate.bias == "lower"
    assert estimate.verdict in ("reliable", "doubtful")


@pytest.mark.parametrize("value", [-math.inf, math.nan, -1e30])
def test_half_of_the_plane_has_half_of_the_mass(value):
    """A density that is zero or not a number beyond a wall gives the same weights as one that is tiny there."""
    base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    path = geometric_path(base, half_plane(value), num_bridges=10)
    settings = AISSettings(num_particles=64, num_replicates=8)
    estimate = annealed_importance_sampling(path, settings=settings, generator=seeded_generator(0))
    assert_z(estimate.log_z, -math.log(2), estimate.standard_error)
    assert estimate.standard_error < 0.2


def test_even_weights_are_reliable_only_with_the_other_side():
    base = dist.Normal(torch.zeros(2).double(), 2.0).to_event(1)
    path = geometric_path(base, lambda x: -0.5 * (x**2).sum(-1) + 3.0, num_bridges=20)
    found = annealed_importance_sampling(path, generator=seeded_generator(0))
    assert found.is_reliable
    assert_z(found.other_side.log_z, 3.0 + math.log(2 * math.pi), found.other_side.standard_error)
    alone = annealed_importance_sampling(path, other_side=None, generator=seeded_generator(0))
    assert (alone.log_z, alone.is_one_sided) == (found.log_z, True)


def test_plain_annealing_takes_its_own_weights_for_the_other_side():
    base = dist.Normal(torch.zeros(2).double(), 1.5).to_event(1)
    path = geometric_path(base, lambda x: -0.5 * (x**2).sum(-1), num_bridges=20)
    settings = AISSettings(num_particles=64, num_replicates=8, resample_below=None)
    found = annealed_importance_sampling(path, settings=settings, generator=seeded_generator(0))
    assert found.is_reliable
    assert found.other_side.overlap > 0.5


@pytest.mark.filterwarnings("ignore:log Z estimate")
@pytest.mark.parametrize("name", ["funnel", "pair"])
def test_mass_that_no_particle_has_entered_is_seen_from_the_other_side(name):
    """Weights of both are even; the funnel's ends lack 0.5 nats and more, and the second of two Gaussians log 2."""

    def pair(x):
        return torch.logaddexp(-0.5 * x.square().sum(-1), -0.5 * (x - 30.0).square().sum(-1))

    target, dim = (funnel, 10) if name == "funnel" else (pair, 2)
    path = geometric_path(dist.Normal(torch.zeros(dim).double(), 4.0).to_event(1), target, num_bridges=100)
    sizes = OtherSideSettings(num_mixing_steps=200)
    found = annealed_importance_sampling(path, other_side=sizes, generator=seeded_generator(0))
    assert found.other_side is not None  # the weights alone raised no doubt
    assert not found.is_reliable
    assert not found.other_side.is_sound
