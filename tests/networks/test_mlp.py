"""The residual perceptron for vectors: start, growth, dropout, inputs."""

import pytest
import torch
from torch import nn

from drl_density.networks import MLP, MLPSettings
from drl_density.testing import seeded_generator


def awake(**sizes):
    """A network whose readout and modulation are not zero, in float64."""
    generator = seeded_generator(0)
    network = MLP(MLPSettings(3, width=16, **sizes), generator=generator).double()
    for part in (network.readout, network.modulate):
        nn.init.normal_(part.weight, std=0.3, generator=generator)
    return network


def rows(count=4):
    return torch.randn(count, 3, generator=seeded_generator(1), dtype=torch.float64)


def test_a_new_network_is_zero():
    network = MLP(MLPSettings(3, num_fourier_features=4), generator=seeded_generator(0))
    assert torch.equal(network(rows().float(), torch.zeros(4)), torch.zeros(4))


def test_growth_is_at_most_linear():
    """Far out, doubling x at most doubles the output, up to a vanishing share."""
    network, log_snr = awake(num_fourier_features=8), torch.zeros(20, dtype=torch.float64)
    near, far = (network(scale * rows(20), log_snr).abs() for scale in (1e5, 2e5))
    assert network.has_bounded_growth
    assert bool((far <= 2.01 * near + 1.0).all())


def test_the_level_matters():
    network, x = awake().eval(), rows()
    low, high = (network(x, torch.tensor(value).double()) for value in (-3.0, 3.0))
    assert bool(((low - high).abs() > 1e-4).all())


def test_dropout_is_for_training_alone():
    network, x, log_snr = awake(dropout=0.5), rows(), torch.zeros(4).double()
    plain = awake()
    assert torch.equal(network.eval()(x, log_snr), plain(x, log_snr))
    torch.manual_seed(0)
    network.train()
    assert not torch.equal(network(x, log_snr), network(x, log_snr))


def test_equal_generators_give_equal_networks():
    states = [MLP(MLPSettings(3, num_fourier_features=4), generator=seeded_generator(0)).state_dict() for _ in range(2)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_vectors_of_another_length_are_refused():
    with pytest.raises(ValueError, match="vectors of length 3"):
        awake()(torch.zeros(2, 5).double(), torch.zeros(2).double())
