"""Log-weight arithmetic and the record of estimates."""

import math

import pytest
import torch
import xarray as xr

from drl_density.errors import UnreliableEstimateWarning, Verdict
from drl_density.testing import assert_z, seeded_generator
from drl_density.weights import (
    LogPartitionEstimate,
    PathSummary,
    combine_replicates,
    judge_estimate,
    log_mean_exp,
    pareto_k,
    resample,
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


@pytest.mark.parametrize(("scale", "verdict"), [(0.1, "reliable"), (1.6, "doubtful")])
def test_verdicts(scale, verdict):
    estimate = judge_estimate(scale * torch.randn(8, 500, generator=seeded_generator(4)), bias="lower")
    assert estimate.verdict is Verdict(verdict)
    assert estimate.is_reliable == (verdict == "reliable")


def test_a_single_heavy_particle_is_unreliable():
    log_weights = torch.zeros(8, 500)
    log_weights[:, 0] = 20 + 3 * torch.arange(8)
    with pytest.warns(UnreliableEstimateWarning, match="unreliable"):
        estimate = judge_estimate(log_weights, bias="lower")
    assert not estimate.is_reliable


def test_state_round_trip():
    estimate = judge_estimate(0.1 * torch.randn(4, 50), bias="lower", path=PathSummary(num_densities=3))
    again = LogPartitionEstimate.from_state(*estimate.to_state())
    assert str(again) == str(estimate)
    assert torch.equal(again.log_weights, estimate.log_weights)
    with pytest.raises(ValueError, match="bias must be one of"):
        judge_estimate(torch.zeros(2, 2), bias="both")
