"""Marginals and conditionals of a Gaussian mixture against torch's multivariate normal, pattern by pattern."""

import math

import torch
from torch.distributions import MultivariateNormal

from drl_density.networks import MixtureConditional, NoisedGaussianMixture
from drl_density.testing import assert_z, seeded_generator

WEIGHTS = torch.tensor([0.7, 0.3])
MEANS = torch.tensor([[-1.0, 0.5, 0.0], [1.2, -0.4, 0.8]])
FACTORS = torch.tensor([[[0.6, 0, 0], [0.3, 0.5, 0], [-0.2, 0.1, 0.7]], [[0.4, 0, 0], [-0.3, 0.6, 0], [0.2, 0.3, 0.5]]])
LOG_SNR = torch.tensor(1.5)
MASKS = torch.tensor([[True, False, False], [False, True, True], [False, False, False], [True, True, True]])


def parts():
    """(weights, means, covariances) at ``LOG_SNR``."""
    signal, noise = float(torch.sigmoid(LOG_SNR)), float(torch.sigmoid(-LOG_SNR))
    covariances = signal * (FACTORS @ FACTORS.mT).double() + noise * torch.eye(3).double()
    return WEIGHTS.double(), math.sqrt(signal) * MEANS.double(), covariances


def law():
    return MixtureConditional(NoisedGaussianMixture(WEIGHTS, MEANS, FACTORS @ FACTORS.mT), LOG_SNR)


def exact(row, mask):
    """(log weights of components given the observed, conditional means, conditional covariances)."""
    logs, means, covariances = [], [], []
    o, m = (~mask).nonzero().flatten(), mask.nonzero().flatten()
    for weight, mean, covariance in zip(*parts(), strict=True):
        logs.append(weight.log())
        if len(o):
            logs[-1] = logs[-1] + MultivariateNormal(mean[o], covariance[o][:, o]).log_prob(row[o])
        gain = covariance[m][:, o] @ torch.linalg.inv(covariance[o][:, o])
        means.append(mean[m] + gain @ (row[o] - mean[o]))
        covariances.append(covariance[m][:, m] - gain @ covariance[o][:, m])
    return torch.stack(logs), torch.stack(means), torch.stack(covariances)


def test_observed_density_is_the_marginal():
    rows = torch.randn(4, 3, generator=seeded_generator(0), dtype=torch.float64)
    values = law().observed_log_density(rows, MASKS)
    truth = torch.stack([exact(row, mask)[0].logsumexp(0) for row, mask in zip(rows, MASKS, strict=True)])
    # The mixture keeps its parameters in float32: relative 6e-8 on logs of order 10.
    torch.testing.assert_close(values, truth, rtol=0, atol=1e-5)
    changed = torch.where(MASKS, 9.0, rows)
    assert torch.equal(law().observed_log_density(changed, MASKS), values)


def test_draws_have_the_conditional_moments():
    row, mask = torch.tensor([0.4, -0.3, 0.9]).double(), torch.tensor([True, False, True])
    draws = law().sample(row[None], mask[None], 40_000, generator=seeded_generator(1))[0]
    assert torch.equal(draws[:, 1], row[1].expand(len(draws)))
    logs, means, covariances = exact(row, mask)
    shares = logs.softmax(0)
    mean = shares @ means
    second = (shares[:, None, None] * (covariances + means[:, :, None] * means[:, None, :])).sum(0)
    found = draws[:, mask]
    assert_z(found, mean)
    assert_z(found[:, :, None] * found[:, None, :], second)
