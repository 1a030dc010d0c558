"""Normalising a sequence: log Z against its closed form, and a pool in data units."""

import torch

from drl_density.density.normalizing import normalize
from drl_density.density.settings.normalizing_sizes import NormalizingSizes
from drl_density.testing import assert_z, seeded_generator
from drl_density.transforms import Affine
from tests.density.closed_form import SCALE, SHIFT, SYSTEM

SIZES = NormalizingSizes(
    num_particles=128, num_pilot_particles=64, steps_per_level=8, num_pool_draws=600, num_pool_pilot=64
)


def test_log_z_and_pool_are_those_of_the_model():
    transform = Affine(-SHIFT / SCALE, 1 / SCALE)
    found = normalize(SYSTEM.model, transform, SIZES, generator=seeded_generator(0))
    assert_z(found.estimate.log_z, float(SYSTEM.log_z(0)), found.estimate.standard_error)
    assert found.pool.shape == (600, 3)
    assert found.pool.dtype == torch.float64
    assert_z(found.pool, SHIFT + SCALE * SYSTEM.marginal(0).mean)
    assert found.plan.method == "progressive"
    assert len(found.plan.progressive.step_sizes) == len(found.plan.progressive.levels) - 1


def test_equal_generators_give_equal_results():
    transform = Affine(0.0, 1.0)
    small = NormalizingSizes(16, 16, 1, 8, 16)
    one, other = (normalize(SYSTEM.model, transform, small, generator=seeded_generator(1)) for _ in range(2))
    assert one.estimate.log_z == other.estimate.log_z
    assert one.plan == other.plan
    assert torch.equal(one.pool, other.pool)
