"""The values of a fit: rows in and out, the density, its distribution and its draws."""

import copy
import dataclasses
import math

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS

from drl_density.datasets import Column
from drl_density.density.fitted import dequantized_rows
from drl_density.errors import DataError, UnreliableEstimateWarning, Verdict
from drl_density.samplers import LevelZeroSampler, ProgressiveSettings, sample_progressive


def test_distribution_is_normalized_and_in_data_units(tiny_density, tiny_data):
    target = tiny_density.distribution()
    assert target.is_normalized
    assert "estimated" in repr(target)
    x = tiny_data.test[:10]
    torch.testing.assert_close(target.log_prob(x), tiny_density.log_prob(x), rtol=1e-6, atol=1e-6)
    u = tiny_density.transform(x)
    by_hand = (
        tiny_density.model.log_density(u, 0)
        + tiny_density.transform.log_abs_det_jacobian(x, u)
        - tiny_density.estimate.log_z
    )
    torch.testing.assert_close(target.log_prob(x), by_hand, rtol=1e-6, atol=1e-6)


def test_it_integrates_to_one(tiny_density):
    """Quadrature over the plane agrees with the estimate's own standard error (and a grid error of 1e-3)."""
    ticks = torch.linspace(-16, 40, 700, dtype=torch.float64)
    first = torch.linspace(-14, 14, 700, dtype=torch.float64)
    mass = tiny_density.log_prob(torch.cartesian_prod(first, ticks)).exp().sum() * (28 / 699) * (56 / 699)
    assert abs(math.log(float(mass))) < 5 * tiny_density.estimate.standard_error + 1e-3


def test_weights_of_a_distribution_are_frozen_copies(tiny_density, tiny_data):
    density = dataclasses.replace(tiny_density, model=copy.deepcopy(tiny_density.model))
    target = density.distribution()
    before = target.log_prob(tiny_data.test[:3])
    with torch.no_grad():
        density.model.network.readout.bias.add_(1.0)
    assert torch.equal(target.log_prob(tiny_data.test[:3]), before)


def test_large_requests_run_the_sampler(tiny_density):
    target = tiny_density.distribution()
    assert target.sample((50,)).shape == (50, 2)
    assert target.last_result.stats["acceptance_rate"].shape[1] == 50


def test_nuts_starts_without_running_a_sampler(tiny_density, monkeypatch):
    target = tiny_density.distribution()
    pyro.set_rng_seed(0)
    mcmc = MCMC(NUTS(lambda: pyro.sample("x", target)), num_samples=2, warmup_steps=2, disable_progbar=True)
    monkeypatch.setattr(LevelZeroSampler, "__call__", lambda *_: pytest.fail("ran the sampler"))
    mcmc.run()
    assert mcmc.get_samples()["x"].shape == (2, 2)


def test_draws_follow_the_generator(tiny_density):
    runs = [tiny_density.sample(20, seed=4) for _ in range(2)]
    assert torch.equal(*runs)
    assert runs[0].dtype == torch.float64


def test_an_unreliable_estimate_is_told(tiny_density):
    doubtful = dataclasses.replace(tiny_density.estimate, verdict=Verdict.UNRELIABLE, advice="do more")
    with pytest.warns(UnreliableEstimateWarning, match="do more"):
        dataclasses.replace(tiny_density, estimate=doubtful).distribution()


def test_below_the_floor_is_said(tiny_density):
    low = dataclasses.replace(tiny_density.baselines, model=-99.0)
    assert "FAILURE" in dataclasses.replace(tiny_density, baselines=low).summary()
    assert "log Z" in tiny_density.summary()


def test_bounded_columns_have_a_bounded_support(bounded_density):
    density = bounded_density
    draws = density.sample(200, seed=0)
    assert bool(((draws[:, 0] > 0) & (draws[:, 0] < 1)).all())
    outside = torch.tensor([[1.5, 0.5], [0.5, 0.5]], dtype=torch.float64)
    assert density.log_prob(outside)[0] == -math.inf
    assert bool(density.log_prob(outside)[1].isfinite())
    with pytest.raises(ValueError, match="support"):
        density.distribution().log_prob(outside)


def test_rows_of_another_shape_are_refused(tiny_density):
    with pytest.raises(DataError, match=r"rows of shape \(2,\), got \(4, 3\)"):
        tiny_density.log_prob(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="event_shape|support"):
        tiny_density.distribution().log_prob(torch.zeros(4, 3))
    assert tiny_density.log_prob(torch.zeros(2)).shape == ()


def test_a_number_of_draws_may_be_of_numpy_and_must_be_whole(tiny_density):
    assert tiny_density.sample(np.int64(3), seed=0).shape == (3, 2)
    assert tiny_density.sample((np.int64(2), 1), seed=0).shape == (2, 1, 2)
    for count in (True, 2.5, -1):
        with pytest.raises(DataError, match="num_samples"):
            tiny_density.sample(count)


def test_no_rows_have_no_log_densities(tiny_density):
    assert tiny_density.log_prob(torch.zeros(0, 2)).shape == (0,)
    assert tiny_density.distribution().log_prob(torch.zeros(0, 2)).shape == (0,)


def test_a_rounding_grid_off_zero_is_dequantized(tiny_density):
    halves = Column("x0", "rounded", 1.0, offset=0.5)
    density = dataclasses.replace(tiny_density, columns=(halves, tiny_density.columns[1]))
    rows = torch.tensor([[0.5, 0.1], [2.5, 0.2]])
    noisy, widths = dequantized_rows(density, rows, generator=torch.Generator().manual_seed(0))
    assert widths.tolist() == [1.0, 0.0]
    assert bool(((noisy - rows).abs()[:, 0] <= 0.5).all())
    assert not torch.equal(noisy[:, 0], rows[:, 0].double())


def test_draws_in_blocks_are_those_of_the_sampler(tiny_density, monkeypatch):
    """``sample`` gives up the records of chains block by block, and draws what the sampler draws of all at once."""
    plan, settings = tiny_density.plan.progressive, ProgressiveSettings(max_rows=3)
    generator = torch.Generator().manual_seed(5)
    expected = sample_progressive(tiny_density.model, 7, settings=settings, plan=plan, generator=generator).draws
    monkeypatch.setattr("drl_density.density.fitted.MOST_DRAWS", 3)
    assert torch.equal(tiny_density.sample(7, seed=5), tiny_density.to_points(expected))
    assert tiny_density.sample((2, 0)).shape == (2, 0, 2)


def test_log_densities_do_not_depend_on_passes(tiny_density, tiny_data, monkeypatch):
    rows = tiny_data.test.clone()
    rows[3, 1] = math.nan
    whole = tiny_density.log_density_of(rows)
    states = tiny_density.to_model(rows)
    monkeypatch.setattr("drl_density.density.data_units.CACHED_ROWS", 7)
    torch.testing.assert_close(tiny_density.log_density_of(rows), whole, equal_nan=True, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(tiny_density.to_model(rows), states, equal_nan=True, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(tiny_density.to_data(states)[4:], rows[4:], rtol=1e-9, atol=1e-9)
