"""Tests on chains and samples are calibrated and see what moves."""

import pytest
import torch

from drl_density.diagnostics import drift_test, energy_distance_test, rank_drift_test
from drl_density.testing import seeded_generator


def test_drift_is_calibrated_and_seen():
    generator = seeded_generator(5)
    p_values = [drift_test(torch.randn(100, 12, 2, generator=generator))[1] for _ in range(200)]
    # Bonferroni over four tests: at most 5 % below 0.05; 23 of 200 has probability 1e-4.
    assert sum(p < 0.05 for p in p_values) < 23
    moving = torch.randn(100, 12, 2, generator=generator) + torch.linspace(0, 1, 100)[:, None, None]
    shift, p_value = drift_test(moving)
    assert p_value < 1e-4
    assert float(shift[0].min()) > 0.3
    widening = torch.randn(100, 12, 2, generator=generator) * torch.linspace(1, 2, 100)[:, None, None]
    assert drift_test(widening)[1] < 1e-4


def test_drift_of_ranks_is_calibrated_and_seen_without_moments():
    generator = seeded_generator(6)

    def cauchy(count):
        return torch.randn(count, 3, generator=generator) / torch.randn(count, 3, generator=generator)

    p_values = [rank_drift_test(cauchy(60), cauchy(60)).p_value for _ in range(200)]
    # Bonferroni over six tests: at most 5 % below 0.05; 23 of 200 has probability 1e-4.
    assert sum(p < 0.05 for p in p_values) < 23
    before, after = cauchy(400), cauchy(400)
    assert rank_drift_test(before, after + torch.tensor([0.0, 1.0, 0.0])).p_value < 1e-6
    wider = rank_drift_test(before, after * torch.tensor([1.0, 1.0, 3.0]))
    assert wider.p_value < 1e-6
    assert int(wider.shift[1].abs().argmax()) == 2
    assert rank_drift_test(before, before).p_value == 1.0
    with pytest.raises(ValueError, match="each of two chains"):
        rank_drift_test(before, after[:-1])


def test_energy_distance_is_calibrated_and_sees_a_shift():
    generator = torch.Generator().manual_seed(0)
    p_values = []
    for _ in range(40):
        x, y = torch.randn(40, 2, generator=generator), torch.randn(50, 2, generator=generator)
        p_values.append(energy_distance_test(x, y, num_permutations=99, generator=generator)[1])
    assert 0.3 < sum(p_values) / 40 < 0.7
    distance, p_value = energy_distance_test(x, y + 1.5, num_permutations=199, generator=generator)
    assert p_value <= 0.01
    assert distance > 0.2
