"""The constants of a grid's steps against the rules of Gaussian conditioning, and where a placed grid is dense."""

import pytest
import torch

from drl_density.partition_function.sequence_paths.noise_grid import even_grid, grid_at, placed_grid
from drl_density.schedule import NoiseSchedule

UNEVEN = NoiseSchedule.linear_beta()


def test_the_levels_of_a_grid_have_its_log_snrs_on_an_uneven_schedule():
    grid = even_grid(UNEVEN, 37)
    torch.testing.assert_close(UNEVEN.log_snr_at(grid.levels), grid.log_snrs)
    assert (float(grid.levels[0]), float(grid.levels[-1])) == (0.0, 6.0)


def test_the_steps_are_those_of_the_schedule():
    grid = even_grid(UNEVEN, 25)
    alphas, sigmas = UNEVEN.step_between(grid.levels[:-1], grid.levels[1:])
    torch.testing.assert_close(grid.step_alphas, alphas)
    torch.testing.assert_close(grid.step_variances, sigmas**2, rtol=1e-6, atol=0)


def test_the_cleaner_state_has_its_mean_and_variance_given_the_noisier_one():
    """Averaged over the noisier state, mean and variance given the clean row are those of noise alone."""
    grid = even_grid(UNEVEN, 25)
    torch.testing.assert_close(grid.noisy_factors * grid.alphas[1:] + grid.clean_factors, grid.alphas[:-1])
    whole = grid.noisy_factors**2 * grid.noises[1:] + grid.small_variances
    torch.testing.assert_close(whole, grid.noises[:-1])


def test_steps_go_where_the_variance_is_and_none_is_left_without_any():
    schedule = NoiseSchedule.log_spaced(4)
    pilot = even_grid(schedule, 8)
    variances = torch.zeros(8)
    variances[2:4] = 1.0
    placed = placed_grid(schedule, pilot, variances, 80)
    inside = (placed.levels > 1) & (placed.levels < 2)
    assert 48 <= int(inside.sum()) <= 50  # half of the steps, and a quarter of the other half
    assert float(placed.levels.diff().max()) < 0.11  # an even grid of 40 steps has 0.1
    torch.testing.assert_close(placed.levels[[0, -1]], torch.tensor([0.0, 4.0]).double())


def test_a_path_without_any_variance_keeps_its_even_grid():
    schedule = NoiseSchedule.log_spaced(4)
    placed = placed_grid(schedule, even_grid(schedule, 8), torch.zeros(8), 16)
    torch.testing.assert_close(placed.log_snrs, even_grid(schedule, 16).log_snrs)


def test_log_snrs_that_rise_are_refused():
    with pytest.raises(ValueError, match="fall strictly"):
        grid_at(UNEVEN, torch.tensor([1.0, 1.0, -3.0]).double())
