"""Energies of labels against exact class densities."""

import math

import pytest
import torch
from torch import nn

from drl_density.networks import (
    LabelSum,
    combine_labels,
    guide_by_label,
)


class ClassDensities(nn.Module):
    """Exact log densities of two classes and of their mixture (label 0), one dimension, any level ignored."""

    has_bounded_growth = True

    def forward(self, x, log_snr, label):
        parts = torch.stack([torch.distributions.Normal(m, s).log_prob(x[:, 0]) for m, s in ((-1.0, 0.6), (1.2, 0.9))])
        prior = torch.tensor([0.3, 0.7], dtype=torch.float64).log()[:, None]
        mixed = (parts + prior).logsumexp(0)
        return torch.where(label == 0, mixed, torch.where(label == 1, parts[0], parts[1]))


def test_guidance_is_the_density_it_claims():
    """exp of (1 + w) f(c) - w f(not told), normalised on a grid, is p(c|x)^w p(x|c), normalised on the same grid."""
    grid = torch.linspace(-6, 6, 801, dtype=torch.float64)[:, None]
    exact, log_snr = ClassDensities(), torch.zeros((), dtype=torch.float64)
    own, mixed = (exact(grid, log_snr, torch.tensor(label)) for label in (2, 0))
    posterior = own + math.log(0.7) - mixed
    for weight in (0.0, 0.5, 2.0):
        found = guide_by_label(exact, 2, weight)(grid, log_snr).log_softmax(0)
        assert torch.allclose(found, (weight * posterior + own).log_softmax(0), atol=1e-10)
    both = combine_labels(exact, [1, 2])(grid, log_snr)
    assert torch.allclose(both, exact(grid, log_snr, torch.tensor(1)) + own - mixed, atol=1e-10)
    with pytest.raises(ValueError, match="summing to 1"):
        type(both_net := combine_labels(exact, [1]))(exact, (1, 0), (1.0, both_net.weights[0]))


@pytest.mark.parametrize(("labels", "weights"), [([], []), ([1, 2], [1.0]), ([1, 2], [0.5, 0.4])])
def test_weights_that_do_not_fit_are_refused(labels, weights):
    with pytest.raises(ValueError, match="as many weights as labels, summing to 1"):
        LabelSum(ClassDensities(), labels, weights)


def test_a_label_without_weight_is_never_evaluated():
    seen = []

    class Noting(nn.Module):
        def forward(self, x, log_snr, label):
            seen.append(int(label))
            return x.sum(1)

    guide_by_label(Noting(), 2, 0.0)(torch.ones(3, 1), torch.tensor(0.0))
    assert seen == [2]
