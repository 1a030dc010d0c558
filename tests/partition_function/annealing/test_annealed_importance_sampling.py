"""Annealed importance sampling against closed forms."""

import dataclasses
import math

import pyro.distributions as dist
import pytest
import torch

from drl_density import AISSettings, annealed_importance_sampling, geometric_path, sequence_path
from drl_density.testing import assert_z, seeded_generator
from tests.partition_function.known_answers import SMALL, SYSTEM, half_plane


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
