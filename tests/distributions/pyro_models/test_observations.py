"""Observed sites of a model."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from drl_density.distributions.pyro_models.observations import find_factors, find_observations, refuse_nan

Y = torch.tensor([1.0, 0.0, 2.0])
SEEN = torch.tensor([True, False, True])


def trace_of(model):
    trace = poutine.trace(model).get_trace()
    trace.compute_log_prob()
    return trace


def test_observations_are_found_and_what_observes_nothing_is_not():
    def model():
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        pyro.deterministic("twice", 2 * mean)
        pyro.factor("penalty", -(mean**2))
        with pyro.plate("rows", 3):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=Y, obs_mask=SEEN)
            pyro.sample("plain_observed", dist.Normal(mean, 1.0), obs=Y)
        with poutine.mask(mask=False):
            pyro.sample("hidden", dist.Normal(mean, 1.0), obs=Y[0])
        pyro.sample("whole", dist.Normal(mean, 1.0).expand([3]).to_event(1), obs=Y)

    trace = trace_of(model)
    found = find_observations(trace)
    assert list(found) == ["y", "plain_observed", "whole"]
    assert find_factors(trace) == ("penalty",)
    assert found["y"].seen.tolist() == [1, 2]
    every = trace.nodes["y_observed"]["unscaled_log_prob"]
    assert torch.equal(found["y"].chosen(every), every[SEEN])
    assert found["plain_observed"].present is None
    assert found["whole"].event_dim == 1
    assert torch.equal(found["whole"].seen, Y)


def test_nan_is_refused_by_the_name_of_its_site():
    def missing():
        pyro.sample("y", dist.Normal(torch.zeros(3), 1.0).to_event(1), obs=torch.tensor([1.0, math.nan, 2.0]))

    def root():
        pyro.sample("y", dist.Normal(torch.tensor(-1.0).sqrt(), 1.0), obs=Y[0])

    with pyro.validation_enabled(False):
        with pytest.raises(ValueError, match="'y' holds 1 NaN among 3 values: .*obs_mask"):
            refuse_nan(trace_of(missing))
        with pytest.raises(ValueError, match="of observed site 'y' is NaN .* a root of a negative number"):
            refuse_nan(trace_of(root))
    refuse_nan(trace_of(lambda: pyro.sample("y", dist.Normal(0.0, 1.0), obs=Y[0])))
