"""The average of several networks."""

import pytest
import torch
from torch import nn

from drl_density.bases import NoisedGaussianMixture
from drl_density.networks import MLP, ColumnTilt, ColumnTiltSettings, Ensemble, MLPSettings
from drl_density.testing import seeded_generator


def awake(seed):
    """A network whose readout is not zero."""
    generator = seeded_generator(seed)
    network = MLP(MLPSettings(3, width=16), generator=generator).double()
    nn.init.normal_(network.readout.weight, std=0.3, generator=generator)
    return network


def test_ensemble_is_the_mean_energy():
    members = [awake(seed) for seed in (0, 1)]
    x, log_snr = torch.randn(4, 3, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    mean = (members[0](x, log_snr) + members[1](x, log_snr)) / 2
    torch.testing.assert_close(Ensemble(members)(x, log_snr), mean, rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="at least one"):
        Ensemble([])


def test_it_declares_what_all_its_members_declare():
    bounded, proper = awake(0), NoisedGaussianMixture.standard(3)
    assert Ensemble([bounded, bounded]).has_bounded_growth
    assert not Ensemble([bounded, proper]).has_bounded_growth
    assert not Ensemble([bounded, proper]).is_integrable
    assert Ensemble([proper, proper]).is_integrable
    assert not Ensemble([proper, nn.Identity()]).is_integrable
    tilt = ColumnTilt(ColumnTiltSettings(3, width=8))
    assert Ensemble([tilt, tilt]).is_bounded
    assert not Ensemble([tilt, bounded]).is_bounded
