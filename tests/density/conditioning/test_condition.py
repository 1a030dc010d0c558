"""Conditional distributions against quadrature and closed forms."""

import dataclasses
import math

import pyro
import pytest
import torch

from drl_density.datasets import Column
from drl_density.errors import DataError
from drl_density.inverse_problems import ConditionalSettings
from drl_density.testing import assert_z
from drl_density.transforms import whiten
from tests.density.closed_form import SCALE, SHIFT, SYSTEM, closed_form_density, conditional
from tests.density.conditioning.slices import GRID, log_mass, slice_of

ROW, MASK = torch.tensor([math.nan, 1.3, math.nan]).double(), torch.tensor([True, False, True])


def test_conditional_density_is_normalized(tiny_density):
    partial = tiny_density.condition({"x1": 0.3}, normalize=True, seed=0)
    assert partial.event_shape == (1,)
    assert partial.is_normalized
    values = partial.log_prob(GRID[:, None])
    assert abs(log_mass(values)) < 0.1
    exact = slice_of(tiny_density, 0.3)
    torch.testing.assert_close(values - values.max(), exact - exact.max(), rtol=0, atol=1e-4)


def test_conditional_draws_follow_their_density(tiny_density):
    partial = tiny_density.condition({1: 0.3})
    assert partial.normalization == "none"
    torch.manual_seed(0)
    draws = partial.sample((600,))
    assert draws.shape == (600, 1)
    exact = slice_of(tiny_density, 0.3)
    shares = (exact - exact.logsumexp(0)).exp()
    mean = float((shares * GRID).sum())
    spread = math.sqrt(float((shares * (GRID - mean) ** 2).sum()))
    assert abs(float(draws.mean()) - mean) < 6 * spread / math.sqrt(600)
    assert abs(float(draws.std()) / spread - 1) < 0.2
    assert float(partial.last_result.stats["r_hat"]) < 1.3


def test_conditional_in_a_pyro_model(tiny_density):
    partial = tiny_density.condition({0: 0.1}, settings=ConditionalSettings(num_particles=16))

    def model():
        with pyro.plate("rows", 3):
            return pyro.sample("x", partial)

    trace = pyro.poutine.trace(model).get_trace()
    assert trace.nodes["x"]["value"].shape == (3, 1)
    assert trace.log_prob_sum().isfinite()


def test_transforms_that_mix_columns_are_refused(tiny_density, tiny_data):
    mixed = dataclasses.replace(tiny_density, transform=whiten(tiny_data.train))
    with pytest.raises(DataError, match="mixes columns"):
        mixed.condition({0: 0.0}).sample((2,))


@pytest.fixture(scope="module")
def density():
    return closed_form_density()


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


def label_density():
    columns = (Column("x0", "categorical", 0.8, categories=("left", "right")), Column("x1"), Column("x2"))
    return closed_form_density(SYSTEM, columns)


def test_a_given_label_means_its_cell():
    """Codes 0 and 1 in cells of width 0.8: the class-conditional density is the cell's integral, here by quadrature."""
    density = label_density()
    settings = ConditionalSettings(num_particles=64, num_replicates=32, steps_per_level=12, num_final_steps=8)
    partial = density.condition({"x0": "right"}, normalize=True, seed=0, settings=settings)
    x = torch.tensor([[0.5, 0.1], [1.4, -0.8]]).double()
    cell = torch.linspace(1 - 0.4, 1 + 0.4, 2001, dtype=torch.float64)
    grid = torch.cat([cell.repeat(2)[:, None], x.repeat_interleave(2001, 0)], 1)
    joint = torch.trapezoid(density.log_density_of(grid).exp().reshape(2, -1), cell)
    prior = SYSTEM.marginal(0).component_distribution
    law = torch.distributions.Normal(SHIFT + SCALE * prior.mean[:, 0], SCALE * prior.covariance_matrix[:, 0, 0].sqrt())
    mass = float((SYSTEM.weights * (law.cdf(torch.tensor(1.4).double()) - law.cdf(torch.tensor(0.6).double()))).sum())
    gap = partial.log_prob(x) - (joint / mass).log()
    # 32 scrambled places in the cell leave a relative error below 0.5 % here, far less than at the cell's centre.
    assert float(gap.abs().max()) < 5.2 * partial.estimate.standard_error + 0.005
    centre = density.condition([1.0, math.nan, math.nan], normalize=True, seed=0, settings=settings)
    assert torch.equal(centre.log_prob(x), partial.log_prob(x))
    with pytest.raises(DataError, match="no label 'middle'; it holds left, right"):
        density.condition({"x0": "middle"})
    with pytest.raises(DataError, match="no label 1.0; it holds left, right"):
        density.condition({"x0": 1.0})
