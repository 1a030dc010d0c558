"""DDIM against closed forms: linear maps of Gaussians, inversion, interpolation."""

import math

import pytest
import torch

import drl_density as drl
from drl_density.samplers import (
    DDIMSettings,
    MultistepDenoiser,
    interpolate_codes,
    invert_ddim,
    sample_ddim,
)
from drl_density.samplers.ddim import ddim_step
from drl_density.testing import assert_z, gaussian_sequence, seeded_generator

SCHEDULE = drl.NoiseSchedule.log_spaced(8)


VARIANCE = 0.25


@pytest.fixture(scope="module")
def gaussian():
    return gaussian_sequence(torch.zeros(1), torch.full((1, 1), VARIANCE), SCHEDULE)


def gains(num_steps):
    """Factor of every deterministic DDIM step on N(0, VARIANCE) data: the denoiser is linear."""
    levels, product = torch.linspace(8, 0, num_steps + 1, dtype=torch.float64).tolist(), 1.0
    for noisier, cleaner in zip(levels, levels[1:], strict=False):
        (a, s), (b, t) = ((float(SCHEDULE.alpha_at(v)), float(SCHEDULE.sigma_at(v))) for v in (noisier, cleaner))
        denoise = a * VARIANCE / (a**2 * VARIANCE + s**2)
        product *= b * denoise + t * (1 - a * denoise) / s
    return product


@pytest.mark.parametrize("num_steps", [5, 40])
def test_ddim_on_a_gaussian_is_a_known_linear_map(gaussian, num_steps):
    codes = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    found = sample_ddim(gaussian.model, 9, noise=codes, settings=DDIMSettings(num_steps=num_steps))
    torch.testing.assert_close(found.draws, gains(num_steps) * codes, rtol=1e-6, atol=1e-9)


def test_many_steps_reach_the_exact_map(gaussian):
    top = float(SCHEDULE.alpha_at(8)) ** 2 * VARIANCE + float(SCHEDULE.sigma_at(8)) ** 2
    bottom = float(SCHEDULE.alpha_at(0)) ** 2 * VARIANCE + float(SCHEDULE.sigma_at(0)) ** 2
    exact = math.sqrt(bottom / top)
    errors = [abs(gains(n) - exact) for n in (20, 80, 320)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 0.01


@pytest.mark.parametrize("is_even", [True, False])
def test_multistep_error_falls_as_one_over_squared_steps(gaussian, is_even):
    """Halved steps leave a quarter of the error, on walks of alternating steps too, where the ratio of steps counts."""
    codes, errors = torch.ones(1, 1, dtype=torch.float64), []
    variances = [float(SCHEDULE.alpha_at(t)) ** 2 * VARIANCE + float(SCHEDULE.sigma_at(t)) ** 2 for t in (8, 0)]
    exact = math.sqrt(variances[1] / variances[0])
    for num_steps in (40, 80):
        widths = torch.tensor([1.0, 1.0 if is_even else 2.0] * (num_steps // 2), dtype=torch.float64)
        places = torch.cat([torch.zeros(1, dtype=torch.float64), widths.cumsum(0)]) / widths.sum()
        walk = DDIMSettings(levels=tuple((8 * (1 - places)).tolist()))
        denoiser = MultistepDenoiser(gaussian.model, walk)
        found = sample_ddim(gaussian.model, 1, noise=codes, settings=walk, denoiser=denoiser).draws
        errors.append(float((found - exact).abs()))
        plain = sample_ddim(gaussian.model, 1, noise=codes, settings=walk).draws
        assert errors[-1] < 0.2 * float((plain - exact).abs())
    assert 3 < errors[0] / errors[1] < 5
    with pytest.raises(ValueError, match="not on the walk"):
        denoiser(codes, 3.21)


def test_inversion_error_falls_as_one_over_steps(gaussian):
    x = torch.full((1, 1), 1.0, dtype=torch.float64)
    errors = []
    for num_steps in (20, 80):
        settings = DDIMSettings(num_steps=num_steps)
        codes = invert_ddim(gaussian.model, x, settings=settings)
        errors.append(float((sample_ddim(gaussian.model, 1, noise=codes, settings=settings).draws - x).abs()))
    assert errors[0] > 2.5 * errors[1]
    with pytest.raises(ValueError, match="eta = 0"):
        invert_ddim(gaussian.model, x, settings=DDIMSettings(eta=1.0))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_steps_with_the_true_clean_point_keep_the_marginal(gaussian, eta):
    """The defining property: with x_0 in place of its estimate, x_s is N(alpha_s x_0, sigma_s^2) for every eta."""
    generator = seeded_generator(0)
    clean = torch.full((40_000, 1), 0.7, dtype=torch.float64)
    x = SCHEDULE.diffuse(clean, 5.0, generator=generator)
    moved = ddim_step(gaussian.model, x, clean, start=5.0, end=2.0, eta=eta, generator=generator)
    sigma = float(SCHEDULE.sigma_at(2.0))
    assert_z(float(moved.mean()), 0.7 * float(SCHEDULE.alpha_at(2.0)), sigma / 200)
    assert_z(float(moved.var()), sigma**2, sigma**2 * math.sqrt(2 / 40_000))


def test_one_ancestral_step_is_the_posterior_given_the_clean_point(gaussian):
    """eta = 1: mean and variance of q(x_s | x_t, x_0), by Bayes' rule for the two Gaussians."""
    x, clean = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None], torch.full((5, 1), 0.7, dtype=torch.float64)
    (alpha, sigma), (a, s) = (
        (float(SCHEDULE.alpha_at(2.0)), float(SCHEDULE.sigma_at(2.0))),
        map(float, SCHEDULE.step_between(2.0, 5.0)),
    )
    precision = 1 / sigma**2 + (a / s) ** 2
    mean = (alpha * clean / sigma**2 + a * x / s**2) / precision
    moved = ddim_step(gaussian.model, x, clean, start=5.0, end=2.0, eta=1.0, generator=seeded_generator(3))
    noise = torch.randn(x.shape, generator=seeded_generator(3), dtype=x.dtype)
    torch.testing.assert_close(moved, mean + noise / precision**0.5)


def test_interpolation_stays_on_the_sphere():
    a, b = torch.randn(2, 50, generator=seeded_generator(0))
    path = interpolate_codes(a / a.norm(), b / b.norm(), torch.linspace(0, 1, 5))
    torch.testing.assert_close(path.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(path[0], a / a.norm())


def test_walks_and_etas_are_checked(gaussian):
    for levels in ((8.0, 3.0, 4.0, 0.0), (7.0, 0.0), (8.0, 1.0)):
        with pytest.raises(ValueError, match="levels must fall from 8 to 0"):
            sample_ddim(gaussian.model, 2, settings=DDIMSettings(levels=levels))
    with pytest.raises(ValueError, match="eta must lie"):
        DDIMSettings(eta=1.5)
    with pytest.raises(ValueError, match="at least 1"):
        DDIMSettings(num_steps=0)
    with pytest.raises(ValueError, match="expected noise at level"):
        sample_ddim(gaussian.model, 2, noise=torch.zeros(3, 1))
