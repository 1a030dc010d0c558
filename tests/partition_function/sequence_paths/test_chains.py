"""Chains at level 0, and planning rows that a sequence draws itself."""

import torch

from drl_density.mcmc import MALA
from drl_density.partition_function.sequence_paths.chains import draw_planning_rows, tune_chains, unexplained
from drl_density.partition_function.sequence_paths.noise_grid import even_grid
from drl_density.testing import assert_z, seeded_generator
from tests.partition_function.sequence_paths.gaussian_paths import MEAN, SPREADS, SYSTEM, exact_errors


def test_chains_accept_as_they_should_and_stay_at_the_target():
    generator = seeded_generator(0)
    chains, ends = tune_chains(SYSTEM.model, MALA(), SYSTEM.sample(512, 0, generator=generator), generator=generator)
    moved = chains.moved(ends.reshape(4, 128, 3), 50, generator=generator)
    assert 0.45 < moved.acceptance < 0.7
    assert moved.states.shape == (4, 128, 3)
    assert_z(moved.states.flatten(0, 1), SYSTEM.schedule.alpha[0] * MEAN)
    scale = chains.kernel.scale
    assert scale is not None
    torch.testing.assert_close(scale**2, SYSTEM.components(0).variance[0], rtol=0.4, atol=0)


def test_no_step_moves_nothing():
    chains, ends = tune_chains(SYSTEM.model, MALA(), torch.randn(8, 3).double(), generator=seeded_generator(1))
    moved = chains.moved(ends[None], 0)
    assert moved.acceptance == 1.0
    torch.testing.assert_close(moved.states[0], ends)


def test_the_scores_alone_show_the_error_of_the_clean_rows():
    grid = even_grid(SYSTEM.schedule, 10)
    level, noise, alpha = (float(values[1]) for values in (grid.levels, grid.noises, grid.alphas))
    x = SYSTEM.sample(20_000, level, generator=seeded_generator(2))
    found = unexplained(SYSTEM.model.score(x, level), noise, alpha)
    # The mean of 20,000 squared normal numbers is off by 1 %; five standard deviations of noise / alpha^2.
    torch.testing.assert_close(found, exact_errors(grid)[0], rtol=0, atol=0.05 * noise / alpha**2)


def test_the_models_own_rows_are_draws_of_its_level_zero():
    generator = seeded_generator(3)
    rows = draw_planning_rows(SYSTEM.model, even_grid(SYSTEM.schedule, 20), MALA(), 2000, generator=generator)
    assert_z(rows.states, SYSTEM.schedule.alpha[0] * MEAN)
    truth = SYSTEM.components(0).variance[0]
    torch.testing.assert_close(rows.states.var(0), truth, rtol=0.2, atol=0)
    noise, signal = SYSTEM.schedule.sigma[0] ** 2, SYSTEM.schedule.alpha[0] ** 2
    torch.testing.assert_close(rows.unknown, SPREADS * noise / (signal * SPREADS + noise), rtol=0.3, atol=0.01)
    torch.testing.assert_close(rows.clean, SYSTEM.denoise(rows.states, 0))
