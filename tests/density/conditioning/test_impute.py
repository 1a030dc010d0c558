"""Imputations against closed forms, by z-tests of which each is shown to notice an error of 5 %."""

import math

import pytest
import torch

from drl_density.density.conditioning.impute import impute
from drl_density.inverse_problems import ConditionalSettings
from drl_density.testing import assert_z, seeded_generator
from tests.density.closed_form import closed_form_density, conditional

ROW, MASK = torch.tensor([math.nan, 1.3, math.nan]).double(), torch.tensor([True, False, True])


# Weighted particles are unbiased in the weights, not in self-normalised means: their bias of order one over the number of
# particles is far below the standard error, as independent rows of 512 particles and 400 draws each are averaged. The rows'
# estimates spread by 4 to 6 % of the truth (means, variances, mode weights) and 3 % (densities), so that 5 % is at least
# 7 standard errors of 80 rows; power 80 % at the suite's limit of 5.2 needs 6.04.
SETTINGS = ConditionalSettings(num_particles=256, steps_per_level=12, num_transitions=1, num_final_steps=8)


NUM_ROWS, NUM_DRAWS = 80, 400


def assert_z_notices(estimates, truth):
    """The z-test passes at the truth and fails when the truth is off by 5 % in either direction."""
    assert_z(estimates, truth)
    for factor in (0.95, 1.05):
        with pytest.raises(AssertionError, match="beyond"):
            assert_z(estimates, factor * truth)


@pytest.fixture(scope="module")
def density():
    return closed_form_density()


@pytest.fixture(scope="module")
def found(density):
    """Imputations of the same row over and over: independent runs."""
    return impute(
        density, ROW.repeat(NUM_ROWS, 1), num_samples=NUM_DRAWS, generator=seeded_generator(0), settings=SETTINGS
    )


def test_conditional_means_and_covariances(found):
    _, law = conditional(ROW, MASK)
    draws = found.rows[..., MASK]  # (draw, row, missing)
    means = draws.mean(0)
    assert_z(means, law.mean)
    assert_z_notices(means[:, 0], law.mean[0])
    centered = draws - law.mean
    products = (centered[..., :, None] * centered[..., None, :]).mean(0)
    mixture, parts = law.mixture_distribution.probs, law.component_distribution
    apart = parts.mean - law.mean
    covariance = (mixture[:, None, None] * (parts.covariance_matrix + apart[:, :, None] * apart[:, None, :])).sum(0)
    assert_z(products, covariance)
    assert_z_notices(products[:, 0, 0], covariance[0, 0])


def test_weights_of_modes(found):
    """The two modes of the first column lie apart: the middle between their centres has next to no mass."""
    _, law = conditional(ROW, MASK)
    parts = law.component_distribution
    middle = float(parts.mean[:, 0].mean())
    spread = parts.covariance_matrix[:, 0, 0].sqrt()
    left = float((law.mixture_distribution.probs * torch.special.ndtr((middle - parts.mean[:, 0]) / spread)).sum())
    assert_z_notices((found.rows[:, :, 0] < middle).double().mean(0), left)


def test_density_of_the_observed_and_so_of_the_missing(found):
    log_density, _ = conditional(ROW, MASK)
    assert_z_notices(found.log_density.exp(), math.exp(log_density))
    errors = (found.log_density - log_density) / found.log_density_error
    assert float(errors.abs().median()) < 3  # two replicates: a t-ratio with one degree of freedom, median 1


def test_imputation_keeps_what_is_observed(tiny_density, tiny_data):
    rows = tiny_data.test[:6].clone()
    rows[0, 0], rows[1, 1] = math.nan, math.nan
    rows[2] = math.nan
    found = tiny_density.impute(rows, num_samples=5, seed=0)
    assert found.rows.shape == (5, 6, 2)
    assert bool(found.rows.isfinite().all())
    assert torch.equal(found.rows[:, ~rows.isnan()], rows[~rows.isnan()].expand(5, -1))
    assert float(found.rows[:, 0, 0].std()) > 0
    assert bool(found.r_hat[:2].isfinite().all())
    assert bool(found.r_hat[2:].isnan().all())
    again = tiny_density.impute(rows, num_samples=5, seed=0)
    assert torch.equal(found.rows, again.rows)
