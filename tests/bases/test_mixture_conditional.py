"""Marginals and conditionals of a Gaussian mixture against torch's multivariate normal, pattern by pattern."""

import math

import torch
from torch.distributions import MultivariateNormal

from drl_density.bases import NoisedGaussianMixture, mixture_conditional
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
    return NoisedGaussianMixture(WEIGHTS, MEANS, FACTORS @ FACTORS.mT).conditional(LOG_SNR)


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


def test_independent_columns_need_no_axes():
    """The same law with and without axes: density at every level, its gradient, covariances, marginals and draws."""
    variances = torch.tensor([[0.3, 1.2, 0.7], [0.9, 0.2, 1.5]])
    plain = NoisedGaussianMixture(WEIGHTS, MEANS, variances)
    dense = NoisedGaussianMixture(WEIGHTS, MEANS, torch.diag_embed(variances))
    assert plain.is_diagonal
    assert not dense.is_diagonal
    assert plain.axes is None
    x = torch.randn(12, 3, generator=seeded_generator(0), dtype=torch.float64).requires_grad_(True)
    log_snr = torch.linspace(-4, 4, 12).double()
    values = [mixture(x, log_snr) for mixture in (plain, dense)]
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-5)
    gradients = [torch.autograd.grad(value.sum(), x)[0] for value in values]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(plain.covariances(LOG_SNR), dense.covariances(LOG_SNR))
    laws = [mixture.conditional(LOG_SNR) for mixture in (plain, dense)]
    rows = x.detach()[:4]
    torch.testing.assert_close(*(each.observed_log_density(rows, MASKS) for each in laws), rtol=0, atol=1e-5)
    for index, mask in enumerate(MASKS):
        draws = [
            each.sample(rows[index : index + 1], mask[None], 20_000, generator=seeded_generator(seed))[0]
            for seed, each in enumerate(laws)
        ]
        seen = ~mask
        assert torch.equal(draws[0][:, seen], rows[index, seen].expand(len(draws[0]), -1))
        # Moments with products of different columns, and cubes: which component a draw's columns, means and variances are
        # of shows there.
        first, second = (torch.cat([each, (each[:, :, None] * each[:, None]).flatten(1), each**3], 1) for each in draws)
        for one, other in zip(first.T, second.T, strict=True):
            error = ((one.var() + other.var()) / len(one)).sqrt()
            assert_z(float(one.mean() - other.mean()), 0.0, float(error) + 1e-9)


def test_sums_of_products_and_whitening_give_one_density_and_large_precisions_are_whitened(monkeypatch):
    rows = torch.randn(4, 3, generator=seeded_generator(0), dtype=torch.float64)
    products = law().observed_log_density(rows, MASKS)
    assert law()._pattern(MASKS[0])._products is not None
    monkeypatch.setattr(mixture_conditional, "LARGEST_PRECISION", 0.0)
    torch.testing.assert_close(law().observed_log_density(rows, MASKS), products, rtol=1e-12, atol=1e-12)
    assert law()._pattern(MASKS[0])._products is None
    monkeypatch.undo()
    narrow = NoisedGaussianMixture(torch.ones(1), torch.full((1, 2), 3.0), 1e-6 * torch.eye(2)[None]).conditional()
    truth = MultivariateNormal(torch.full((1,), 3.0).double(), 1e-6 * torch.eye(1).double()).log_prob(rows[:1, 1:2])
    found = narrow.observed_log_density(rows[:1, :2], torch.tensor([[True, False]]))
    torch.testing.assert_close(found, truth, rtol=1e-6, atol=0)  # the variance is a float32 number


def test_draws_at_several_points_follow_from_the_numbers_of_their_row(monkeypatch):
    points = torch.randn(4, 2, 3, generator=seeded_generator(0), dtype=torch.float64)

    def numbers(index, shape):
        own = [torch.randn(shape, generator=seeded_generator(int(row)), dtype=torch.float64) for row in index]
        return torch.stack(own)

    draws, heights = law().draw(points, MASKS, 5, numbers)
    each = law().observed_log_density(points.flatten(0, 1), MASKS.repeat_interleave(2, 0))
    torch.testing.assert_close(heights.flatten(), each)
    is_given = ~MASKS[:, None, None].expand_as(draws)
    assert torch.equal(draws[is_given], points[:, :, None].expand_as(draws)[is_given])
    monkeypatch.setattr(mixture_conditional, "MOST_NUMBERS", 1)
    monkeypatch.setattr(mixture_conditional, "MOST_KEPT", 0)
    torch.testing.assert_close(law().draw(points, MASKS, 5, numbers)[0], draws, rtol=1e-12, atol=1e-12)


def test_draws_do_not_depend_on_how_many_matrices_are_copied(monkeypatch):
    """Thousands of columns leave no room for a matrix of every draw; the products are the same."""
    generator = seeded_generator(4)
    root = torch.randn(3, 6, 6, generator=generator)
    mixture = NoisedGaussianMixture(torch.full((3,), 1 / 3), torch.randn(3, 6, generator=generator), root @ root.mT)
    rows, is_missing = torch.zeros(4, 1, 6), torch.arange(6) < 4
    noise = torch.randn(4, 1, 500, 5, generator=generator).double()
    found = []
    for most in (2**22, 0):
        monkeypatch.setattr(mixture_conditional, "MOST_COPIED", most)
        draws = mixture.sample(200, generator=seeded_generator(5)).double()
        given, _ = mixture.conditional().draw(rows, is_missing.expand(4, 6), 500, lambda some, _: noise[some])
        found.append((draws, given))
    for copied, multiplied in zip(*found, strict=True):
        torch.testing.assert_close(multiplied, copied, rtol=1e-5, atol=1e-5)
