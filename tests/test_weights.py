"""Log-weight arithmetic and the record of estimates."""

import dataclasses
import json
import math
import warnings

import pytest
import torch
import xarray as xr

from drl_density.errors import NumericalError, UnreliableEstimateWarning, Verdict
from drl_density.log_weights import pareto_k
from drl_density.testing import assert_z, seeded_generator
from drl_density.weights import (
    Estimate,
    LogPartitionEstimate,
    OtherSide,
    PathSummary,
    all_but_one,
    assess_weights,
    combine_replicates,
    jackknife_error,
    judge_estimate,
    log_mean_exp,
    resample,
    resample_poor,
    standard_error_of_log_mean,
    weight_ess,
)


def test_log_mean_exp_is_the_log_of_the_mean():
    weights = torch.rand(7, 5, dtype=torch.float64)
    torch.testing.assert_close(log_mean_exp(weights.log(), 1), weights.mean(1).log(), rtol=1e-10, atol=0)
    shifted = log_mean_exp(weights.log() + 5000, 1)
    torch.testing.assert_close(shifted, weights.mean(1).log() + 5000, rtol=1e-10, atol=0)


def test_ess_of_even_and_of_single_weights():
    assert float(weight_ess(torch.full((9,), 3.0))) == pytest.approx(9, rel=1e-10)
    one = torch.full((9,), -math.inf)
    one[2] = 0
    assert float(weight_ess(one)) == pytest.approx(1, rel=1e-10)


def test_standard_error_has_the_right_size():
    """Over 400 repetitions the z-scores of lognormal weights have variance near one."""
    log_weights = 0.5 * torch.randn(400, 500, generator=seeded_generator(1), dtype=torch.float64)
    z = (log_mean_exp(log_weights, 1) - 0.125) / standard_error_of_log_mean(log_weights, 1)
    # Variance of a variance over 400 normal scores: 2 / 400; the delta method's own bias is of order 1 / 500.
    assert_z(z.var(), 1.0, math.sqrt(2 / 400) + 0.01)


def test_replicates_join_by_log_mean_exp():
    log_z = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    value, error = combine_replicates(log_z)
    assert value == pytest.approx(math.log((math.e + math.e**2 + math.e**3) / 3), rel=1e-10)
    assert error > 0
    with pytest.raises(ValueError, match="at least 2"):
        combine_replicates(log_z[:1])


def test_resampling_is_unbiased():
    log_weights = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    shares = log_weights.softmax(0)
    generator = seeded_generator(2)
    counts = torch.stack(
        [torch.bincount(resample(log_weights, 10, generator=generator), minlength=3) for _ in range(4000)]
    )
    assert_z(counts.double(), 10 * shares)


def pareto_k_by_arviz(log_weights):
    import arviz as az

    if hasattr(az, "psislw"):
        return float(az.psislw(log_weights)[1])
    # From 1.0 on it takes log likelihoods, whose negatives are the log weights of leaving one out.
    return float(xr.DataArray(-log_weights, dims="draw").azstats.psislw(dim=["draw"])[1])


def test_pareto_k_agrees_with_arviz():
    pytest.importorskip("arviz")
    for scale in (0.5, 1.5, 3.0):
        log_weights = scale * torch.randn(2000, generator=seeded_generator(3), dtype=torch.float64)
        theirs = pareto_k_by_arviz(log_weights.numpy())
        # Same estimator, prior and tail length; the tail cut may differ by one draw of about 134.
        assert abs(pareto_k(log_weights) - theirs) < 0.02


SOUND = OtherSide(0.0, 0.01, 0.8, 0.1, 0.01, 0.5)


@pytest.mark.parametrize(
    ("scale", "bias", "other_side", "verdict"),
    [
        (0.1, "none-known", None, "reliable"),
        (0.1, "lower", None, "doubtful"),
        (0.1, "lower", SOUND, "reliable"),
        (0.1, "lower", dataclasses.replace(SOUND, doubts=("a mode may be missing",)), "doubtful"),
        (0.1, "lower", dataclasses.replace(SOUND, faults=("a mode is missing",)), "unreliable"),
        (1.6, "lower", SOUND, "doubtful"),
    ],
)
@pytest.mark.filterwarnings("ignore:log Z estimate")
def test_verdicts(scale, bias, other_side, verdict):
    weights = scale * torch.randn(8, 500, generator=seeded_generator(4))
    estimate = judge_estimate(weights, bias=bias, other_side=other_side)
    assert estimate.verdict is Verdict(verdict)
    assert estimate.is_reliable == (verdict == "reliable")
    assert estimate.is_one_sided == (scale < 1 and bias == "lower" and other_side is None)
    if other_side is not None and scale < 1:
        assert [text for text in (*other_side.faults, *other_side.doubts) if text not in estimate.advice] == []


def test_a_single_heavy_particle_is_unreliable():
    log_weights = torch.zeros(8, 500)
    log_weights[:, 0] = 20 + 3 * torch.arange(8)
    with pytest.warns(UnreliableEstimateWarning, match="unreliable"):
        estimate = judge_estimate(log_weights, bias="lower")
    assert not estimate.is_reliable


def test_state_round_trip():
    weights, other = 0.1 * torch.randn(4, 50), dataclasses.replace(SOUND, doubts=("open",))
    estimate = judge_estimate(weights, bias="lower", path=PathSummary(num_densities=3), other_side=other)
    values, tensors = estimate.to_state()
    again = LogPartitionEstimate.from_state(json.loads(json.dumps(values)), tensors)
    assert str(again) == str(estimate)
    assert again.other_side == other
    assert (again.shifted(2.0).other_side.log_z, again.shifted(2.0).other_side.upper) == (2.0, 2.1)
    del values["other_side"]  # as in a folder that was written before there was a check
    assert LogPartitionEstimate.from_state(values, tensors).other_side is None
    assert torch.equal(again.log_weights, estimate.log_weights)
    with pytest.raises(ValueError, match="bias must be one of"):
        judge_estimate(torch.zeros(2, 2), bias="both")


def test_advice_and_path_are_part_of_the_judgement():
    path = PathSummary(num_densities=7, least_ess_share=0.1)
    estimate = assess_weights(torch.zeros(4, 50), bias="lower", path=path)
    assert estimate.verdict is Verdict.DOUBTFUL
    assert "least ESS share 0.1" in estimate.advice
    assert estimate.path is path


def test_only_judging_warns():
    log_weights = torch.zeros(4, 50)
    log_weights[0] += 9.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert assess_weights(log_weights, bias="lower").verdict is Verdict.UNRELIABLE
    with pytest.warns(UnreliableEstimateWarning):
        judge_estimate(log_weights, bias="lower")


def test_lost_weights_are_judged_and_not_an_error():
    estimate = assess_weights(torch.full((4, 50), -math.inf), bias="lower")
    assert (estimate.log_z, estimate.verdict) == (-math.inf, Verdict.UNRELIABLE)


@pytest.mark.parametrize("probability", [0.5, 0.8, 0.95])
def test_intervals_cover_as_often_as_they_say(probability):
    values = torch.randn(4000, generator=seeded_generator(6), dtype=torch.float64)
    inside = [Estimate(float(value), 1.0).interval(probability) for value in values]
    covers = torch.tensor([lower < 0 < upper for lower, upper in inside], dtype=torch.float64)
    assert_z(covers, probability)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = torch.randn(9, generator=seeded_generator(7), dtype=torch.float64)
    left_out = torch.stack([values[kept].mean() for kept in all_but_one(9)])
    assert jackknife_error(left_out) == pytest.approx(float(values.std()) / 3)


def test_only_poor_groups_are_resampled_and_keep_their_mean_weight():
    log_weights = torch.randn(3, 40, generator=seeded_generator(8), dtype=torch.float64)
    log_weights[1, 7] = 50.0  # all but the whole weight of the group
    index, after = resample_poor(log_weights, torch.tensor([False, True, False]), generator=seeded_generator(9))
    index = index.reshape(3, 40)
    assert torch.equal(index[[0, 2]], torch.arange(120).reshape(3, 40)[[0, 2]])
    assert bool((index[1] == 47).all())
    assert torch.equal(after[[0, 2]], log_weights[[0, 2]])
    torch.testing.assert_close(after[1], log_mean_exp(log_weights[1]).expand(40))
    untouched, same = resample_poor(log_weights, torch.zeros(3, dtype=torch.bool))
    assert torch.equal(untouched, torch.arange(120))
    assert torch.equal(same, log_weights)


def test_nothing_is_resampled_from_the_dead():
    with pytest.raises(NumericalError, match="none to resample"):
        resample(torch.full((4,), -math.inf), 4)


def test_weights_of_zero_do_not_count_as_uneven():
    weights = torch.zeros(4, 400, dtype=torch.float64)
    weights[:, ::2] = -math.inf
    found = assess_weights(weights, bias="lower", other_side=SOUND)
    assert found.verdict is Verdict.RELIABLE
    assert found.log_z == pytest.approx(-math.log(2))
