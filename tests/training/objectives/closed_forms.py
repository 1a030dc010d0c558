"""Closed-form sequences, initialisers and chains for the tests of objectives."""

import torch
from torch import nn

from drl_density import NoiseSchedule
from drl_density.bases import QuadraticBase
from drl_density.model import EnergySequence
from drl_density.networks import (
    ResidualEnergy,
    ResidualSettings,
    StepCalibrated,
    UNet,
    UNetSettings,
)
from drl_density.testing import gaussian_sequence, seeded_generator
from drl_density.training import ChainEnds, LangevinChains

VARIANCE = 0.5


class Quadratic(nn.Module):
    """f(y) = -precision |y|^2 / 2, one precision for all levels."""

    has_bounded_growth = True

    def __init__(self, precision=1.0):
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(precision, dtype=torch.float64))

    def forward(self, x, log_snr):
        return -0.5 * self.precision * x.square().flatten(1).sum(1)


def exact(schedule=None):
    """Gaussian data of one variance, exact at every level."""
    schedule = schedule or NoiseSchedule.log_spaced(4)
    return gaussian_sequence(torch.zeros(1), torch.full((1, 1), VARIANCE), schedule)


def image_sequence(*, initializer=None, num_classes=0, base=True, schedule=None):
    schedule = schedule or NoiseSchedule.linear_beta()
    sizes = ResidualSettings((1, 8, 8), num_channels=8, multipliers=(1, 2), num_blocks=1, num_classes=num_classes)
    raw = ResidualEnergy(sizes, generator=seeded_generator())
    network = StepCalibrated(raw, schedule.log_snr[:-1].float(), *(t.float() for t in schedule.langevin_steps()))
    return EnergySequence(
        schedule,
        network,
        (64,),
        base=QuadraticBase(64, 10.0) if base else None,
        has_base=base,
        initializer=initializer,
    )


def unet(num_classes=0):
    sizes = UNetSettings((1, 8, 8), num_channels=8, multipliers=(1, 1), num_blocks=1, num_classes=num_classes)
    return UNet(sizes, generator=seeded_generator(9))


def conditional_in_y(system, level, chains):
    """(precision, mean over x_noisier) of y given x_noisier, the quadratic term left out at a marginal top."""
    schedule = system.schedule
    a = float(chains.step_alpha(system.model, torch.tensor([level])))
    sigma = float(schedule.step_sigma[level])
    marginal = float(schedule.alpha[level] ** 2 * VARIANCE + schedule.sigma[level] ** 2)
    pull = 0.0 if level == schedule.num_levels - 1 and chains.is_top_marginal else sigma**-2
    precision = 1 / (a**2 * marginal) + pull
    return precision, pull / precision


def staying(monkeypatch, offset=0.0):
    """Chains that end ``offset`` beyond their start, and a list of what each run was given: (start, x_noisier, levels)."""
    runs = []

    def run(self, model, start, x_noisier, levels, *, label=None, generator=None):
        runs.append((start, x_noisier, levels))
        return ChainEnds(start + offset, torch.ones(len(start), dtype=start.dtype))

    monkeypatch.setattr(LangevinChains, "run", run)
    return runs


def papers_alpha(schedule):
    """a of levels 0..T-1: that of the steps, and 1 at the top."""
    return torch.cat([schedule.step_alpha[:-1], torch.ones(1, dtype=torch.float64)])


class Slopes(nn.Module):
    """A linear initialiser: one slope per level, found by the log-SNR of the noisier one."""

    def __init__(self, schedule):
        super().__init__()
        self.table = schedule.log_snr[1:]
        self.slope = nn.Parameter(torch.full((schedule.num_levels,), 0.5, dtype=torch.float64))

    def forward(self, x, log_snr):
        return self.slope[(self.table - log_snr[:, None]).abs().argmin(1)][:, None] * x


def with_slopes(slope, *, dim=1):
    """A standard Gaussian sequence with a linear initialiser."""
    system = gaussian_sequence(torch.zeros(dim), torch.eye(dim), NoiseSchedule.log_spaced(4))
    model = system.model
    model.initializer = Slopes(system.schedule)
    nn.init.constant_(model.initializer.slope, slope)
    return system.schedule, model
