"""The network of an autoregressive density: how it begins, and what it reads."""

import torch

from drl_density.bases import PixelSettings
from drl_density.bases.autoregressive.network import PixelNetwork
from drl_density.testing import seeded_generator

SETTINGS = PixelSettings((1, 4, 4), num_cells=5, width=12, rank=7)


def test_a_new_network_leaves_the_histograms_as_they_are_and_learns_from_there():
    network = PixelNetwork(SETTINGS, generator=seeded_generator(0))
    read = torch.randint(6, (9, network.num_read), generator=seeded_generator(1))
    places = torch.randint(16, (9,), generator=seeded_generator(2))
    network.leave.requires_grad_()
    logits = network(read, places)
    assert not bool(logits.any())
    (slope,) = torch.autograd.grad(logits.log_softmax(1)[:, 2].sum(), network.leave)
    assert float(slope.abs().max()) > 0.1


def test_values_places_and_dropout_reach_the_logits():
    network = PixelNetwork(SETTINGS, generator=seeded_generator(0))
    network.leave.normal_(generator=seeded_generator(3))
    read, places = torch.ones(2, network.num_read, dtype=torch.long), torch.zeros(2, dtype=torch.long)
    same = network(read, places)
    torch.testing.assert_close(same[0], same[1])
    for level in (0, 4, 5):  # the lowest value, the highest one, and outside the image
        other = read.clone()
        other[1, 3] = level
        assert float((network(other, places) - same).abs().max()) > 1e-3
    assert float((network(read, places + 5) - same).abs().max()) > 1e-3
    assert float((network(read, places, lambda hidden: 0.5 * hidden) - same).abs().max()) > 1e-3


def test_more_factors_than_waves_have_random_numbers():
    network = PixelNetwork(SETTINGS, generator=seeded_generator(0))
    assert network.factors.shape == (5, 7)
    assert int(torch.linalg.matrix_rank(network.factors)) == 5
    assert PixelNetwork(PixelSettings((1, 2, 2), rank=1, width=3)).factors.shape == (256, 1)
