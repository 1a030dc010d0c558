"""A sequence with exact scores and weights that finetuning can change."""

import torch

import drl_density as drl
from drl_density.testing import GaussianMixtureSequence, seeded_generator


class Tunable(torch.nn.Module):
    """The exact mixture plus a small network that starts at zero."""

    has_bounded_growth = True

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.change = drl.networks.MLP(
            drl.networks.MLPSettings(2, width=32, num_blocks=1), generator=seeded_generator(0)
        ).double()

    def forward(self, x, log_snr):
        return self.inner(x, log_snr) + self.change(x, log_snr)


def tunable_sequence(system=None):
    system = system or GaussianMixtureSequence.example(dim=2, seed=0)
    return drl.EnergySequence(system.schedule, Tunable(system.model.network), (2,), has_base=False, dtype=torch.float64)
