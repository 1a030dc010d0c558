"""Closed-form systems: their own quantities by quadrature and by draws."""

import math

import pytest
import torch

from drl_density import NoiseSchedule
from drl_density.testing import GaussianMixtureSequence, assert_z, gaussian_sequence, seeded_generator

SYSTEM = GaussianMixtureSequence.example(dim=1, num_components=2, schedule=NoiseSchedule.log_spaced(5))
GRID = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
VOLUME = 16 / 4000


@pytest.mark.parametrize("level", [0, 1.5, 4])
def test_every_level_is_normalised_and_offset_by_log_z(level):
    """Trapezoidal rule on smooth densities that vanish at the ends: exact to rounding."""
    assert float(SYSTEM.log_prob(GRID, level).exp().sum() * VOLUME) == pytest.approx(1, abs=1e-10)
    total = SYSTEM.model.log_density(GRID, level).logsumexp(0) + math.log(VOLUME)
    assert float(total) == pytest.approx(float(SYSTEM.log_z(level)), abs=1e-10)


def test_log_z_differs_from_level_to_level():
    assert bool((SYSTEM.log_z(torch.arange(5)).diff().abs() > 0.1).all())
    assert SYSTEM.model.is_integrable


@pytest.mark.parametrize("level", [None, 0, 2.5])
def test_draws_have_the_density_of_their_level(level):
    drawn = SYSTEM.sample(20_000, level, generator=seeded_generator(0))
    assert drawn.shape == (20_000, 1)
    assert drawn.dtype == torch.float64
    mean = SYSTEM.weights @ SYSTEM.means
    second = SYSTEM.weights @ (SYSTEM.covariances[:, 0] + SYSTEM.means**2)
    alpha, sigma = (1.0, 0.0) if level is None else (SYSTEM.schedule.alpha_at(level), SYSTEM.schedule.sigma_at(level))
    assert_z(drawn, alpha * mean)
    assert_z(drawn**2, alpha**2 * second + sigma**2)


def test_recovery_is_the_joint_over_the_marginal():
    """p(x | y) = p(x) N(y; a x, s^2) / p(y) at two levels, two apart."""
    y = torch.tensor([[0.3], [-1.2]]).double()
    a, s = SYSTEM.schedule.step_between(1, 3)
    joint = SYSTEM.log_prob(GRID, 1)[:, None] + torch.distributions.Normal(a * GRID, s).log_prob(y.T)
    exact = joint - SYSTEM.log_prob(y, 3)
    found = SYSTEM.recovery(y, 1, noisier=3).log_prob(GRID[:, None].expand(-1, 2, 1))
    inside = exact > -200  # further out the covariance of the difference loses digits to cancellation
    torch.testing.assert_close(found[inside], exact[inside], rtol=1e-8, atol=1e-8)


def test_denoise_is_the_mean_of_the_clean_row():
    y, level = torch.tensor([[0.3], [-1.2]]).double(), 2
    alpha, sigma = SYSTEM.schedule.alpha_at(level), SYSTEM.schedule.sigma_at(level)
    clean = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(SYSTEM.weights),
        torch.distributions.MultivariateNormal(SYSTEM.means, SYSTEM.covariances),
    )
    joint = clean.log_prob(GRID)[:, None] + torch.distributions.Normal(alpha * GRID, sigma).log_prob(y.T)
    mean = (joint.softmax(0) * GRID).sum(0)
    torch.testing.assert_close(SYSTEM.denoise(y, level)[:, 0], mean, rtol=1e-8, atol=1e-10)


def test_one_component_is_a_gaussian():
    covariance = torch.tensor([[0.5, 0.2], [0.2, 0.4]])
    system = gaussian_sequence(torch.tensor([1.0, -1.0]), covariance, NoiseSchedule.log_spaced(4))
    alpha, sigma = float(system.schedule.alpha_at(1)), float(system.schedule.sigma_at(1))
    exact = torch.distributions.MultivariateNormal(
        alpha * torch.tensor([1.0, -1.0]).double(), alpha**2 * covariance.double() + sigma**2 * torch.eye(2).double()
    )
    x = torch.randn(4, 2, generator=seeded_generator(1), dtype=torch.float64)
    torch.testing.assert_close(system.log_prob(x, 1), exact.log_prob(x), rtol=1e-6, atol=1e-6)


def test_an_example_is_decided_by_its_seed():
    first, again, other = (GaussianMixtureSequence.example(seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.means, again.means)
    assert not torch.equal(first.means, other.means)
    assert first.dim == 2
    assert first.schedule.num_levels == 8
