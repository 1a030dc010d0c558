"""Walks of diffusion samplers: weights exact for any control, bounds on both sides."""

import math

import pytest
import torch

from drl_density import NoiseSchedule
from drl_density.diffusion_sampler import (
    DiffusionSampler,
    DiffusionSamplerSettings,
    Frame,
    sequence_sampler,
)
from drl_density.testing import GaussianMixtureSequence, assert_z, gaussian_sequence, seeded_generator

SHARES = DiffusionSamplerSettings(num_steps=40).shares()


def target(x):
    """N((0.5, -0.5), 0.4^2 I) times exp(2)."""
    return 2.0 + torch.distributions.Normal(torch.tensor([0.5, -0.5], dtype=torch.float64), 0.4).log_prob(x).sum(-1)


def test_without_control_a_reference_target_has_constant_weights():
    sampler = DiffusionSampler(lambda x: 3.0 - 0.5 * (x**2).sum(-1) / 4, (3,), SHARES, scale=2.0)
    _, weights = sampler.walk(50, generator=seeded_generator(0))
    torch.testing.assert_close(weights, torch.full_like(weights, 3.0 + 1.5 * math.log(2 * math.pi * 4)))


def test_weights_are_unbiased_for_any_control():
    def odd(y, step):
        return 0.3 * torch.sin(2 * y + step)

    sampler = DiffusionSampler(target, (2,), SHARES, control=odd)
    _, weights = sampler.walk(40_000, generator=seeded_generator(0))
    shares = (weights - 2.0).exp()
    assert_z(float(shares.mean()), 1.0, float(shares.std()) / 200)
    draws = torch.tensor([0.5, -0.5]).double() + 0.4 * torch.randn(20_000, 2, generator=seeded_generator(1)).double()
    inverse = (2.0 - sampler.reverse(draws, generator=seeded_generator(2))).exp()
    assert_z(float(inverse.mean()), 1.0, float(inverse.std()) / math.sqrt(20_000))


def test_a_random_network_is_unbiased_on_a_mixture():
    """Exact scores disturbed by a random network: E[w] = Z as before."""
    system = GaussianMixtureSequence.example(dim=2, seed=0)
    layers = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)).double()
    with torch.no_grad():
        for index, parameter in enumerate(layers.parameters()):
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=seeded_generator(index), dtype=torch.float64))
    sampler = sequence_sampler(system.model, num_steps=20)
    exact = sampler.control

    def control(y, step):
        return exact(y, step) + layers(torch.cat([y, torch.full((len(y), 1), step / 20).double()], 1))

    sampler.control = control
    with torch.no_grad():
        weights = (sampler.walk(30_000, generator=seeded_generator(0))[1] - system.log_z(0)).exp()
    assert float(weights.log().std()) > 0.3
    assert_z(weights, 1.0)


def test_exact_scores_leave_hardly_any_spread_and_more_steps_less():
    system = gaussian_sequence(torch.zeros(2), 0.3 * torch.eye(2), NoiseSchedule.log_spaced(8))
    spreads = []
    for num_steps in (25, 200):
        sampler = sequence_sampler(system.model, num_steps=num_steps)
        spreads.append(float(sampler.walk(2000, generator=seeded_generator(0))[1].std()))
    assert spreads[1] < 0.6 * spreads[0]
    estimate = sampler.log_partition(num_samples=500, generator=seeded_generator(1))
    assert_z(estimate.log_z, float(system.log_z(0)), estimate.standard_error)


def test_bounds_enclose_log_z_of_a_mixture():
    system = GaussianMixtureSequence.example(dim=2, seed=0)
    sampler = sequence_sampler(system.model, num_steps=100)
    truth = float(system.log_z(0))
    lower = float(sampler.walk(2000, generator=seeded_generator(0))[1].mean())
    upper = float(
        sampler.reverse(system.sample(2000, 0, generator=seeded_generator(1)), generator=seeded_generator(2)).mean()
    )
    assert truth - 0.1 < lower < truth < upper < truth + 0.1


def test_shares_outside_the_unit_interval_are_refused():
    with pytest.raises(ValueError, match="shares must lie"):
        DiffusionSampler(target, (2,), torch.tensor([0.5, 1.0]))


def test_frames_that_are_no_coordinates_are_refused():
    mean, factor = torch.zeros(2), torch.eye(2)
    Frame(mean, factor)
    upper = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    for wrong in ((mean, None), (None, factor), (mean, torch.eye(3)), (mean, -factor), (mean, 0 * factor), (mean, upper)):
        with pytest.raises(ValueError, match="expected"):
            Frame(*wrong)
    with pytest.raises(ValueError, match="a positive diagonal of the factor"):
        Frame(mean, torch.tensor([1.0, torch.nan]))


def test_draws_that_have_no_moments_make_no_frame():
    draws = torch.randn(9, 2, generator=seeded_generator(0)).double()
    for some, kind in ((draws, "none"), (draws, "Full"), (draws[:1], "diagonal"), (draws[:0], "full")):
        with pytest.raises(ValueError, match="two draws at least"):
            Frame.whitening(some, kind)
    with pytest.raises(ValueError, match="a positive diagonal"):
        Frame.whitening(torch.ones(9, 2), "diagonal")
    one = Frame.whitening(draws[:, :1], "full")  # a covariance of one coordinate is a number to torch
    torch.testing.assert_close(one.factor, draws[:, :1].std(0)[None])


def test_counts_and_shapes_of_a_sampler_are_checked():
    sampler = DiffusionSampler(target, (2,), SHARES)
    with pytest.raises(ValueError, match="at least 2 replicates, got 0"):
        sampler.log_partition(num_replicates=0)
    for draws in (torch.zeros(4, 3), torch.zeros(0, 2), torch.zeros(2)):
        with pytest.raises(ValueError, match="expected draws"):
            sampler.reverse(draws.double())
    with pytest.raises(ValueError, match="must be finite"):
        sampler.reverse(torch.tensor([[0.0, 1.0], [torch.nan, 0.0]], dtype=torch.float64))
    with pytest.raises(ValueError, match="num_steps must be a positive integer, got 0"):
        sequence_sampler(GaussianMixtureSequence.example().model, num_steps=0)
