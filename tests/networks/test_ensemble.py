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


def tilts():
    """Two fixed tilts whose readouts are not zero."""
    found = []
    for seed in (0, 1):
        generator = seeded_generator(seed)
        found.append(ColumnTilt(ColumnTiltSettings(3, width=8), generator=generator).eval().requires_grad_(False))
        nn.init.normal_(found[-1].readout.weight, std=0.3, generator=generator)
    return found


def test_fixed_tilts_are_evaluated_together_until_they_change(monkeypatch):
    members = tilts()
    both, x, log_snr = Ensemble(members), torch.randn(5, 3, generator=seeded_generator(2)), torch.tensor(1.0)

    def mean():
        return torch.stack([member(x, log_snr) for member in members]).mean(0)

    first = both(x, log_snr)
    torch.testing.assert_close(first, mean())
    kept = both._kept
    both(x, log_snr)
    assert both._kept is kept
    members[1].readout.weight.mul_(2)
    torch.testing.assert_close(both(x, log_snr), mean())
    assert not torch.allclose(both(x, log_snr), first)
    both.double()
    x, log_snr = x.double(), log_snr.double()
    torch.testing.assert_close(both(x, log_snr), mean())
    assert not any("_kept" in name for name in both.state_dict())


def test_tilts_that_learn_keep_their_gradients():
    members = [member.requires_grad_() for member in tilts()]
    Ensemble(members)(torch.randn(5, 3), torch.tensor(1.0)).sum().backward()
    assert all(float(member.readout.weight.grad.abs().sum()) > 0 for member in members)
