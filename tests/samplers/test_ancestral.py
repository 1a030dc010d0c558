"""Ancestral sampling by normal approximation, against recursions and exact moments."""

import math

import pytest
import torch

import drl_density as drl
from drl_density.samplers import AncestralSettings, sample_ancestral
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
