"""The tilt over columns: start, bound, levels, dropout, inputs."""

import pytest
import torch
from torch import nn

from drl_density import EnergySequence, NoiseSchedule
from drl_density.bases import Base, NoisedGaussianMixture, Tail
from drl_density.networks import ColumnTilt, ColumnTiltSettings, Ensemble
from drl_density.testing import seeded_generator


def awake(**sizes):
    """A network whose readout and modulation are not zero, in float64."""
    generator = seeded_generator(0)
    network = ColumnTilt(ColumnTiltSettings(3, width=16, **sizes), generator=generator).double()
    for part in (network.readout, network.modulate):
        nn.init.normal_(part.weight, std=0.3, generator=generator)
    return network


def rows(count=4):
    return torch.randn(count, 3, generator=seeded_generator(1), dtype=torch.float64)


def test_a_new_network_is_zero():
    network = ColumnTilt(ColumnTiltSettings(3), generator=seeded_generator(0))
    assert torch.equal(network(rows().float(), torch.zeros(4)), torch.zeros(4))


def test_it_is_constant_far_out():
    """Along any ray the features have saturated: a hundred times further changes nothing."""
    network, log_snr = awake().eval(), torch.tensor(1.0).double()
    near, far = (network(scale * rows(20).sign(), log_snr) for scale in (1e3, 1e5))
    torch.testing.assert_close(near, far, rtol=1e-9, atol=1e-9)
    assert network.is_bounded


def test_columns_are_seen_apart():
    """The bank resolves a column finely: the output is far from linear between neighbouring sigmoids."""
    network = awake().eval()
    line = torch.zeros(41, 3, dtype=torch.float64)
    line[:, 1] = torch.linspace(-2, 2, 41)
    values = network(line, torch.tensor(0.0).double())
    bends = (values.detach()[2:] - 2 * values.detach()[1:-1] + values.detach()[:-2]).abs()
    assert float(bends.max()) > 1e-3


def test_the_level_matters_and_rows_keep_their_own():
    network, x = awake().eval(), rows()
    low, high = (network(x, torch.tensor(value).double()) for value in (-3.0, 3.0))
    assert bool(((low - high).abs() > 1e-4).all())
    mixed = network(x, torch.tensor([-3.0, 3.0, 3.0, -3.0]).double())
    torch.testing.assert_close(mixed, torch.stack([low[0], high[1], high[2], low[3]]))


def test_dropout_draws_in_training_alone():
    network, x, log_snr = awake(dropout=0.5), rows(), torch.tensor(0.0).double()
    network.train()
    assert not torch.equal(network(x, log_snr), network(x, log_snr))
    network.eval()
    assert torch.equal(network(x, log_snr), network(x, log_snr))


def test_vectors_of_another_length_are_refused():
    with pytest.raises(ValueError, match="vectors of length 3"):
        awake()(torch.zeros(2, 4, dtype=torch.float64), torch.tensor(0.0).double())


class HeavyTailed(NoisedGaussianMixture):
    """A base whose tail says nothing about integrability with a growing network."""

    @property
    def tail(self):
        return Tail.UNKNOWN


@pytest.mark.parametrize("base", [NoisedGaussianMixture.standard(3), HeavyTailed.standard(3)])
def test_a_sequence_on_any_normalised_base_is_integrable(base: Base):
    assert EnergySequence(NoiseSchedule.log_spaced(3), awake().float(), (3,), base=base).is_integrable


def test_the_bank_is_sigmoids_at_normal_quantiles_and_a_wide_tangent():
    network, x = awake(num_sigmoids=5), rows()
    quantiles = torch.special.ndtri((torch.arange(5).double() + 0.5) / 5)
    gaps = torch.gradient(quantiles)[0]
    bank = 2 * torch.sigmoid(1.7 * (x[..., None] - quantiles) / gaps) - 1
    bank = torch.cat([bank, 3 * torch.tanh(x / 3)[..., None]], -1)
    wanted = torch.einsum("ndk,dkm->dnm", bank, network.columns)
    torch.testing.assert_close(network.bank().columns(x), wanted, rtol=1e-6, atol=1e-6)  # float32 quantiles are stored


@pytest.mark.parametrize("places", [[1], [0, 3], [0, 1, 2, 3]])
def test_columns_that_vectors_share_are_mapped_once(places):
    def tilt(seed):
        made = ColumnTilt(ColumnTiltSettings(4, width=16), generator=torch.Generator().manual_seed(seed))
        made.readout.weight.data.normal_(generator=torch.Generator().manual_seed(seed))
        return made.eval().requires_grad_(False)

    generator = torch.Generator().manual_seed(0)
    x, values = torch.randn(5, 4, generator=generator), torch.randn(5, 7, len(places), generator=generator)
    whole = x[:, None].repeat(1, 7, 1)
    whole[:, :, places] = values
    for network in (tilt(0), Ensemble([tilt(1), tilt(2)])):
        found = network.with_columns(x, values, torch.tensor(places), torch.tensor(2.0))
        torch.testing.assert_close(
            found, network(whole.flatten(0, 1), torch.tensor(2.0)).reshape(5, 7), rtol=1e-5, atol=1e-5
        )
        assert network.maps_columns
        assert not network.train().maps_columns
    with pytest.raises(ValueError, match="no column tilts"):
        Ensemble([tilt(1).train()]).with_columns(x, values, torch.tensor(places), torch.tensor(2.0))
