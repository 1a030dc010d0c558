"""Ancestral sampling by normal approximation and the probability flow, against linear maps and exact densities."""

import math

import pytest
import torch

import drl_density as drl
from drl_density.partition_function import flow_log_likelihood
from drl_density.samplers import AncestralSettings, FlowSettings, sample_ancestral, sample_flow
from drl_density.testing import GaussianMixtureSequence, assert_z, gaussian_sequence, seeded_generator

SCHEDULE = drl.NoiseSchedule.log_spaced(8)
VARIANCE = 0.25


@pytest.fixture(scope="module")
def gaussian():
    return gaussian_sequence(torch.zeros(1), torch.full((1, 1), VARIANCE), SCHEDULE)


def test_ancestral_variance_on_a_gaussian_obeys_its_recursion(gaussian):
    num_steps, variance = 60, 1.0
    levels = torch.linspace(8, 0, num_steps + 1, dtype=torch.float64).tolist()
    for noisier, cleaner in zip(levels, levels[1:], strict=False):
        a, s = map(float, SCHEDULE.step_between(cleaner, noisier))
        own = float(SCHEDULE.alpha_at(cleaner)) ** 2 * VARIANCE + float(SCHEDULE.sigma_at(cleaner)) ** 2
        variance = variance * ((1 - (s / a) ** 2 / own) / a) ** 2 + (s / a) ** 2
    steps = []
    found = sample_ancestral(
        gaussian.model,
        40_000,
        settings=AncestralSettings(num_steps=num_steps),
        generator=seeded_generator(0),
        on_step=lambda step: steps.append(step.level),
    )
    assert_z(found.draws.square(), variance)
    assert steps == levels[1:]


def test_an_ancestral_step_draws_from_the_normal_approximation(gaussian):
    generator, model = seeded_generator(0), gaussian.model
    found = sample_ancestral(
        model,
        5,
        settings=AncestralSettings(levels=(8.0, *(7.9 - 0.1 * i for i in range(79)), 0.0)),
        generator=generator,
    ).draws
    generator = seeded_generator(0)
    x = torch.randn(5, 1, generator=generator, dtype=torch.float64)
    levels = (8.0, *(7.9 - 0.1 * i for i in range(79)), 0.0)
    for noisier, cleaner in zip(levels, levels[1:], strict=False):
        law = model.recovery(cleaner, noisier=noisier).normal_approximation(x)
        x = law.mean + law.stddev * torch.randn(5, 1, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(found, x)


def test_ancestral_draws_of_a_mixture():
    system = GaussianMixtureSequence.example(dim=2, seed=0)
    found = sample_ancestral(system.model, 4000, settings=AncestralSettings(400), generator=seeded_generator(0)).draws
    exact = system.marginal(0)
    # Steps of relative size 0.03 bias the spread by a share of that order at most.
    assert float((found.mean(0) - exact.mean).abs().max()) < 5 * float(exact.stddev.max()) / math.sqrt(4000) + 0.02
    assert float((found.std(0) / exact.stddev - 1).abs().max()) < 0.06


def test_too_few_ancestral_steps_are_refused_with_the_number_needed(gaussian):
    with pytest.raises(ValueError, match="give about 16 or more"):
        sample_ancestral(gaussian.model, 2, settings=AncestralSettings(num_steps=10))


def heun_gain(num_steps):
    """Factor of the whole flow on N(0, VARIANCE) data by Heun's rule: the field is linear."""
    levels, gain = torch.linspace(8, 0, num_steps + 1, dtype=torch.float64).tolist(), 1.0

    def slope(level):
        alpha, sigma = float(SCHEDULE.alpha_at(level)), float(SCHEDULE.sigma_at(level))
        return 0.5 * sigma**2 * (1 - 1 / (alpha**2 * VARIANCE + sigma**2))

    for noisier, cleaner in zip(levels, levels[1:], strict=False):
        width = float(SCHEDULE.log_snr_at(cleaner) - SCHEDULE.log_snr_at(noisier))
        first = slope(noisier)
        gain *= 1 + 0.5 * width * (first + slope(cleaner) * (1 + width * first))
    return gain


@pytest.mark.parametrize("has_log_likelihood", [False, True])
def test_flow_on_a_gaussian_is_a_known_linear_map(gaussian, has_log_likelihood):
    codes = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    settings = FlowSettings(num_steps=12, has_log_likelihood=has_log_likelihood)
    found = sample_flow(gaussian.model, 9, noise=codes, settings=settings)
    torch.testing.assert_close(found.draws, heun_gain(12) * codes)
    assert ("log_likelihood" in found.stats) == has_log_likelihood


def test_log_likelihood_along_the_flow_is_the_density_to_second_order():
    """Halving Heun's steps quarters the error, and the way down agrees with the way up."""
    system = GaussianMixtureSequence.example(
        dim=2, seed=0, schedule=drl.NoiseSchedule.log_spaced(8, sigma_max=0.999999)
    )
    errors = []
    for num_steps in (12, 24):
        settings = FlowSettings(num_steps=num_steps, has_log_likelihood=True)
        found = sample_flow(system.model, 50, settings=settings, generator=seeded_generator(0))
        exact = system.log_prob(found.draws, 0)
        errors.append(float((found.stats["log_likelihood"] - exact).abs().mean()))
    # A second-order rule; what level T lacks of N(0, I), alpha_T = 0.0014, is far below.
    assert errors[1] < 0.35 * errors[0]
    upward = flow_log_likelihood(system.model, found.draws, num_steps=24)
    assert float((upward - found.stats["log_likelihood"]).abs().max()) < 4 * errors[0]


def test_wrong_flows(gaussian):
    with pytest.raises(ValueError, match="give no denoiser"):
        sample_flow(gaussian.model, 2, settings=FlowSettings(has_log_likelihood=True), denoiser=gaussian.model.denoise)
    with pytest.raises(ValueError, match="expected noise at level"):
        sample_flow(gaussian.model, 2, noise=torch.zeros(3, 1))
    with pytest.raises(ValueError, match="must fall"):
        sample_flow(gaussian.model, 2, settings=FlowSettings(levels=(8.0, 9.0, 0.0)))
