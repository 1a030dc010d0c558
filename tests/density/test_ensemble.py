"""Densities of several members."""

import torch

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.density.ensemble import join
from drl_density.density.model_state import members_from_values, members_to_values
from drl_density.networks import MLP, MLPSettings


def test_average_of_members_is_the_mean_of_their_energies():
    models = []
    for seed, spread in enumerate((2 * torch.eye(3), 0.5 * torch.ones(3))):
        generator = torch.Generator().manual_seed(seed)
        base = NoisedGaussianMixture(torch.ones(1), torch.full((1, 3), float(seed)), spread[None])
        network = MLP(MLPSettings(3, width=8), generator=generator)
        torch.nn.init.normal_(network.readout.weight, generator=generator)
        models.append(drl.EnergySequence(drl.NoiseSchedule.log_spaced(3), network, (3,), base=base))
    joined = join(models)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(5))
    mean = torch.stack([model.log_density(x, 1) for model in models]).mean(0)
    torch.testing.assert_close(joined.log_density(x, 1), mean)
    assert joined.is_integrable
    values = members_to_values(joined)
    again = members_from_values(values, joined.schedule)
    again.load_state_dict(joined.state_dict())
    assert torch.equal(again.log_density(x, 1), joined.log_density(x, 1))
