"""Baselines of a fit in closed form."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats

import drl_density as drl
from drl_density.datasets import Column
from drl_density.density.fitting import baselines
from drl_density.density.fitting.baselines import gaussian_log_density, histogram_log_density, validation_baselines
from drl_density.density.fitting.plan import plan_fit
from tests.conftest import TINY


@pytest.mark.parametrize("cells_at_once", [1, 4, 100])
def test_independent_pixels_are_the_histograms(cells_at_once, monkeypatch):
    """Two columns of three and two values: shares (count + 1) / (rows + values), divided by the width."""
    monkeypatch.setattr(baselines, "CELLS_AT_ONCE", cells_at_once)
    columns = [Column("a", "integer", 1.0, lower=-0.5, upper=2.5), Column("b", "rounded", 0.5, lower=-0.25, upper=0.75)]
    train = torch.tensor([[0.0, 0.0], [0.0, 0.5], [2.0, 0.5]])
    rows = torch.tensor([[0.3, 0.6], [1.4, -0.2]])
    expected = [math.log(3 / 6) + math.log(3 / 5 / 0.5), math.log(1 / 6) + math.log(2 / 5 / 0.5)]
    found = histogram_log_density(train, rows, columns)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_the_gaussian_floor_has_a_covariance_where_one_can_be_held(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    train = (
        torch.randn(50, 3, generator=generator, dtype=torch.float64)
        @ torch.tensor([[1.0, 2, 0], [0, 1, 0], [0, 0, 3]]).double()
    )
    rows = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    moments = train.mean(0).numpy(), np.cov(train.numpy().T)
    full = stats.multivariate_normal(*moments).logpdf(rows.numpy())
    np.testing.assert_allclose(gaussian_log_density(train, rows).numpy(), full, rtol=1e-5)
    shrunk = gaussian_log_density(train[:4], rows)  # the covariance of four rows would give millions of nats
    assert float(shrunk.min()) > 10 * full.min()
    monkeypatch.setattr(baselines, "LARGEST_COVARIANCE", 2)
    alone = stats.norm(moments[0], np.diag(moments[1]) ** 0.5).logpdf(rows.numpy()).sum(1)
    np.testing.assert_allclose(gaussian_log_density(train, rows).numpy(), alone, rtol=1e-5)
    assert np.abs(full - alone).max() > 0.1


def test_a_sequence_that_is_the_gaussian_ties_with_it():
    """An untrained network adds nothing, so the model is its base at the noise of level 0, in data units of scale 3."""
    rows = 3 * torch.randn(3000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows[:, 1] += rows[:, 0]
    settings = dataclasses.replace(TINY, base="gaussian", transform="standardize")
    plan = plan_fit(drl.load_dataset(rows, seed=0), settings)
    model = plan.new_model(plan.members[0].base, seed=0)
    found = validation_baselines(plan, model, 0.0)
    held_out = plan.table.dataset.validation
    train = plan.table.dataset.train
    moments = train.mean(0).numpy(), np.cov(train.numpy().T)
    # In model space the ridge adds 1e-6 to variances of 1, and the noise of level 0 about sigma_min^2 = 1e-3.
    assert found.gaussian == pytest.approx(
        stats.multivariate_normal(*moments).logpdf(held_out.numpy()).mean(), abs=1e-4
    )
    assert found.model == pytest.approx(found.gaussian, abs=0.02)
    assert validation_baselines(plan, model, 2.5).model == pytest.approx(found.model - 2.5, abs=1e-9)
    known = validation_baselines(plan, model, 2.5, reference=-7.0)  # the jacobian and log Z are the same
    other = validation_baselines(plan, model, 2.5, reference=-6.0)
    assert (other.model - known.model, other.gaussian) == (pytest.approx(1.0), found.gaussian)
    # Independent columns miss the correlation of 2^-1/2: the mutual information is log(2) / 2 = 0.35 nats.
    assert found.gaussian - found.independent == pytest.approx(0.5 * math.log(2), abs=0.1)
