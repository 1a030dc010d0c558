"""Annealed importance sampling against closed forms."""

import dataclasses

import pytest

from drl_density import annealed_importance_sampling, sequence_path
from drl_density.testing import assert_z, seeded_generator
from tests.partition_function.known_answers import SMALL, SYSTEM


@pytest.mark.parametrize("resample_below", [None, 0.5], ids=["plain", "resampled"])
def test_recovers_the_offset(resample_below):
    settings = dataclasses.replace(SMALL, resample_below=resample_below)
    estimate = annealed_importance_sampling(
        sequence_path(SYSTEM.model), settings=settings, generator=seeded_generator(1)
    )
    assert_z(estimate.log_z, SYSTEM.log_z(0), estimate.standard_error)
    assert estimate.bias == "lower"
    assert estimate.verdict in ("reliable", "doubtful")
