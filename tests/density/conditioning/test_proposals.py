"""Questions about rows of a density with a bounded tilt: weighted draws in rounds, against quadrature."""

import math

import pytest
import torch

from drl_density.density.conditioning import proposals, rows as conditional_rows
from drl_density.inverse_problems import ConditionalSettings
from drl_density.testing import assert_z
from tests.density.closed_form import SCALE
from tests.density.tilted import TiltedSystem, tilted_density, to_data

SYSTEM, VALUE = TiltedSystem(), 0.2
QUICK = ConditionalSettings(num_particles=8, num_final_steps=8, steps_per_level=1)


@pytest.fixture(scope="module")
def density():
    return tilted_density()


@pytest.fixture
def no_annealing(monkeypatch):
    monkeypatch.setattr(conditional_rows, "sample_conditional", lambda *_, **__: pytest.fail("annealed"))


def truth(value=VALUE):
    """Log density of one observed value, the second column's, in data units."""
    return float(SYSTEM.log_mass(value) - SYSTEM.log_z(0)) - math.log(SCALE)


def rows_given(count, value=VALUE):
    return torch.tensor([[math.nan, to_data(value)]], dtype=torch.float64).repeat(count, 1)


@pytest.mark.usefixtures("no_annealing")
def test_imputed_cells_and_observed_density(density):
    found = density.impute(rows_given(400), num_samples=60, seed=0)
    draws = (found.rows[..., 0] - to_data(0.0)) / SCALE
    moments = torch.stack([draws.mean(0), draws.square().mean(0)], 1)
    # The bias of self-normalised weights is about 1 / 256 of the spread here, far below the standard error.
    assert_z(moments, SYSTEM.moments(VALUE))
    assert_z((found.log_density - truth()).exp(), 1.0)
    assert not bool(found.is_doubtful.any())
    assert bool((found.log_density_error < 0.2).all())
    assert bool(((found.acceptance_rate > 0) & (found.acceptance_rate < 1)).all())
    assert bool((found.r_hat < 1.01).all())


@pytest.mark.usefixtures("no_annealing")
def test_other_questions_use_the_same_draws(density):
    value, error = density.marginal([1], seed=0).log_prob_and_error([[to_data(VALUE)], [to_data(-0.9)]])
    assert_z(value, torch.tensor([truth(), truth(-0.9)]), error + 1e-12)
    given = density.condition({1: to_data(VALUE)}, normalize=True, seed=1)
    assert given.estimate.is_one_sided
    assert_z(given.estimate.log_z, float(SYSTEM.log_mass(VALUE)), given.estimate.standard_error)
    draws = (given.run((4000,), generator=torch.Generator().manual_seed(2)).draws.double() - to_data(0.0)) / SCALE
    assert_z(torch.cat([draws, draws.square()], 1), SYSTEM.moments(VALUE))


def test_equal_seeds_do_not_depend_on_the_blocks(density, monkeypatch):
    rows = torch.cat([density.pool[:9], rows_given(3)])
    rows[[0, 2, 3, 7], 0] = math.nan
    rows[[1, 5], 1] = math.nan
    whole = density.impute(rows, num_samples=3, seed=0)
    monkeypatch.setattr(proposals, "MOST_NUMBERS", 2 * 3 * 256)
    monkeypatch.setattr(conditional_rows, "MOST_ROWS", 4)
    parts = density.impute(rows, num_samples=3, seed=0)
    torch.testing.assert_close(parts.rows, whole.rows, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parts.log_density, whole.log_density, equal_nan=True)
    assert torch.equal(whole.rows[:, ~rows.isnan()], rows[~rows.isnan()].expand(3, -1))
    assert not torch.equal(density.impute(rows, num_samples=3, seed=1).rows, whole.rows)


@pytest.mark.usefixtures("no_annealing")
def test_the_draws_of_a_row_do_not_depend_on_the_rows_behind_or_before_it(density, monkeypatch):
    """Also where some rows take several rounds, which ends differently for each of them."""
    monkeypatch.setattr(proposals, "LEAST_ESS", 240)
    rows = density.pool[:60].clone()
    rows[::2, 0] = rows[1::3, 1] = math.nan
    rows = rows[~rows.isnan().all(1)]
    whole = density.impute(rows, num_samples=3, seed=0)
    sizes = (whole.ess / whole.least_ess).round()
    assert len(sizes[sizes.isfinite()].unique()) > 1
    for count in (1, 10, len(rows) - 1):
        some = density.impute(rows[:count], num_samples=3, seed=0)
        torch.testing.assert_close(some.rows, whole.rows[:, :count], rtol=1e-9, atol=1e-9)
    changed = rows.clone()
    changed[:10] = changed[:10].flip(0)
    torch.testing.assert_close(density.impute(changed, num_samples=3, seed=0).rows[:, 10:], whole.rows[:, 10:])


def test_uneven_weights_take_more_proposals_and_at_last_the_annealing(monkeypatch):
    """Of rounds with 256, 512, ... proposals the first with enough effective draws counts; rows that have none anneal."""
    density, rows = tilted_density(), rows_given(6)
    monkeypatch.setattr(proposals, "LEAST_ESS", 300)
    monkeypatch.setattr(conditional_rows, "sample_conditional", lambda *_, **__: pytest.fail("annealed"))
    found = density.impute(rows, num_samples=2, settings=QUICK, seed=0)
    assert bool((found.ess >= 300).all())
    sizes = found.ess / found.least_ess
    assert set(sizes.round().long().tolist()) <= {512, 1024}
    monkeypatch.undo()
    monkeypatch.setattr(proposals, "LEAST_ESS", 10**9)
    annealed = density.impute(rows, num_samples=2, settings=QUICK, seed=0)
    assert bool(annealed.rows.isfinite().all())
    assert bool((annealed.least_ess <= 1).all())
    assert not torch.equal(annealed.rows, found.rows)
