"""A base and a network as one energy, and the mean of several."""

import torch
from torch import nn

from drl_density.bases import AveragedTilts, NoisedGaussianMixture, Tilted
from drl_density.networks import MLP, ColumnTilt, ColumnTiltSettings, Ensemble, MLPSettings
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


def test_average_relative_to_the_mixture_of_bases_is_the_mean_of_all_energies():
    bases = [NoisedGaussianMixture(torch.ones(1), torch.full((1, 2), place), torch.ones(1, 2)) for place in (0.0, 2.0)]
    networks = [ColumnTilt(ColumnTiltSettings(2, width=8)) for _ in bases]
    for seed, network in enumerate(networks):
        nn.init.normal_(network.readout.weight, generator=seeded_generator(seed))
    parts = [Tilted(base, network) for base, network in zip(bases, networks, strict=True)]
    average, whole = AveragedTilts(parts), NoisedGaussianMixture.even(bases)
    x, log_snr = 3 * torch.randn(9, 2, generator=seeded_generator(1)), torch.tensor(0.5)
    torch.testing.assert_close(whole(x, log_snr) + average(x, log_snr), Ensemble(parts)(x, log_snr))
    assert average.is_bounded
    assert not AveragedTilts([*parts, Tilted(bases[0], MLP(MLPSettings(2, width=8)))]).is_bounded
