"""Statistical checks: what passes, what fails, and what the message says."""

import math

import pytest
import torch

from drl_density.testing import assert_z, seeded_generator
from drl_density.testing.statistics import LARGEST_Z, NUM_SUITE_CHECKS, SUITE_FAILURE_RATE


def test_the_budget_is_shared_among_the_checks():
    """Two-sided: 2 (1 - Phi(z)) of each check, times their number, is the rate."""
    tail = math.erfc(LARGEST_Z / math.sqrt(2))
    assert tail * NUM_SUITE_CHECKS == pytest.approx(SUITE_FAILURE_RATE, rel=1e-6)


@pytest.mark.parametrize("share", [0.99, -0.99])
def test_an_estimate_inside_the_budget_passes(share):
    assert_z(torch.tensor(1 + 0.1 * share * LARGEST_Z), 1.0, 0.1)


@pytest.mark.parametrize("share", [1.01, -1.01])
def test_an_estimate_outside_fails(share):
    with pytest.raises(AssertionError, match=r"against 1.0: z = .* beyond 5.20 \(seed 0\)"):
        assert_z(torch.tensor(1 + 0.1 * share * LARGEST_Z), 1.0, 0.1)


def test_draws_are_compared_by_their_mean_and_its_error():
    draws = torch.randn(400, 2, generator=seeded_generator(0)) + torch.tensor([0.0, 3.0])
    assert_z(draws, torch.tensor([0.0, 3.0]))
    with pytest.raises(AssertionError):
        assert_z(draws, torch.tensor([0.0, 2.5]))


def test_not_a_number_fails():
    with pytest.raises(AssertionError):
        assert_z(torch.tensor(float("nan")), 0.0, 1.0)


def test_the_variable_shifts_all_seeds(monkeypatch):
    monkeypatch.delenv("DRL_DENSITY_TEST_SEED", raising=False)
    plain = torch.rand(3, generator=seeded_generator(1))
    assert torch.equal(torch.rand(3, generator=seeded_generator(1)), plain)
    assert not torch.equal(torch.rand(3, generator=seeded_generator(2)), plain)
    monkeypatch.setenv("DRL_DENSITY_TEST_SEED", "1")
    assert not torch.equal(torch.rand(3, generator=seeded_generator(1)), plain)
