"""The probability flow against linear maps and exact densities."""

import pytest
import torch

import drl_density as drl
from drl_density.partition_function import flow_log_likelihood
from drl_density.samplers import FlowSettings, sample_flow
from drl_density.testing import GaussianMixtureSequence, gaussian_sequence, seeded_generator

SCHEDULE = drl.NoiseSchedule.log_spaced(8)


VARIANCE = 0.25


@pytest.fixture(scope="module")
def gaussian():
    return gaussian_sequence(torch.zeros(1), torch.full((1, 1), VARIANCE), SCHEDULE)


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
