"""Placing of geometric bridges."""

import pyro.distributions as dist
import pytest
import torch

import drl_density as drl
from drl_density.errors import NumericalError
from drl_density.partition_function import (
    place_bridges,
)


def test_bridges_are_placed_where_they_are_needed():
    base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    generator = torch.Generator().manual_seed(0)
    near = place_bridges(
        base, dist.Normal(torch.zeros(2), 0.9).to_event(1).log_prob, drl.AISSettings(), generator=generator
    )
    far = place_bridges(
        base, dist.Normal(torch.ones(2), 0.1).to_event(1).log_prob, drl.AISSettings(), generator=generator
    )
    assert len(near.levels) < len(far.levels)
    assert far.levels[-1] == 1.0
    with pytest.raises(NumericalError, match="placing bridges stopped"):
        place_bridges(
            base, dist.Normal(torch.ones(2), 0.1).to_event(1).log_prob, drl.AISSettings(), most=2, generator=generator
        )
