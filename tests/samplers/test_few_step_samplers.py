"""DDIM, predictor-corrector and inverse problems against closed forms."""

import math

import pytest
import torch

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.inverse_problems import (
    DPSSettings,
    gaussian_likelihood,
    sample_dps,
    sample_posterior,
    sample_projected,
)
from drl_density.operators import ComplexPairs, Mask, MaskedFourier, MatrixOperator, center_mask
from drl_density.samplers import (
    DDIMSettings,
    PredictorCorrectorSettings,
    interpolate_codes,
    invert_ddim,
    sample_ddim,
    sample_predictor_corrector,
)
from drl_density.samplers.ddim import ddim_step
from drl_density.testing import GaussianMixtureSequence, assert_z, gaussian_sequence, seeded_generator

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


@pytest.fixture(scope="module")
def correlated():
    covariance = torch.tensor([[1.0, 0.6, 0.2], [0.6, 0.8, 0.1], [0.2, 0.1, 0.5]], dtype=torch.float64)
    return gaussian_sequence(
        torch.tensor([0.3, -0.2, 0.1]), covariance, drl.NoiseSchedule.log_spaced(8, sigma_min=0.05)
    )


def exact_posterior(system, matrix, y, noise):
    """(mean, covariance, log evidence with the offset) at level 0."""
    law = system.marginal(0).component_distribution
    mean, prior = law.mean[0], law.covariance_matrix[0]
    innovation = matrix @ prior @ matrix.T + noise**2 * torch.eye(len(y), dtype=torch.float64)
    gain = prior @ matrix.T @ torch.linalg.inv(innovation)
    evidence = torch.distributions.MultivariateNormal(matrix @ mean, innovation).log_prob(y)
    return mean + gain @ (y - matrix @ mean), prior - gain @ matrix @ prior, float(evidence + system.log_z(0))


def test_annealed_posterior_is_the_exact_one(correlated):
    matrix, y = torch.tensor([[1.0, 0.5, 0.0]], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    likelihood = gaussian_likelihood(correlated.model, MatrixOperator(matrix), y, noise=0.2)
    found = sample_posterior(
        correlated.model,
        likelihood,
        num_samples=1500,
        settings=drl.AISSettings(num_particles=256, num_replicates=4, num_transitions=4),
        generator=seeded_generator(0),
    )
    mean, covariance, evidence = exact_posterior(correlated, matrix, y, 0.2)
    spread = covariance.diagonal().sqrt()
    assert float(((found.draws.mean(0) - mean) / spread).abs().max()) < 5 / math.sqrt(1500) + 0.03
    assert float((found.draws.std(0) / spread - 1).abs().max()) < 0.12
    assert_z(found.estimate.log_z, evidence, found.estimate.standard_error + 0.005)


def test_guidance_is_biased_towards_the_measurement_and_close(correlated):
    matrix, y = torch.tensor([[1.0, 0.5, 0.0]], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    settings = DPSSettings(DDIMSettings(num_steps=150, eta=1.0), strength=0.05)
    found = sample_dps(
        correlated.model, MatrixOperator(matrix), y, 400, settings=settings, generator=seeded_generator(0)
    )
    mean, _, _ = exact_posterior(correlated, matrix, y, 0.05)
    assert float((found.draws.mean(0) - mean).abs().max()) < 0.3
    free = sample_ddim(correlated.model, 400, settings=settings.walk, generator=seeded_generator(0)).draws
    residuals = [float((draws @ matrix.T - y).abs().mean()) for draws in (found.draws, free)]
    assert residuals[0] < 0.35 * residuals[1]


def test_projection_measures_exactly_and_conditions(correlated):
    operator, y = Mask(torch.tensor([True, False, False])), torch.tensor([1.0], dtype=torch.float64)
    found = sample_projected(
        correlated.model,
        operator,
        y,
        1500,
        settings=PredictorCorrectorSettings(DDIMSettings(num_steps=60, eta=1.0), num_corrections=4),
        generator=seeded_generator(0),
    )
    assert bool((found.draws[:, 0] == 1.0).all())
    mean, covariance, _ = exact_posterior(correlated, torch.eye(3, dtype=torch.float64)[:1], y, 1e-3)
    assert float((found.draws.mean(0) - mean)[1:].abs().max()) < 0.15
    assert float((found.draws.std(0) / covariance.diagonal().sqrt() - 1)[1:].abs().max()) < 0.2


def test_wrong_measurements_are_refused(correlated):
    operator = Mask(torch.tensor([True, False, False]))
    with pytest.raises(ValueError, match="measurement of shape"):
        sample_dps(correlated.model, operator, torch.zeros(2), 3)
    with pytest.raises(ValueError, match="must be positive"):
        gaussian_likelihood(correlated.model, operator, torch.zeros(1), noise=0.0)
    with pytest.raises(ValueError, match="both be real"):
        sample_projected(correlated.model, operator, torch.zeros(1, dtype=torch.complex64), 3)
    with pytest.raises(ValueError, match="got complex ones"):
        correlated.model.log_density(torch.zeros(2, 3, dtype=torch.complex64), 0)
    with pytest.raises(ValueError, match="has no project"):
        sample_projected(correlated.model, MatrixOperator(torch.eye(3)), torch.zeros(3), 3)

    class Forward:
        def forward(self, x):
            return x

    with pytest.raises(ValueError, match="Forward lacks adjoint"):
        sample_dps(correlated.model, Forward(), torch.zeros(3), 3)


def test_guidance_rests_where_the_residual_vanishes(correlated):
    """The step is along the gradient of the residual's length; at length 0 it is 0, not 0 / 0."""
    operator = MatrixOperator(torch.zeros(1, 3, dtype=torch.float64))
    settings = DPSSettings(DDIMSettings(num_steps=10))
    y = torch.zeros(1, dtype=torch.float64)
    found = sample_dps(correlated.model, operator, y, 3, settings=settings, generator=seeded_generator(0)).draws
    free = sample_ddim(correlated.model, 3, settings=settings.walk, generator=seeded_generator(0)).draws
    torch.testing.assert_close(found, free)


def test_guidance_through_a_map_between_spaces(correlated):
    """Prior in halved coordinates, operator in the full ones: the same draws as with the operator halved."""
    y, settings = torch.ones(1, dtype=torch.float64), DPSSettings(DDIMSettings(num_steps=20))
    row = torch.tensor([[1.0, 0.5, 0.0]], dtype=torch.float64)
    draws = [
        sample_dps(
            correlated.model,
            MatrixOperator(matrix),
            y,
            4,
            settings=settings,
            to_operand=to,
            generator=seeded_generator(0),
        ).draws
        for matrix, to in ((row, lambda u: 2 * u), (2 * row, None))
    ]
    torch.testing.assert_close(*draws)


def test_undersampled_frequencies_of_white_noise():
    """Prior N(0, v) on every pixel of a complex image: measured frequencies come back, the others keep variance v."""
    size, variance = 6, 0.4
    count = 2 * size * size
    base = NoisedGaussianMixture(torch.ones(1), torch.zeros(1, count), variance * torch.eye(count)[None])
    schedule = drl.NoiseSchedule.log_spaced(6, sigma_min=0.02)
    model = drl.EnergySequence(schedule, Nothing(), (2, size, size), base=base)
    mask = center_mask(size, size, acceleration=2, center_share=0.3, generator=seeded_generator(0))
    operator = ComplexPairs(MaskedFourier(mask))
    truth = variance**0.5 * torch.randn(1, 2, size, size, generator=seeded_generator(1))
    y = operator.forward(truth)[0]
    settings = PredictorCorrectorSettings(DDIMSettings(num_steps=100), num_corrections=2)
    found = sample_projected(model, operator, y, 400, settings=settings, generator=seeded_generator(2))
    frequencies = MaskedFourier(torch.ones_like(mask)).forward(torch.complex(found.draws[:, 0], found.draws[:, 1]))
    torch.testing.assert_close(frequencies[:, mask], y[mask].expand(400, -1), rtol=1e-4, atol=1e-5)
    free = torch.view_as_real(frequencies[:, ~mask])
    assert abs(float(free.mean())) < 5 * (variance / free.numel()) ** 0.5
    # The variance of 400 x 36 free numbers has an error of 1.2 %, the walk's own is below 1 %.
    assert abs(float(free.var()) / variance - 1) < 0.05
    assert_z(free.mean((1, 2)) * y[mask].abs().mean(), 0.0)


def test_everything_measured_leaves_nothing_to_chance():
    size = 4
    schedule = drl.NoiseSchedule.log_spaced(4, sigma_min=0.02)
    model = drl.EnergySequence(schedule, Nothing(), (2, size, size))
    operator = ComplexPairs(MaskedFourier(torch.ones(size, size, dtype=torch.bool)))
    truth = torch.randn(1, 2, size, size, generator=seeded_generator(0))
    y = operator.forward(truth)[0]
    for is_noised in (True, False):
        found = sample_projected(model, operator, y, 3, is_noised=is_noised, generator=seeded_generator(1)).draws
        # Single precision, two transforms.
        torch.testing.assert_close(found, truth.expand(3, -1, -1, -1), rtol=1e-5, atol=1e-5)


class Nothing(torch.nn.Module):
    """A network that adds nothing to its base."""

    has_bounded_growth = True

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, log_snr):
        return self.weight.expand(len(x))
