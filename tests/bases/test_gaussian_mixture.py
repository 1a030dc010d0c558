"""Gaussian mixtures: shapes, forms with and without axes, checks of what is given. The contract has a battery of its own."""

import pytest
import torch

from drl_density.bases import NoisedGaussianMixture
from drl_density.bases.gaussian_mixture import draw_components
from drl_density.testing import assert_z, seeded_generator

WEIGHTS = torch.tensor([0.7, 0.3])
MEANS = torch.tensor([[-1.0, 0.5, 0.0], [1.2, -0.4, 0.8]])


def test_wrong_shapes():
    with pytest.raises(ValueError, match="or variances .K, d., got .2,., .2, 3., .3,."):
        NoisedGaussianMixture(WEIGHTS, MEANS, torch.ones(3))
    with pytest.raises(ValueError, match="positive definite"):
        NoisedGaussianMixture(WEIGHTS, MEANS, torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]))
    with pytest.raises(ValueError, match="weights must be positive and sum to 1, got .0.5, 0.25."):
        NoisedGaussianMixture(torch.tensor([0.5, 0.25]), MEANS, torch.ones(2, 3))
    with pytest.raises(ValueError, match="weights must be positive"):
        NoisedGaussianMixture(torch.tensor([1.0, 0.0]), MEANS, torch.ones(2, 3))


def test_the_standard_normal_is_itself_at_every_level():
    base, x = NoisedGaussianMixture.standard(3), torch.randn(5, 3, generator=seeded_generator(0), dtype=torch.float64)
    truth = torch.distributions.Normal(0, 1).log_prob(x).sum(1)
    for log_snr in (-5.0, 0.0, 5.0):
        torch.testing.assert_close(base(x, torch.tensor(log_snr)), truth, rtol=1e-12, atol=1e-12)


def test_an_empty_mixture_has_the_shape_of_its_state():
    for is_diagonal in (True, False):
        base = NoisedGaussianMixture.empty(4, 3, is_diagonal=is_diagonal)
        assert (base.num_components, base.num_features, base.is_diagonal) == (4, 3, is_diagonal)


def test_noise_keeps_the_axes():
    base = NoisedGaussianMixture(WEIGHTS, MEANS, torch.eye(3).expand(2, 3, 3) + 0.3)
    assert torch.equal(base.noised(torch.tensor(0.5)).axes, base.axes)
    assert not torch.equal(base.noised(torch.tensor(0.5)).variances, base.variances)


def test_components_are_drawn_by_their_weights():
    drawn = draw_components(WEIGHTS.log(), 20_000, seeded_generator(1))
    assert_z((drawn == 0).double(), 0.7)
