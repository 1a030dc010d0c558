"""Sandwiches of sequences whose log Z is known."""

import math

import pytest
import torch

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.errors import UnreliableEstimateWarning, Verdict
from drl_density.networks import NoTilt
from drl_density.partition_function import (
    sequence_sandwich,
)
from drl_density.testing import GaussianMixtureSequence
from tests.partition_function.known_answers import SMALL_SANDWICH


@pytest.mark.parametrize("dim", [2, 8])
def test_sandwich_of_a_sequence_covers_the_truth(dim):
    covered, z = 0, []
    for seed in range(3):
        system = GaussianMixtureSequence.example(dim=dim, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        data = system.sample(200, 0, generator=generator)
        result = sequence_sandwich(system.model, data=data, settings=SMALL_SANDWICH, generator=generator)
        truth = float(system.log_z(0))
        assert result.bracket[0] < truth < result.bracket[1]
        assert result.verdict in ("reliable", "doubtful")
        covered += result.lower < truth < result.upper
        z.append((result.log_z - truth) / result.standard_error)
    assert covered >= 2  # under 95 % coverage fewer than 2 of 3 has probability 7e-3
    assert max(map(abs, z)) < 6


def test_a_base_alone_has_a_log_z_of_zero_and_nothing_is_run(monkeypatch):
    base = NoisedGaussianMixture.standard(3)
    model = drl.EnergySequence(drl.NoiseSchedule.log_spaced(4), NoTilt(), (3,), base=base)
    monkeypatch.setattr(base, "forward", None)  # no density is evaluated
    monkeypatch.setattr(NoisedGaussianMixture, "sample", None)
    found = sequence_sandwich(model, settings=SMALL_SANDWICH)
    assert (found.log_z, found.standard_error, found.lower, found.upper) == (0.0, 0.0, 0.0, 0.0)
    assert (found.verdict, found.bracket, found.overlap) == (Verdict.RELIABLE, (0.0, 0.0), 1.0)
    assert found.interval(0.5) == (0.0, 0.0)
    assert found.forward.shape == (SMALL_SANDWICH.num_replicates, SMALL_SANDWICH.num_particles)
    assert found.advice == "the density is its reference, which is normalised: log Z is 0 exactly"


class _LostMode(torch.nn.Module):
    """Two far modes at level 0; the upper levels know the first alone, so that no path from noise reaches the second."""

    has_bounded_growth = False

    def __init__(self):
        super().__init__()
        weights, means = torch.tensor([0.5, 0.5]), torch.tensor([[-1.0] * 4, [3.0] * 4])
        narrow = 0.02 * torch.eye(4).expand(2, 4, 4)
        self.both = NoisedGaussianMixture(weights, means, narrow)
        self.one = NoisedGaussianMixture(torch.ones(1), means[:1], narrow[:1])
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, log_snr):
        is_clean = log_snr > 4.0
        return torch.where(is_clean, self.both(x, log_snr), self.one(x, log_snr))


def test_a_lost_mode_is_unknown_and_never_small():
    model = drl.EnergySequence(
        drl.NoiseSchedule.log_spaced(6, sigma_min=0.1), _LostMode(), (4,), has_base=False, is_integrable=True
    )
    generator = torch.Generator().manual_seed(0)
    modes = torch.tensor([[-1.0] * 4, [3.0] * 4])[torch.arange(100) % 2]
    data = modes + 0.14 * torch.randn(100, 4, generator=generator)
    with pytest.warns(UnreliableEstimateWarning, match="no path from noise reaches"):
        result = sequence_sandwich(model, data=data, settings=SMALL_SANDWICH, generator=generator)
    assert result.verdict == "unknown"
    assert (result.lower, result.upper) == (-math.inf, math.inf)
