"""Weights of paths and particles: exact for exact kernels, unbiased for any."""

import math

import pytest
import torch

from drl_density.errors import NumericalError
from drl_density.model import EnergySequence
from drl_density.partition_function.bridge import bennett
from drl_density.partition_function.sequence_paths.kernels import ReverseKernels, measure_kernels, noised_rows
from drl_density.partition_function.sequence_paths.noise_grid import even_grid
from drl_density.partition_function.sequence_paths.particles import (
    noised_path,
    particles_down,
    paths_down,
    paths_up,
)
from drl_density.schedule import NoiseSchedule
from drl_density.testing import GaussianMixtureSequence, assert_z, seeded_generator
from drl_density.weights import weight_ess
from tests.partition_function.sequence_paths.gaussian_paths import SYSTEM, exact_kernels

MIXTURE = GaussianMixtureSequence.example(schedule=NoiseSchedule.log_spaced(4))


def rough_kernels(num_steps=6):
    """So few steps that normal kernels fit a mixture badly, and weights differ by much."""
    rows = noised_rows(MIXTURE.model, MIXTURE.sample(500, None, generator=seeded_generator(9)))
    return measure_kernels(MIXTURE.model, even_grid(MIXTURE.schedule, num_steps), rows, generator=seeded_generator(9))


def mixture_states(num_replicates, num_paths, generator):
    """Exact draws of level 0."""
    return MIXTURE.sample(num_replicates * num_paths, 0, generator=generator).reshape(num_replicates, num_paths, 2)


def test_with_exact_kernels_every_path_weighs_z_in_both_directions():
    kernels, generator = exact_kernels(12), seeded_generator(0)
    truth = SYSTEM.log_z(0).expand(2, 4)
    # Level T differs from N(0, I) by its mean alone, below 2e-4: with a draw of five standard deviations, below 1e-3 nats.
    torch.testing.assert_close(paths_down(kernels, (2, 4), generator=generator).log_weights, truth, rtol=0, atol=1e-3)
    starts = SYSTEM.sample(8, 0, generator=generator).reshape(2, 4, 3)
    found = paths_up(kernels, starts, generator=generator)
    torch.testing.assert_close(found.log_weights, truth, rtol=0, atol=1e-3)
    assert found.increments.shape == (2, 4, 12)


def test_weights_of_both_directions_obey_crooks():
    kernels, generator = rough_kernels(), seeded_generator(1)
    down = paths_down(kernels, (1, 3000), generator=generator).log_weights
    up = paths_up(kernels, mixture_states(1, 3000, generator), generator=generator).log_weights
    truth = MIXTURE.log_z(0)
    found = bennett(down, up)
    assert_z(torch.tensor(found.log_z), truth, found.standard_error)
    assert float(down.mean()) < float(truth) - 0.1 < float(truth) + 0.1 < float(up.mean())


@pytest.mark.parametrize("is_conditional", [False, True])
def test_resampled_particles_are_unbiased_whatever_their_number(is_conditional):
    """With four particles the mean of Z is exact, and so is the mean of 1 / Z around retained draws."""
    kernels, generator = rough_kernels(), seeded_generator(2)
    retained = None
    if is_conditional:
        retained = noised_path(kernels, mixture_states(3000, 1, generator)[:, 0], generator=generator)
    run = particles_down(kernels, (3000, 4), retained=retained, generator=generator)
    assert float((run.ess_shares < 0.5).double().mean()) > 0.02  # particles were resampled
    excess = run.log_z - MIXTURE.log_z(0)
    assert_z((-excess if is_conditional else excess).exp(), 1.0)
    assert run.particles.shape == (3000, 4, 2)
    if retained is not None:
        torch.testing.assert_close(run.particles[:, 0], retained[0])


def test_draws_follow_the_weights_of_all_replicates():
    """Within four particles alone the draws would lean towards the proposal; all replicates together do not."""
    run = particles_down(rough_kernels(), (2000, 4), generator=seeded_generator(3))
    draws = run.draws(generator=seeded_generator(4))
    assert draws.shape == (2000, 4, 2)
    truth = MIXTURE.marginal(0).log_prob(mixture_states(1, 8000, seeded_generator(5)))
    found = MIXTURE.marginal(0).log_prob(draws.flatten(0, 1))
    # A tenth of the draws, about, are copies; the error of the mean is that of the weights' effective number.
    error = math.sqrt(float(found.var() / weight_ess(run.log_weights.flatten()) + truth.var() / 8000))
    assert_z(found.mean(), float(truth.mean()), error)


def test_progress_is_reported_after_every_step():
    seen = []
    kernels = exact_kernels(3)
    for walk in (paths_down, particles_down):
        walk(kernels, (2, 3), on_step=lambda done, total, weights: seen.append((done, total, weights.shape)))
    paths_up(kernels, torch.zeros(2, 3, 3).double(), on_step=lambda done, total, weights: seen.append((done, total)))
    assert [entry[:2] for entry in seen] == [(1, 3), (2, 3), (3, 3)] * 3
    assert seen[0][2] == (2, 3)


class Broken(torch.nn.Module):
    """An energy without a value in one half of space."""

    has_bounded_growth = False

    def forward(self, x, log_snr):
        return torch.where(x[:, 0] > 0, -x.square().sum(1), x[:, 0].sqrt())


def test_values_that_are_no_numbers_are_refused_with_their_level():
    model = EnergySequence(NoiseSchedule.log_spaced(2), Broken(), (2,), has_base=False, is_integrable=True)
    kernels = ReverseKernels(model, even_grid(model.schedule, 4), torch.full((4, 2), 0.1).double(), False)
    with pytest.raises(NumericalError, match="no finite weight at level 1.5"):
        paths_down(kernels, (1, 16), generator=seeded_generator(5))


def test_rows_carry_the_noise_of_level_zero():
    rows = torch.zeros(4000, 3).double()
    states = noised_rows(SYSTEM.model, rows, generator=seeded_generator(6)).states
    assert_z(states.square().flatten(), SYSTEM.schedule.sigma[0] ** 2)
