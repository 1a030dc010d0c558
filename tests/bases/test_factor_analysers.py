"""Factor analysers against the Gaussian mixture with the same covariances."""

import pytest
import torch

from drl_density.bases import FactorAnalysers, NoisedGaussianMixture
from drl_density.testing import assert_z, seeded_generator

WEIGHTS = torch.tensor([0.2, 0.5, 0.3])


def pair(num_features=5, num_factors=2, *, least=0.2):
    """(factor analysers, mixture) with equal densities."""
    generator = seeded_generator(0)
    means = torch.randn(3, num_features, generator=generator)
    loadings = torch.randn(3, num_features, num_factors, generator=generator)
    noises = least + torch.rand(3, num_features, generator=generator)
    dense = loadings @ loadings.mT + torch.diag_embed(noises)
    return FactorAnalysers(WEIGHTS, means, loadings, noises), NoisedGaussianMixture(WEIGHTS, means, dense)


def test_the_density_and_its_score_are_those_of_the_dense_mixture():
    factors, dense = pair()
    x = torch.randn(12, 5, generator=seeded_generator(1), dtype=torch.float64).requires_grad_(True)
    log_snr = torch.linspace(-4, 6, 12).double()
    values = [base(x, log_snr) for base in (factors, dense)]
    scores = [torch.autograd.grad(value.sum(), x)[0] for value in values]
    # Both keep float32 parameters: relative 6e-8 of terms of order 10, times a few.
    torch.testing.assert_close(*values, rtol=0, atol=2e-5)
    torch.testing.assert_close(*scores, rtol=0, atol=2e-5)


def test_covariances_and_expected_errors_agree():
    factors, dense = pair()
    log_snr = torch.tensor([[-2.0, 0.5], [3.0, 8.0]]).double()
    torch.testing.assert_close(factors.expected_error(log_snr), dense.expected_error(log_snr), rtol=0, atol=1e-5)
    for level in (None, torch.tensor(0.7)):
        torch.testing.assert_close(factors.covariances(level), dense.covariances(level), rtol=0, atol=1e-5)


def test_float32_rows_of_many_pixels_lose_nothing():
    """Rows along strong factors, where a quadratic form as a difference of large terms would cancel."""
    generator = seeded_generator(2)
    loadings = 10 * torch.randn(1, 400, 3, generator=generator)
    base = FactorAnalysers(torch.ones(1), torch.zeros(1, 400), loadings, torch.full((1, 400), 1e-3))
    x = base.sample(8, generator=generator)
    exact = base(x.double(), torch.tensor(6.0))
    # |x|^2 / psi is 1e7, whose rounding in float32 is of order 1; a sum of squares of order d rounds at 1e-4.
    torch.testing.assert_close(base(x, torch.tensor(6.0)).double(), exact, rtol=0, atol=0.05)


def test_draws_have_the_covariances():
    factors, _ = pair()
    drawn = factors.sample(20_000, generator=seeded_generator(3)).double()
    mean = WEIGHTS.double() @ factors.means.double()
    outer = factors.means.double()[:, :, None] * factors.means.double()[:, None]
    second = (WEIGHTS.double()[:, None, None] * (factors.covariances().double() + outer)).sum(0)
    assert_z(drawn, mean)
    assert_z(drawn[:, :, None] * drawn[:, None], second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (torch.ones(1), torch.zeros(1, 3), torch.ones(1, 2, 1), torch.ones(1, 3)),
            "loadings .K, d, r. .* got .*.1, 2, 1.",
        ),
        (
            (torch.ones(1), torch.zeros(1, 3), torch.ones(1, 3, 0), torch.ones(1, 3)),
            "loadings .K, d, r. .* got .*.1, 3, 0.",
        ),
        ((torch.ones(2) / 2, torch.zeros(1, 3), torch.ones(1, 3, 1), torch.ones(1, 3)), "weights .K,."),
        ((torch.ones(1), torch.zeros(1, 3), torch.ones(1, 3, 1), torch.zeros(1, 3)), "noise variance must be positive"),
        ((2 * torch.ones(1), torch.zeros(1, 3), torch.ones(1, 3, 1), torch.ones(1, 3)), "sum to 1"),
    ],
)
def test_what_is_no_mixture_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FactorAnalysers(*arguments)
