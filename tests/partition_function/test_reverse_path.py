"""Reverse path weights against closed forms."""

import math

import torch

import drl_density as drl
from drl_density.partition_function import (
    bennett,
    forward_weights,
    level_recursion,
    plan_reverse_path,
    reverse_weights,
)
from drl_density.testing import GaussianMixtureSequence, assert_z, gaussian_sequence


def test_reverse_path_is_unbiased_in_both_directions():
    system = GaussianMixtureSequence.example(dim=3, seed=2)
    generator = torch.Generator().manual_seed(0)
    path = plan_reverse_path(system.model, system.sample(500, 0, generator=generator), generator=generator)
    forward, ends = forward_weights(path, 2000, generator=generator)
    reverse = reverse_weights(path, system.sample(2000, 0, generator=generator), generator=generator)
    truth = float(system.log_z(0))
    for sign, weights in ((1, forward), (-1, reverse)):
        shares = (sign * (weights - truth)).exp()
        assert_z(float(shares.mean()), 1.0, float(shares.std()) / math.sqrt(len(shares)))
    assert ends.shape == (2000, 3)
    assert float(forward.mean()) < truth < float(reverse.mean())


def test_path_of_a_correlated_gaussian_has_hardly_any_spread():
    """The reverse kernels have the exact covariance of a Gaussian level, whatever its axes: only the means' step errs."""
    factor = torch.randn(6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    covariance = factor @ factor.T / 6 + 0.05 * torch.eye(6, dtype=torch.float64)
    system = gaussian_sequence(torch.zeros(6, dtype=torch.float64), covariance, drl.NoiseSchedule.log_spaced(8))
    generator = torch.Generator().manual_seed(0)
    path = plan_reverse_path(system.model, system.sample(20_000, 0, generator=generator), generator=generator)
    forward, _ = forward_weights(path, 1000, generator=generator)
    reverse = reverse_weights(path, system.sample(1000, 0, generator=generator), generator=generator)
    assert float(reverse.mean() - forward.mean()) < 0.2
    assert bennett(forward, reverse).overlap > 0.95


def test_errors_at_other_levels_cost_variance_not_bias():
    """Levels above 0 disturbed by a smooth wave: the path estimate stays at the log Z of level 0."""
    system = GaussianMixtureSequence.example(dim=2, seed=1)
    network = system.model.network
    top = float(system.schedule.log_snr_at(0))

    class Disturbed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.weight = network, torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

        def forward(self, x, log_snr):
            return self.inner(x, log_snr) + 0.5 * torch.sin(3 * x.sum(-1)) * (log_snr < top - 1e-9)

    model = drl.EnergySequence(
        system.schedule, Disturbed(), (2,), has_base=False, is_integrable=True, dtype=torch.float64
    )
    generator = torch.Generator().manual_seed(0)
    noised = [system.sample(4000, level, generator=generator) for level in range(1, model.num_levels)]
    draws = [*noised, torch.randn(4000, 2, generator=generator, dtype=torch.float64)]
    truth = float(system.log_z(0))
    assert abs(float(level_recursion(system.model, draws)[0]) - truth) < 0.06  # consistent where the levels agree ...
    assert abs(float(level_recursion(model, draws)[0]) - truth) > 0.12  # ... and moved by levels that do not
    path = plan_reverse_path(model, system.sample(400, 0, generator=generator), generator=generator)
    forward, _ = forward_weights(path, 2000, generator=generator)
    estimate = bennett(forward, reverse_weights(path, system.sample(2000, 0, generator=generator), generator=generator))
    assert_z(estimate.log_z, float(system.log_z(0)), estimate.standard_error)
