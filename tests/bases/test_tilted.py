"""A base and a network as one energy."""

import torch
from torch import nn

from drl_density.bases import NoisedGaussianMixture, Tilted
from drl_density.networks import MLP, MLPSettings
from drl_density.testing import seeded_generator
from tests.bases.test_contract import Uniform


def test_it_is_the_sum_of_both_parts():
    base, network = NoisedGaussianMixture.standard(2), MLP(MLPSettings(2, width=8))
    nn.init.normal_(network.readout.weight, generator=seeded_generator(0))
    x, log_snr = torch.randn(3, 2, generator=seeded_generator(1)), torch.tensor(0.5)
    assert torch.equal(Tilted(base, network)(x, log_snr), base(x, log_snr) + network(x, log_snr))


def test_it_is_integrable_where_the_base_outweighs_the_network():
    base, network = NoisedGaussianMixture.standard(1), MLP(MLPSettings(1, width=8))
    assert Tilted(base, network).is_integrable
    assert not Tilted(base, nn.Identity()).is_integrable
    assert not Tilted(Uniform(), network).is_integrable
