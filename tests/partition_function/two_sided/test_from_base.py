"""Sandwiches of bounded tilts of a base, whose log Z is known in closed form."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from drl_density import EnergySequence, NoiseSchedule
from drl_density.errors import UnreliableEstimateWarning, Verdict
from drl_density.partition_function import SandwichSettings, sequence_sandwich
from drl_density.partition_function.importance import importance_efficiency
from drl_density.partition_function.two_sided.estimates import Estimator
from drl_density.partition_function.two_sided.from_base import importance_estimate, with_error
from drl_density.testing import seeded_generator

SMALL = SandwichSettings(num_particles=64, num_replicates=4, num_mixing_steps=10)


class Step(nn.Module):
    """g = height where x_0 > edge, else 0: over N(0, I), Z = 1 + P(x_0 > edge) (exp(height) - 1) at every level."""

    has_bounded_growth = is_bounded = True

    def __init__(self, height, edge):
        super().__init__()
        self.height, self.edge = nn.Parameter(torch.tensor(height)), edge

    def forward(self, x, log_snr):
        return self.height * (x[:, 0] > self.edge)


def sequence(height, edge):
    return EnergySequence(NoiseSchedule.log_spaced(3), Step(height, edge), (2,))


@pytest.mark.parametrize("height", [0.0, 1.0])
def test_the_interval_of_a_bounded_tilt_holds_the_truth(height):
    generator = seeded_generator(0)
    data = torch.randn(200, 2, generator=generator)
    found = sequence_sandwich(sequence(height, 0.0), data=data, settings=SMALL, generator=generator)
    truth = math.log(0.5 * (1 + math.exp(height)))
    assert found.lower - 1e-9 <= truth <= found.upper + 1e-9
    assert found.upper - found.lower < 0.2
    assert (found.verdict, found.origin) == (Verdict.RELIABLE, "the reference")
    for name in (Estimator.IMPORTANCE, Estimator.NOISE, Estimator.ANNEALING):
        assert found.estimates[name].log_z == pytest.approx(truth, abs=0.25), name
    assert height or found.log_z == 0.0  # the untouched reference


class Ramp(nn.Module):
    """g = 1.8 x_0 inside [-8, 8], constant beyond: over N(0, I) nearly the Gaussian at 1.8, and log Z nearly 1.62."""

    has_bounded_growth = is_bounded = True

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(1.8))

    def forward(self, x, log_snr):
        return self.slope * x[:, 0].clamp(-8, 8)


def test_an_inefficient_base_takes_more_draws_and_its_interval_is_as_narrow():
    """Log weights are normal with standard deviation 1.8, so the efficiency is exp(-3.24) = 0.039."""
    model = EnergySequence(NoiseSchedule.log_spaced(3), Ramp(), (2,))
    generator = seeded_generator(1)
    efficiency = importance_efficiency(importance_estimate(model, generator=generator).log_weights)
    assert efficiency == pytest.approx(math.exp(-(1.8**2)), rel=0.3)
    data = torch.randn(200, 2, generator=generator) + torch.tensor([1.8, 0.0])
    found = sequence_sandwich(model, data=data, settings=SMALL, generator=generator)
    assert (found.verdict, found.origin) == (Verdict.RELIABLE, "the reference")
    assert found.forward.shape in ((4, 64 * 2), (4, 64 * 3))  # the estimated efficiency decides
    assert found.reverse.shape == (4, 64)
    assert found.lower < 1.62 < found.upper
    assert found.upper - found.lower < 0.5
    for name in (Estimator.IMPORTANCE, Estimator.ANNEALING, Estimator.BENNETT_DATA):
        assert found.estimates[name].log_z == pytest.approx(1.62, abs=0.3), name


def test_mass_that_the_base_never_draws_is_seen_from_data():
    """One in a thousand million draws of the base lies beyond 6, where the tilt puts three quarters of the mass."""
    rows = torch.tensor([[6.3, 0.0], [6.6, 0.5]]).repeat(20, 1)
    with pytest.warns(UnreliableEstimateWarning, match="above those started at the reference"):
        found = sequence_sandwich(sequence(22.0, 6.0), data=rows, settings=SMALL, generator=seeded_generator(1))
    assert found.verdict is Verdict.UNKNOWN


def test_the_larger_of_both_errors_counts_and_an_unbounded_network_has_no_estimate():
    model = sequence(1.0, 0.0)
    found = importance_estimate(model, generator=seeded_generator(4))
    for errors in ((0.1, 0.3), (0.3, 0.1)):
        given = dataclasses.replace(found, standard_error=errors[0], within_run_error=errors[1])
        assert with_error(given) == (found.log_z, 0.3)
    model.network.is_bounded = False
    assert importance_estimate(model) is None


def test_a_very_inefficient_base_leaves_the_way_to_the_noise_levels():
    model = sequence(8.0, 2.5)
    estimate = importance_estimate(model, generator=seeded_generator(2))
    assert estimate is not None
    assert importance_efficiency(estimate.log_weights) < 0.01
    with pytest.warns(UnreliableEstimateWarning, match="the standard error"):  # a step is no tilt of Langevin chains
        found = sequence_sandwich(model, settings=SMALL, generator=seeded_generator(3))
    assert found.origin == "noise"
    assert found.estimates[Estimator.IMPORTANCE].log_z == pytest.approx(2.98, abs=0.2)
    assert Estimator.NOISE not in found.estimates
