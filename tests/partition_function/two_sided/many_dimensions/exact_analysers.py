"""The exact mixture of factor analysers as a sequence in 64 dimensions: log Z is 0 at every level."""

import functools

import torch

from drl_density.bases import FactorAnalysers
from drl_density.model import EnergySequence
from drl_density.partition_function import SandwichSettings
from drl_density.partition_function.two_sided.many_dimensions.walks import SequenceWalks, walk_sequence
from drl_density.schedule import NoiseSchedule
from drl_density.testing import seeded_generator

DIM = 64
SMALL = SandwichSettings(num_particles=96, path_steps_per_level=6, num_mixing_steps=10, num_kept=2)
"""Twelve paths in each of eight replicates, of 60 steps."""


def analysers(seed=0, num_components=4, num_factors=3):
    """Factor analysers whose components lie apart and whose noise differs by a factor of ten."""
    generator = seeded_generator(seed)
    shape = (num_components, DIM)
    loadings = torch.randn(*shape, num_factors, generator=generator) * (0.6 / num_factors) ** 0.5
    noises = 0.03 + 0.3 * torch.rand(shape, generator=generator)
    means = 0.6 * torch.randn(shape, generator=generator)
    return FactorAnalysers(torch.full((num_components,), 1 / num_components), means, loadings, noises)


class Exact(torch.nn.Module):
    """An exact density as the network itself, so that nothing knows that it is normalised."""

    has_bounded_growth = False

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, log_snr):
        return self.base(x, log_snr)


def sequence(base):
    """The base at ten levels as a sequence without a base of its own."""
    schedule = NoiseSchedule(torch.linspace(5.3, -9.0, 11))
    return EnergySequence(schedule, Exact(base), (DIM,), has_base=False, is_integrable=True)


@functools.cache
def small_walks() -> SequenceWalks:
    """Walks along the exact sequence from 300 rows, made once for all tests."""
    generator = seeded_generator(1)
    base = analysers()
    rows = base.sample(300, generator=generator)
    return walk_sequence(sequence(base), data=rows, settings=SMALL, generator=generator)
