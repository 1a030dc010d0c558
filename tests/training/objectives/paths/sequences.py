"""Small sequences over factor analysers, with a tilt that is zero or wrong, for the tests of paths."""

import dataclasses

import torch
from torch import nn

from drl_density.bases import FactorAnalysers
from drl_density.model import EnergySequence
from drl_density.networks import MLP, MLPSettings
from drl_density.schedule import NoiseSchedule
from drl_density.testing import seeded_generator
from drl_density.training import PathMeter, new_state

STEP_SIZES = torch.ones(4)


def base():
    generator = seeded_generator(0)
    means = 1.5 * torch.randn(2, 6, generator=generator)
    return FactorAnalysers(
        torch.tensor([0.6, 0.4]), means, 0.5 * torch.randn(2, 6, 2, generator=generator), 0.2 * torch.ones(2, 6)
    )


class Wrong(nn.Module):
    """A tilt of one column whose size jumps up and down between the levels: no sequence of noised densities has one."""

    has_bounded_growth = True

    def __init__(self):
        super().__init__()
        self.size = nn.Parameter(torch.tensor(1.0))

    def forward(self, x, log_snr):
        return self.size * torch.sin(6 * log_snr) * x[:, 0] + 0.0 * log_snr


def sequence(network=None, num_levels=4):
    network = MLP(MLPSettings(6, width=8), generator=seeded_generator(1)) if network is None else network
    return EnergySequence(NoiseSchedule.log_spaced(num_levels, sigma_min=0.2), network, (6,), base=base())


def measured(model, objective, num_rows=256):
    meter = PathMeter(objective, most_rows=num_rows)
    record = meter(model, base().sample(num_rows, generator=seeded_generator(2)), STEP_SIZES)
    return meter, record


def with_tables(model, objective):
    state = new_state(model, learning_rate=1e-2, weight_decay=0.0, average_decay=0.9, seed=0)
    meter, _ = measured(model, objective)
    meter.redraw(state)
    return dataclasses.replace(objective, tables=lambda: state.drawn), state
