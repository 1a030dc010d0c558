"""Conditionals against closed forms, by z-tests of which each is shown to notice an error of 5 %."""

import math
import warnings

import pytest
import torch

from drl_density.datasets import Column
from drl_density.density.conditioning.impute import impute
from drl_density.errors import DataError, DataWarning
from drl_density.inverse_problems import ConditionalSettings
from drl_density.testing import assert_z, seeded_generator
from tests.density.closed_form import SCALE, SHIFT, SYSTEM, closed_form_density, conditional

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


def test_normalized_conditional_density(density):
    _, law = conditional(ROW, MASK)
    settings = ConditionalSettings(num_particles=256, num_replicates=32, steps_per_level=12, num_final_steps=8)
    partial = density.condition({"x1": 1.3}, normalize=True, seed=0, settings=settings)
    points = law.sample((20,))
    gap = partial.log_prob(points) - law.log_prob(points)
    error = partial.estimate.standard_error
    # The constant is off by the estimate's error alone, the same at every point up to log-SNRs kept in float32.
    torch.testing.assert_close(gap, gap[0].expand(20), rtol=0, atol=1e-6)
    assert_z(float(gap[0]), 0.0, error)
    with pytest.raises(AssertionError, match="beyond"):
        assert_z(float(gap[0]), math.log(1.05), error)


def test_a_mask_of_observed_values(density):
    point = torch.tensor([0.2, 1.3, -0.4])
    masked = density.condition(point, observed=~MASK)
    named = density.condition({"x1": 1.3})
    x = torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(masked.log_prob(x), named.log_prob(x), rtol=0, atol=1e-6)  # 1.3 in float32
    for mask, message in (
        (torch.ones(2, dtype=torch.bool), "boolean mask of shape"),
        (torch.ones(3), "boolean mask of shape"),
        (torch.ones(3, dtype=torch.bool), "every column is given"),
        (torch.zeros(3, dtype=torch.bool), "nothing is given"),
    ):
        with pytest.raises(DataError, match=message):
            density.condition(point, observed=mask)
    with pytest.raises(DataError, match="marked as observed are NaN"):
        density.condition(ROW, observed=torch.tensor([True, True, False]))
    with pytest.raises(DataError, match="goes with a whole point"):
        density.condition({"x1": 1.3}, observed=~MASK)


def test_observations_far_outside_the_data_are_told(density):
    row = torch.tensor([[math.nan, 300.0, 0.0]])
    with pytest.warns(DataWarning, match="300 in row 0, column 'x1'.*extrapolation"):
        density.impute(row, num_samples=2, settings=ConditionalSettings(num_particles=8, num_final_steps=8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        density.condition({"x1": 1.3}, settings=SETTINGS).sample((2,))


def label_density():
    columns = (Column("x0", "categorical", 1.6, categories=("left", "right")), Column("x1"), Column("x2"))
    return closed_form_density(SYSTEM, columns)


def test_a_given_label_means_its_cell():
    """Codes 0 and 1 in cells of width 1.6: the class-conditional density is the cell's integral, here by quadrature."""
    density = label_density()
    settings = ConditionalSettings(num_particles=64, num_replicates=32, steps_per_level=12, num_final_steps=8)
    partial = density.condition({"x0": "right"}, normalize=True, seed=0, settings=settings)
    x = torch.tensor([[0.5, 0.1], [1.4, -0.8]]).double()
    cell = torch.linspace(1 - 0.8, 1 + 0.8, 2001, dtype=torch.float64)
    grid = torch.cat([cell.repeat(2)[:, None], x.repeat_interleave(2001, 0)], 1)
    joint = torch.trapezoid(density.log_prob(grid).exp().reshape(2, -1), cell)
    prior = SYSTEM.marginal(0).component_distribution
    law = torch.distributions.Normal(SHIFT + SCALE * prior.mean[:, 0], SCALE * prior.covariance_matrix[:, 0, 0].sqrt())
    mass = float((SYSTEM.weights * (law.cdf(torch.tensor(1.8).double()) - law.cdf(torch.tensor(0.2).double()))).sum())
    gap = partial.log_prob(x) - (joint / mass).log()
    # 32 scrambled places in the cell leave a relative error below 0.5 % here, far less than at the cell's centre.
    assert float(gap.abs().max()) < 5.2 * partial.estimate.standard_error + 0.005
    centre = density.condition({"x0": 1.0}, normalize=True, seed=0, settings=settings)
    assert torch.equal(centre.log_prob(x), partial.log_prob(x))
    with pytest.raises(DataError, match="no label 'middle'; it holds left, right"):
        density.condition({"x0": "middle"})
