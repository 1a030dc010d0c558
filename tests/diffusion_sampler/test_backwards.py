"""The other side of walks whose target is their reference, or a pair of which they reach one."""

import math

import pytest
import torch

from drl_density.diffusion_sampler import DiffusionSampler, DiffusionSamplerSettings, Frame
from drl_density.diffusion_sampler.backwards import walks_backwards
from drl_density.partition_function import OtherSideSettings
from drl_density.testing import assert_z, seeded_generator

SHARES = DiffusionSamplerSettings(num_steps=16).shares()
SMALL = OtherSideSettings(num_samples=32, num_mixing_steps=100, num_swept=1024)


def near(x):
    """exp(1) times N(0, I)."""
    return 1.0 - 0.5 * x.square().sum(-1) - math.log(2 * math.pi)


def pair(x):
    """The same with a second one 30 away along both coordinates."""
    return torch.logaddexp(near(x), near(x - 30.0))


def estimated(log_density, other_side=SMALL, **options):
    sampler = DiffusionSampler(log_density, (2,), SHARES, **options)
    return sampler.log_partition(num_samples=300, other_side=other_side, generator=seeded_generator(0))


def test_walks_that_are_exact_are_reliable_with_the_other_side_alone():
    found = estimated(near)
    assert found.is_reliable
    assert found.other_side.log_z == pytest.approx(1.0, abs=1e-9)  # all weights are 1, whatever the draws
    assert estimated(near, None).is_one_sided


def test_walks_of_another_reference_are_judged_in_the_coordinates_of_their_frame():
    frame = Frame(torch.tensor([0.5, 0.0]).double(), torch.tensor([[1.2, 0.0], [0.3, 0.9]]).double())
    found = estimated(near, frame=frame)
    assert found.is_reliable
    assert_z(found.log_z, 1.0, found.larger_error)
    assert_z(found.other_side.log_z, 1.0, found.other_side.standard_error)
    sampler = DiffusionSampler(near, (2,), SHARES, frame=frame)
    starts = sampler.sample_reference(20_000, generator=seeded_generator(1))
    weights = (sampler.log_density(starts) - sampler.log_reference_at(starts) - 1.0).exp()
    assert_z(weights, 1.0)


def test_a_mode_that_no_walk_reaches_makes_log_z_unreliable():
    with pytest.warns(UserWarning, match="unreliable"):
        found = estimated(pair)
    assert abs(found.log_z - 1.0) < 1e-6
    assert "of the final draws" in found.advice
    sequence = estimated(pair, is_sequence=True)  # along noise levels modes are not searched for
    assert sequence.is_reliable


def test_the_check_alone_has_no_verdict():
    sampler = DiffusionSampler(near, (2,), SHARES)
    ends, weights = sampler.walk(300, generator=seeded_generator(2))
    del weights
    found = estimated(near, None)
    seen = walks_backwards(sampler, ends.expand(8, 300, 2), found, SMALL, generator=seeded_generator(3))
    assert seen.is_sound
