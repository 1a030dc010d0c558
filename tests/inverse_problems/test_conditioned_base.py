"""Conditioned bases and the sampler over them, where every posterior is known."""

import pytest
import torch

import drl_density as drl
from drl_density.bases import FactorAnalysers, NoisedGaussianMixture
from drl_density.inverse_problems import ConditionedBase, condition_on_measurement
from drl_density.networks import MLP, MLPSettings
from drl_density.networks.contract import NoTilt
from drl_density.operators import MatrixOperator
from drl_density.testing import seeded_generator

WEIGHTS = torch.tensor([0.3, 0.7])
MEANS = torch.tensor([[1.0, 0.0, -0.5], [-1.0, 0.5, 0.3]])
LOADINGS = torch.tensor([[[0.6], [0.3], [-0.2]], [[0.2], [-0.5], [0.4]]])
NOISES = torch.tensor([[0.1, 0.2, 0.15], [0.05, 0.3, 0.1]])
BASE = FactorAnalysers(WEIGHTS, MEANS, LOADINGS, NOISES)
MATRIX, Y, NOISE = torch.tensor([[0.6, 0.8, 0.0]]), torch.tensor([1.5]), 0.3


def mixture_sequence(network=None):
    schedule = drl.NoiseSchedule.log_spaced(6, sigma_min=0.1)
    return drl.EnergySequence(schedule, network or NoTilt(), (3,), base=BASE)


def exact_posterior(matrix=MATRIX, y=Y, noise=NOISE):
    """Weights, means and covariances of the posterior, by the usual formulas for one component after the other."""
    weights, means, covariances = [], [], []
    for index in range(2):
        prior = (LOADINGS[index] @ LOADINGS[index].T + torch.diag(NOISES[index])).double()
        a, mean = matrix.double(), MEANS[index].double()
        law = torch.distributions.MultivariateNormal(a @ mean, a @ prior @ a.T + noise**2 * torch.eye(len(y)).double())
        gain = prior @ a.T @ torch.linalg.inv(law.covariance_matrix)
        weights.append(WEIGHTS[index].log() + law.log_prob(y.double()))
        means.append(mean + gain @ (y - a @ mean))
        covariances.append(prior - gain @ a @ prior)
    weights = torch.stack(weights)
    return weights.softmax(0), torch.stack(means), torch.stack(covariances), weights.logsumexp(0)


def moments(weights, means, covariances):
    mean = weights @ means
    gap = means - mean
    return mean, torch.einsum("k,kij->ij", weights, covariances + gap[:, :, None] * gap[:, None])


def test_posteriors_of_the_base_are_exact():
    base = ConditionedBase(BASE, MatrixOperator(MATRIX), (3,), noise=NOISE)(Y)
    weights, means, covariances, _ = exact_posterior()
    torch.testing.assert_close(base.log_weights.exp().double(), weights, rtol=1e-5, atol=0)  # stored in float32
    torch.testing.assert_close(base.conditional().means, means, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(base.covariances().double(), covariances, rtol=1e-5, atol=1e-6)


def test_a_conditioned_sequence_is_the_prior_times_the_likelihood_of_the_base():
    """log F_t(x | y) - F_t(x) = log b(x_t | y) - log b(x_t), whatever the network."""
    network = MLP(MLPSettings(3, width=8), generator=seeded_generator(0))
    model, operator = mixture_sequence(network), MatrixOperator(MATRIX)
    posterior = condition_on_measurement(model, operator, Y, noise=NOISE)
    x = torch.randn(20, 3, generator=seeded_generator(1))
    exact = NoisedGaussianMixture(*exact_posterior()[:3])
    for level in (0.0, 2.5, 6.0):
        gain = posterior.log_density(x, level) - model.log_density(x, level)
        log_snr = model.schedule.log_snr_at(level)
        # Sums of three squares of order 10 in float32.
        torch.testing.assert_close(gain, exact(x, log_snr) - BASE(x, log_snr), rtol=1e-4, atol=1e-4)


def test_what_cannot_be_conditioned_is_refused():
    model, operator = mixture_sequence(), MatrixOperator(MATRIX)
    for noise in (0.0, -0.1, torch.inf, torch.nan):
        with pytest.raises(ValueError, match="noise must be positive and finite"):
            condition_on_measurement(model, operator, Y, noise=noise)
    with pytest.raises(ValueError, match="expected a measurement of shape"):
        condition_on_measurement(model, operator, torch.zeros(2), noise=0.1)
    with pytest.raises(ValueError, match="expected a finite measurement"):
        condition_on_measurement(model, operator, torch.full_like(Y, torch.nan), noise=0.1)
    with pytest.raises(ValueError, match="the operator gives real measurements, got a complex one"):
        condition_on_measurement(model, operator, Y.to(torch.complex64), noise=0.1)
    with pytest.raises(ValueError, match="as a tensor, got list"):
        condition_on_measurement(model, operator, [1.5], noise=0.1)
    with pytest.raises(ValueError, match="nothing is measured"):
        condition_on_measurement(model, MatrixOperator(torch.zeros(1, 3)), Y, noise=0.1)
    bare = drl.EnergySequence(model.schedule, MLP(MLPSettings(3)), (3,), has_base=False)
    with pytest.raises(ValueError, match="mixture of Gaussians or of factor analysers, got none"):
        condition_on_measurement(bare, operator, Y, noise=0.1)


def test_matrices_of_another_posterior_are_refused():
    model, operator = mixture_sequence(), MatrixOperator(MATRIX)
    conditioned = ConditionedBase.of(model, operator, noise=NOISE)
    again = condition_on_measurement(model, MatrixOperator(MATRIX.clone()), Y, noise=NOISE, conditioned=conditioned)
    fresh = condition_on_measurement(model, operator, Y, noise=NOISE)
    assert torch.equal(again.base.centers, fresh.base.centers)
    other = drl.EnergySequence(model.schedule, NoTilt(), (3,))
    for wrong, match in (
        ((model, operator, Y, 1.0), "for noise 0.3, got noise 1"),
        ((other, operator, Y, NOISE), "another base than that of the model"),
        ((model, MatrixOperator(MATRIX.flip(1)), Y, NOISE), "an operator that measures something else"),
        ((model, MatrixOperator(torch.eye(3)[:2]), torch.zeros(2), NOISE), "an operator that measures something else"),
        ((model, MatrixOperator(MATRIX + 0j), Y + 0j, NOISE), "an operator that measures something else"),
    ):
        with pytest.raises(ValueError, match=match):
            condition_on_measurement(*wrong[:3], noise=wrong[3], conditioned=conditioned)


def test_complex_measurements_of_real_points_have_their_posterior():
    """One complex row is two real ones, of its real and imaginary parts."""
    row = torch.tensor([[0.6 + 0.1j, 0.8, -0.4j]])
    found = ConditionedBase(BASE, MatrixOperator(row), (3,), noise=NOISE)(torch.tensor([1.5 - 0.2j]))
    _, means, covariances, _ = exact_posterior(torch.cat([row.real, row.imag]), torch.tensor([1.5, -0.2]))
    torch.testing.assert_close(found.conditional().means, means, rtol=1e-5, atol=1e-6)  # stored in float32
    torch.testing.assert_close(found.covariances().double(), covariances, rtol=1e-5, atol=1e-6)


def test_a_posterior_made_in_inference_mode_has_scores():
    with torch.inference_mode():
        posterior = condition_on_measurement(mixture_sequence(), MatrixOperator(MATRIX), Y, noise=NOISE)
    assert bool(posterior.score(torch.zeros(12, 3), 0.0).isfinite().all())
