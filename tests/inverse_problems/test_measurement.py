"""Guided and projected samplers of linear inverse problems against closed forms."""

import pytest
import torch

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.inverse_problems import (
    DPSSettings,
    gaussian_likelihood,
    sample_dps,
    sample_projected,
)
from drl_density.operators import ComplexPairs, Mask, MaskedFourier, MatrixOperator, center_mask
from drl_density.samplers import (
    DDIMSettings,
    PredictorCorrectorSettings,
    sample_ddim,
)
from drl_density.testing import assert_z, seeded_generator
from tests.inverse_problems.linear_gaussian import exact_posterior


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
    with pytest.raises(ValueError, match="must be finite numbers"):
        sample_dps(correlated.model, operator, torch.full((1,), torch.nan), 3)
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
    settings = PredictorCorrectorSettings(DDIMSettings(num_steps=60), num_corrections=2)
    found = sample_projected(model, operator, y, 200, settings=settings, generator=seeded_generator(2))
    frequencies = MaskedFourier(torch.ones_like(mask)).forward(torch.complex(found.draws[:, 0], found.draws[:, 1]))
    torch.testing.assert_close(frequencies[:, mask], y[mask].expand(200, -1), rtol=1e-4, atol=1e-5)
    free = torch.view_as_real(frequencies[:, ~mask])
    assert abs(float(free.mean())) < 5 * (variance / free.numel()) ** 0.5
    # The variance of 200 x 36 free numbers has an error of 1.7 %, the walk's own is below 1 %.
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


def test_a_denoised_guided_walk_ends_with_the_estimate(correlated):
    operator, y = Mask(torch.tensor([True, False, False])), torch.ones(1).double()
    states, clean = (
        sample_dps(
            correlated.model,
            operator,
            y,
            4,
            settings=DPSSettings(DDIMSettings(num_steps=5, eta=1.0, is_denoised=is_denoised)),
            generator=seeded_generator(0),
        ).draws
        for is_denoised in (False, True)
    )
    assert torch.equal(clean, correlated.model.denoise(states, 0.0))
