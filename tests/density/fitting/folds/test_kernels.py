"""Kernels around rows: the average that they make with a stack, when they join it, and which rows score which."""

import math

import torch
from torch.distributions import MultivariateNormal

from drl_density.bases import NoisedGaussianMixture
from drl_density.density.fitting.folds.kernels import Kernels, choose_kernels
from drl_density.testing import seeded_generator


def normals(count, dim, seed):
    return torch.randn(count, dim, generator=seeded_generator(seed), dtype=torch.float64)


def log_normal(rows):
    return -0.5 * rows.square().sum(1) - 0.5 * rows.shape[1] * math.log(2 * math.pi)


def test_the_joined_mixture_is_the_weighted_average_of_the_stack_and_its_kernels():
    rows, x = normals(7, 3, 0), normals(20, 3, 1)
    shape = torch.eye(3, dtype=torch.float64) + 0.3
    stack = NoisedGaussianMixture(torch.tensor([0.4, 0.6]), normals(2, 3, 2), torch.stack([shape, 2 * shape]))
    kernels = Kernels(torch.tensor([0.1, 0.2], dtype=torch.float64), torch.stack([0.04 * shape, shape]), 0.1, 0.01)
    parts = [stack.log_prob(x) + math.log(0.7)]
    for weight, covariance in zip(kernels.weights, kernels.covariances, strict=True):
        around = MultivariateNormal(rows, covariance).log_prob(x[:, None]).logsumexp(1)
        parts.append(around - math.log(7) + weight.log())
    # The mixture is stored in float32.
    torch.testing.assert_close(
        kernels.join(stack, rows).log_prob(x), torch.stack(parts).logsumexp(0), rtol=1e-5, atol=1e-5
    )


def test_kernels_join_where_rows_lie_in_tight_clusters():
    centers = normals(50, 4, 3)
    rows = (centers[:, None] + 0.1 * normals(200, 4, 4).reshape(50, 4, 4)).flatten(0, 1)
    found = choose_kernels(rows, torch.arange(len(rows)), log_normal(rows))
    assert found is not None
    assert 0 < float(found.weights.sum()) < 1
    assert found.gain > 1
    assert "left-out rows gain" in found.describe()
    # In groups of whole clusters no row has a neighbour left.
    assert choose_kernels(rows, torch.arange(50).repeat_interleave(4), log_normal(rows)) is None


def test_no_kernels_without_a_gain_or_where_they_would_be_too_large():
    rows = normals(300, 3, 5)
    assert choose_kernels(rows, torch.arange(300), log_normal(rows)) is None
    assert choose_kernels(rows, torch.zeros(300), torch.full((300,), -100.0)) is None
    wide = normals(60, 200, 6)
    assert choose_kernels(wide, torch.arange(60), torch.full((60,), -1e6)) is None
