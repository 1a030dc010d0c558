"""Walks down the levels and starting noise."""

import pytest
import torch

from drl_density.samplers.walk import falling_levels, starting_noise
from drl_density.testing import GaussianMixtureSequence, seeded_generator

MODEL = GaussianMixtureSequence.example().model


def test_levels_fall_evenly_from_the_top_to_zero():
    assert falling_levels(6, 3, None) == (6.0, 4.0, 2.0, 0.0)


def test_levels_of_ones_own_are_kept():
    assert falling_levels(6, 3, (6, 5.5, 0)) == (6.0, 5.5, 0.0)


@pytest.mark.parametrize("levels", [(6.0,), (6.0, 6.0, 0.0), (5.0, 0.0), (6.0, 1.0), (6.0, 2.0, 3.0, 0.0)], ids=str)
def test_levels_out_of_order_are_refused(levels):
    with pytest.raises(ValueError, match="levels must fall from 6 to 0"):
        falling_levels(6, 3, levels)


def test_a_walk_has_steps():
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        falling_levels(6, 0, None)


def test_noise_is_standard_normal_from_the_generator():
    expected = torch.randn(5, 2, generator=seeded_generator(0), dtype=torch.float64)
    assert torch.equal(starting_noise(MODEL, 5, seeded_generator(0)), expected)


def test_given_noise_is_checked_and_used():
    noise = torch.zeros(3, 2, dtype=torch.float64)
    assert starting_noise(MODEL, 3, None, noise=noise) is noise
    with pytest.raises(ValueError, match=r"expected noise at level 8 of shape \(4, 2\), got \(3, 2\)"):
        starting_noise(MODEL, 4, None, noise=noise)
