"""Sizes of the final annealing and of the pool of draws."""

import pytest

from drl_density.density.settings.normalizing_sizes import NormalizingSizes


@pytest.mark.parametrize(("levels", "steps"), [(1, 8), (50, 8), (51, 7), (200, 2), (400, 1), (999, 1)])
def test_the_path_has_400_densities_or_as_many_as_levels(levels, steps):
    sizes = NormalizingSizes.choose(levels, 64, 100, is_over_images=False)
    assert sizes.steps_per_level == steps
    assert levels * steps <= max(400, levels)


@pytest.mark.parametrize(("kept", "pilot"), [(4, 32), (16, 32), (17, 34), (100, 200), (128, 256), (1000, 256)])
def test_pilots_over_images_are_twice_what_is_kept_within_limits(kept, pilot):
    sizes = NormalizingSizes.choose(10, kept, 2 * kept, is_over_images=True)
    assert (sizes.num_particles, sizes.num_pool_draws) == (kept, 2 * kept)
    assert sizes.num_pilot_particles == pilot
    assert sizes.num_pool_pilot == min(256, max(32, 4 * kept))
    of_table = NormalizingSizes.choose(10, kept, 2 * kept, is_over_images=False)
    assert (of_table.num_pilot_particles, of_table.num_pool_pilot) == (256, 256)
