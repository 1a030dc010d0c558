"""The record of walks along an exact sequence, and of walks that no model could have made."""

import dataclasses
import math

import pytest
import torch

from drl_density.errors import Verdict
from drl_density.partition_function.sequence_paths.particles import PathWeights
from drl_density.partition_function.two_sided.estimates import Estimator
from drl_density.partition_function.two_sided.many_dimensions.assemble import assemble_many_dimensions
from tests.partition_function.two_sided.many_dimensions.exact_analysers import SMALL, small_walks


def moved(weights, by):
    """The same paths, each weighing ``by`` nats more in its first step."""
    increments = weights.increments.clone()
    increments[..., 0] += by
    return PathWeights(increments)


def assembled(**changes):
    """The record of the small walks with some of them changed."""
    return assemble_many_dimensions(dataclasses.replace(small_walks(), **changes), settings=SMALL)


def test_log_z_of_the_exact_mixture_is_zero_and_reliable():
    found = assembled()
    assert abs(found.log_z) < 0.3
    assert found.lower < 0 < found.upper
    assert found.verdict is Verdict.RELIABLE, found.advice
    assert found.bracket[0] < 0 < found.bracket[1]
    for name in (Estimator.RESAMPLED, Estimator.CONDITIONAL, Estimator.BENNETT_RESAMPLED, Estimator.BENNETT_DATA):
        value, error = found.estimates[name]
        assert abs(value) < 5.4 * error + 0.05, name  # Student's t with 7 degrees of freedom, one in a thousand
    assert found.estimates[Estimator.NOISE].log_z < -5  # annealing collapses, and is not asked to agree
    assert found.certificate == pytest.approx(found.estimates[Estimator.RESAMPLED].log_z - math.log(20))


def test_the_gap_by_segment_adds_up_to_the_gap_of_rows_and_noise():
    found, walks = assembled(), small_walks()
    assert found.segments is not None
    assert walks.reverse_from_rows is not None
    gap = walks.reverse_from_rows.log_weights.mean() - walks.forward.log_weights.mean()
    assert found.segments.total == pytest.approx(float(gap))
    assert len(found.segments.gaps) == 10
    assert found.segments.num_rows == 64
    assert str(found.segments) in found.advice


def test_a_level_that_disagrees_is_named():
    """Half a hundred nats between levels 0 and 1 leave nothing to overlap, and the advice names these levels."""
    rows, reverse = small_walks().reverse_from_rows, small_walks().reverse
    found = assembled(reverse_from_rows=moved(rows, 50.0), reverse=moved(reverse, 50.0), reverse_from_data=None)
    assert found.verdict is Verdict.UNKNOWN
    assert "hardly overlap" in found.advice
    assert "levels 0 to 1 carry 50" in found.advice
    assert (found.lower, found.upper) == (-math.inf, math.inf)


def test_draws_that_no_model_could_have_made_are_unknown_and_nothing_is_lost():
    walks = small_walks()
    found = assembled(reverse=moved(walks.reverse, -50.0))
    assert found.verdict is Verdict.UNKNOWN
    assert "which draws of the model never do" in found.advice
    assert found.log_z == found.estimates[Estimator.RESAMPLED].log_z
    assert found.overlap == 0


def test_chains_from_data_that_no_model_could_have_made_are_unreliable():
    found = assembled(reverse_from_data=moved(small_walks().reverse_from_data, -50.0))
    assert found.verdict is Verdict.UNRELIABLE
    assert "have not come to the model's mass" in found.advice
    assert Estimator.BENNETT_DATA not in found.estimates
    assert found.lower < 0 < found.upper


def test_chains_from_data_far_below_widen_the_interval_and_far_above_are_a_lost_basin():
    walks = small_walks()
    below = assembled(reverse_from_data=moved(walks.reverse_from_data, -0.8))
    assert below.verdict is Verdict.DOUBTFUL
    assert below.lower < -0.3
    above = assembled(reverse_from_data=moved(walks.reverse_from_data, 2.0))
    assert above.verdict is Verdict.UNKNOWN
    assert "no path from noise reaches" in above.advice


def test_without_rows_the_gap_is_that_of_the_models_own_draws():
    found = assembled(reverse_from_rows=None, reverse_from_data=None)
    assert found.segments is not None
    assert found.segments.num_rows == 96
    assert found.verdict is Verdict.RELIABLE
    assert Estimator.UPPER_ROWS not in found.estimates


def test_without_equilibrium_draws_the_overlap_is_that_of_strangers():
    annealing = dataclasses.replace(small_walks().annealing, equilibrium=None)
    found = assembled(annealing=annealing)
    assert Estimator.MULTISTATE_LOWER not in found.estimates
    torch.testing.assert_close(found.path.overlap, torch.eye(22, dtype=torch.float64))
