"""Long chains in bounded memory, and the modes that they visit."""

import numpy as np
import torch

from drl_density.density.evaluation.long_chains import marginal_target, mode_occupancy, run_long
from drl_density.mcmc import HMC
from drl_density.testing import seeded_generator
from tests.density.evaluation.exact import GAUSSIAN, rows_of, two_modes


def test_memory_does_not_follow_the_length(monkeypatch):
    monkeypatch.setattr("drl_density.density.evaluation.long_chains.MOST_KEPT", 100)
    target = marginal_target(GAUSSIAN.model, rows_of(GAUSSIAN), 0.0, 8, seeded_generator(2))
    run = run_long(target, HMC(num_leapfrog=2), 250, seeded_generator(3))
    assert run.thin == 3
    assert len(run.result.draws) == 83
    assert len(run.resolved) == 100
    assert run.gradients == 500


def test_occupancy_counts_modes():
    system = two_modes(0.3)
    rows = rows_of(system)
    draws = torch.stack([rows_of(two_modes(0.9), 64)] * 5)
    found = mode_occupancy(rows, draws, torch.arange(64))
    assert len(found.data) == 2
    assert found.p_value < 1e-6
    assert found.switches == 0
    np.testing.assert_allclose(found.data.sum(), 1.0)
    same = mode_occupancy(
        rows, system.sample(128, 0.0, generator=seeded_generator(6)).unflatten(0, (2, 64)), torch.arange(64)
    )
    assert same.p_value > 1e-4
