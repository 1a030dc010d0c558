"""Hierarchical models by quadrature of their densities, and by scipy."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from drl_density.testing.targets.hierarchical import (
    PUMP_FAILURES,
    PUMP_HOURS,
    SCHOOLS,
    TARGETS,
    binomial_rates,
    normal_hierarchy,
    pumps,
)
from drl_density.testing.targets.quadrature import log_integral


def test_one_effect_by_quadrature_of_all_three_coordinates():
    definition = normal_hierarchy([2.0], [1.5], is_centred=False)
    bounds = [(-35.0, 35.0), (-22.0, 7.0), (-7.0, 7.0)]
    found = log_integral(definition.log_density, bounds, 8)
    assert definition.log_z == pytest.approx(found, abs=1e-2)  # tau beyond exp(7) is left out


def test_eight_schools_by_scipy():
    y, s = map(np.array, SCHOOLS)

    def density(log_tau):
        tau = math.exp(log_tau)
        covariance = np.diag(s**2 + tau**2) + 25
        return math.exp(stats.multivariate_normal(np.zeros(8), covariance).logpdf(y) + 31) * (
            stats.halfcauchy.pdf(tau, scale=5) * tau
        )

    value = integrate.quad(density, -30, 20, epsabs=1e-12, limit=200, points=[0, 2])[0]
    expected = math.log(value) - 31
    for name in ("eight_schools_10d", "eight_schools_centred_10d"):
        assert TARGETS[name]().log_z == pytest.approx(expected, abs=1e-7)


def test_centred_and_not_are_one_density():
    y, s = [1.0, -2.0, 0.5], [1.0, 2.0, 0.7]
    centred, other = (normal_hierarchy(y, s, is_centred=is_centred) for is_centred in (True, False))
    x = torch.tensor([[0.4, -0.3, 1.0, 0.2, -0.5]]).double()
    tau = x[:, 1:2].exp()
    moved = torch.cat([x[:, :2], x[:, :1] + tau * x[:, 2:]], 1)
    assert torch.allclose(centred.log_density(moved) + 3 * tau.log()[:, 0], other.log_density(x))
    assert centred.log_z == other.log_z


def test_a_flat_prior_on_log_tau_leaves_mass_at_small_tau():
    definition = TARGETS["improper_schools_10d"]()
    assert math.isinf(definition.log_z)
    x = torch.zeros(2, 10).double()
    x[:, 1] = torch.tensor([-20.0, -200.0])
    near, far = definition.log_density(x)
    assert float(near) == pytest.approx(float(far))


def test_pumps_by_negative_binomials():
    def density(beta):
        chances = np.array(PUMP_HOURS) / (np.array(PUMP_HOURS) + beta)
        return np.exp(stats.nbinom.logpmf(PUMP_FAILURES, 1.8, 1 - chances).sum() + 39) * stats.gamma.pdf(beta, 0.1)

    value = integrate.quad(density, 0, 1, limit=200)[0] + integrate.quad(density, 1, 60, limit=200)[0]
    assert pumps().log_z == pytest.approx(math.log(value) - 39, abs=1e-6)


def test_pumps_density_by_distributions():
    x = torch.linspace(-1, 1, 11).double()
    beta, rates = x[0].exp(), x[1:].exp()
    expected = torch.distributions.Gamma(torch.tensor(0.1).double(), 1.0).log_prob(beta) + x.sum()
    expected = expected + torch.distributions.Gamma(torch.tensor(1.8).double(), beta).log_prob(rates).sum()
    hours, counts = torch.tensor(PUMP_HOURS).double(), torch.tensor(PUMP_FAILURES).double()
    # The constants of Poisson's law count the hours of every pump.
    expected = expected + torch.distributions.Poisson(rates * hours).log_prob(counts).sum()
    assert torch.allclose(pumps().log_density(x), expected)


def test_binomial_rates_by_beta_binomials():
    successes, trials = [1, 3, 0, 6, 2, 5], [10, 12, 9, 11, 8, 14]

    def density(mean):
        return np.exp(stats.betabinom.logpmf(successes, trials, 8 * mean, 8 * (1 - mean)).sum() + 13)

    value = integrate.quad(density, 1e-12, 1 - 1e-12)[0]
    assert binomial_rates().log_z == pytest.approx(math.log(value) - 13, abs=1e-7)


def test_binomial_rates_density_by_distributions():
    x = torch.linspace(-2, 1, 7).double()
    mean, rates = torch.sigmoid(x[0]), torch.sigmoid(x[1:])
    jacobian = (torch.sigmoid(x) * torch.sigmoid(-x)).log().sum()
    prior = torch.distributions.Beta(8 * mean, 8 * (1 - mean)).log_prob(rates).sum()
    trials = torch.tensor([10.0, 12.0, 9.0, 11.0, 8.0, 14.0]).double()
    likelihood = torch.distributions.Binomial(trials, rates).log_prob(torch.tensor([1.0, 3, 0, 6, 2, 5]).double()).sum()
    assert torch.allclose(binomial_rates().log_density(x), prior + likelihood + jacobian)


def test_densities_keep_any_leading_shape():
    for name, build in TARGETS.items():
        definition = build()
        assert definition.log_density(torch.ones(2, 3, *definition.shape).double()).shape == (2, 3), name
