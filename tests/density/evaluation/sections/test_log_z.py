"""The estimates of log Z in a report are those of the sandwich."""

import dataclasses

import numpy as np
import pytest

import drl_density as drl
from drl_density.density.evaluation.sections.log_z import LogZ
from drl_density.partition_function import SegmentGaps, sequence_sandwich
from drl_density.testing import seeded_generator
from tests.density.closed_form import SYSTEM

SETTINGS = drl.SandwichSettings(num_particles=16, num_replicates=2, num_mixing_steps=2, path_steps_per_level=4)
pytestmark = pytest.mark.filterwarnings("ignore::drl_density.errors.DRLDensityWarning")


def test_groups_and_attributes_hold_the_sandwich():
    data = SYSTEM.sample(20, 0, generator=seeded_generator(0))
    result = sequence_sandwich(SYSTEM.model, data=data, settings=SETTINGS, generator=seeded_generator(1))
    section = LogZ(result, SETTINGS)
    attributes, groups = section.attributes(), section.groups()
    assert (attributes["log_z_lower"], attributes["log_z"]) == (result.lower, result.log_z)
    assert attributes["verdict"] == str(result.verdict)
    assert attributes["num_particles"] == 16
    assert set(groups) == {"ais", "paths", "estimates"}
    np.testing.assert_array_equal(groups["ais"]["log_weight"], result.annealing.log_weights)
    assert set(groups["paths"]) == {"forward", "reverse_from_noise", "reverse_from_data"}
    by_name = dict(zip(groups["estimates"]["estimator"].values, groups["estimates"]["value"].values, strict=True))
    assert by_name == {str(name): estimate.log_z for name, estimate in result.estimates.items()}


def test_the_gap_by_segment_is_a_group_of_its_own():
    result = sequence_sandwich(SYSTEM.model, settings=SETTINGS, generator=seeded_generator(2))
    assert result.segments is None
    gaps = SegmentGaps(((0.0, 1.0), (1.0, 2.0)), (6.0, 0.5), (0.1, 0.2), (3.0, 0.4), 64)
    found = LogZ(dataclasses.replace(result, segments=gaps), SETTINGS).groups()["segments"]
    assert found["gap"].values.tolist() == [6.0, 0.5]
    assert found["noisier_level"].values.tolist() == [1.0, 2.0]
    assert found.attrs["num_rows"] == 64
