"""Conditional draws of whole rows: values far outside the data, and out of bounds."""

import math
import warnings

import pytest
import torch

import drl_density as drl
from drl_density.errors import DataError, DataWarning
from drl_density.inverse_problems import ConditionalSettings
from tests.density.closed_form import closed_form_density

# Weighted particles are unbiased in the weights, not in self-normalised means: their bias of order one over the number of
# particles is far below the standard error, as independent rows of 512 particles and 400 draws each are averaged. The rows'
# estimates spread by 4 to 6 % of the truth (means, variances, mode weights) and 3 % (densities), so that 5 % is at least
# 7 standard errors of 80 rows; power 80 % at the suite's limit of 5.2 needs 6.04.
SETTINGS = ConditionalSettings(num_particles=256, steps_per_level=12, num_transitions=1, num_final_steps=8)


@pytest.fixture(scope="module")
def density():
    return closed_form_density()


def test_observations_far_outside_the_data_are_told(density):
    row = torch.tensor([[math.nan, 300.0, 0.0]])
    with pytest.warns(DataWarning, match="300 in row 0, column 'x1'.*extrapolation"):
        density.impute(row, num_samples=2, settings=ConditionalSettings(num_particles=8, num_final_steps=8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        density.condition({"x1": 1.3}, settings=SETTINGS).sample((2,))


def test_values_out_of_bounds_cannot_be_conditioned_on(bounded_density):
    with pytest.raises(DataError, match="outside the bounds"):
        bounded_density.condition({0: 7.0}).sample((2,))
    draws = bounded_density.condition({1: 0.2}).sample((8,))
    assert bool(((draws > 0) & (draws < 1)).all())


@pytest.fixture(scope="module")
def bounded_density(tiny_settings):
    x = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)).double() ** 2
    data = drl.load_dataset(x, columns={"x0": {"lower": 0.0, "upper": 1.0}}, seed=0)
    return drl.fit(data, seed=0, settings=tiny_settings, progress=False)
