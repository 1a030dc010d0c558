"""Predictor-corrector draws of a mixture."""

import dataclasses
import math

import pytest
import torch

from drl_density.samplers import (
    DDIMSettings,
    PredictorCorrectorSettings,
    sample_predictor_corrector,
)
from drl_density.testing import GaussianMixtureSequence, seeded_generator


@pytest.fixture(scope="module")
def mixture():
    return GaussianMixtureSequence.example(dim=4, seed=0)


def test_predictor_corrector_draws_from_the_mixture(mixture):
    found = sample_predictor_corrector(
        mixture.model,
        1500,
        settings=PredictorCorrectorSettings(DDIMSettings(num_steps=40, eta=1.0)),
        generator=seeded_generator(0),
    )
    exact = mixture.sample(20_000, 0, generator=seeded_generator(1))
    error = exact.std(0) / math.sqrt(1500)
    assert float(((found.draws.mean(0) - exact.mean(0)) / error).abs().max()) < 4.5
    assert float((found.draws.std(0) / exact.std(0) - 1).abs().max()) < 0.12
    assert found.stats["acceptance_rate"].shape == (40, 1500)


def test_a_denoised_walk_ends_with_the_estimate(mixture):
    """As in DDIM: the same walk, and Tweedie's formula after its last corrector step."""
    walk = DDIMSettings(num_steps=5, eta=1.0)
    states, clean = (
        sample_predictor_corrector(
            mixture.model, 4, settings=PredictorCorrectorSettings(each), generator=seeded_generator(0)
        ).draws
        for each in (walk, dataclasses.replace(walk, is_denoised=True))
    )
    assert torch.equal(clean, mixture.model.denoise(states, 0.0))
