"""Fits in folds: honest scores of left-out rows, the average of tilts on the reference of all rows, and its log Z."""

from functools import partial

import pytest
import torch

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture, StackSettings, fit_stacked_mixture
from drl_density.density.data_units import freeze
from drl_density.density.fitting.folds import table as table_module
from drl_density.density.fitting.folds.choice import FoldScores, score_folds
from drl_density.density.fitting.plan import plan_fit
from drl_density.density.fitting.selection import (
    Selected,
    rejection,
    select_model,
    stage_score,
    training_score,
    untouched,
)
from drl_density.networks import Ensemble
from drl_density.testing import seeded_generator
from tests.integration.test_contrast_fit import ring

SMALL = StackSettings((1,), (1e-2, 1e-1), num_bags=8, num_final_bags=10)
SETTINGS = drl.FitSettings(
    objective=drl.ContrastObjective(num_samples=3000),
    network=drl.ColumnNetwork(width=16, num_blocks=1, num_sigmoids=8, column_width=4, dropout=0.0),
    schedule=drl.LogSpacedSchedule(num_levels=4),
    num_folds=3,
    num_pool_draws=50,
    training=drl.TrainingSettings(num_steps=160, batch_size=128, evaluate_every=80, learning_rate=5e-3, warmup_steps=5),
)


@pytest.fixture(scope="module", autouse=True)
def _small_stacks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_module, "fit_stacked_mixture", partial(fit_stacked_mixture, settings=SMALL))
        patch.setattr(table_module, "FOLD_BAGS", 5)
        patch.setattr(table_module, "choose_kernels", lambda *_: None)  # they leave little of a ring to the tilts
        yield


@pytest.fixture(scope="module")
def data():
    return drl.load_dataset(ring(200), seed=0)


@pytest.fixture(scope="module")
def plan(data, _small_stacks):
    return plan_fit(data, SETTINGS, seed=0)


@pytest.fixture(scope="module")
def density(data, _small_stacks):
    return drl.fit(data, settings=SETTINGS, seed=0, progress=False)


def test_the_density_is_the_reference_of_all_rows_with_the_mean_of_the_folds_tilts(density, plan):
    """One component leaves much of a ring to the tilts, so these are kept."""
    provenance = density.provenance
    assert provenance.selected_member == "average"
    assert list(provenance.best_step) == ["fold-0", "fold-1", "fold-2"]
    assert isinstance(density.model.network, Ensemble)
    assert len(density.model.network.networks) == 3
    rows = plan.validation(seed=0).rows
    with torch.no_grad():
        mean = torch.stack([network(rows, torch.zeros(())) for network in density.model.network.networks]).mean(0)
    torch.testing.assert_close(density.model.network(rows, torch.zeros(())), mean)
    torch.testing.assert_close(density.model.base.log_prob(rows), plan.table.bases.best.log_prob(rows))


def test_log_z_is_that_of_quadrature(density):
    grid = torch.linspace(-6, 6, 241)
    points = torch.cartesian_prod(grid, grid)
    with torch.no_grad():
        values = torch.cat([density.model.log_density(part, 0) for part in points.split(8192)]).double()
    # Steps of 0.05 are finer than the narrowest component: its standard deviation is 0.1 or more.
    exact = float(values.logsumexp(0)) + 2 * float((grid[1] - grid[0]).log())
    estimate = density.estimate
    assert estimate.verdict == "reliable"
    assert abs(estimate.log_z - exact) < 4 * estimate.standard_error + 0.01


def test_stages_state_the_gain_on_left_out_rows(density, data):
    reference, tilt = density.provenance.stages
    assert (reference.name, tilt.name, tilt.kept) == ("reference", "tilt", True)
    assert tilt.validation == pytest.approx(reference.validation + tilt.gain)
    assert tilt.gain > tilt.gain_error > 0
    assert density.baselines.is_above_floor
    # New rows of the ring agree with the score of left-out ones, which a score of fitted rows would exceed.
    lead = float(density.log_prob(ring(1500)[200:]).mean()) - density.baselines.model
    error = float(density.log_prob(data.validation).std()) / len(data.validation) ** 0.5
    assert abs(lead) < 4 * error


def scores(tilt):
    size = len(tilt)
    zero = torch.zeros(size, dtype=torch.float64)
    is_validation = torch.arange(size) >= size // 2
    return FoldScores(zero - 1.0, tilt, zero - 3.0, torch.arange(float(size)).double(), is_validation)


def test_tilts_are_kept_where_they_gain_more_than_their_error():
    gains = torch.tensor([0.5, -0.3, 0.4, -0.2, 0.4, 0.4], dtype=torch.float64)  # mean 0.2, standard error 0.144
    kept = scores(gains)
    assert kept.gain == pytest.approx(0.2)
    assert kept.gain_error == pytest.approx(0.1438, abs=1e-4)
    assert kept.is_gain
    assert not scores(gains - 0.1).is_gain
    assert [stage.kept for stage in kept.stages(is_kept=False)] == [True, False]


def test_baselines_are_those_of_left_out_rows():
    gains = torch.tensor([0.5, -0.3, 0.4, -0.2, 0.4, 0.4], dtype=torch.float64)
    found = scores(gains).baselines(-2.0, is_kept=True)
    assert found.model == pytest.approx(-1 + 0.2 + 4)  # the mean of the last three tilts and log Jacobians
    assert found.model - found.gaussian == pytest.approx(-0.8 + 2.0)
    assert found.model - found.independent == pytest.approx(-0.8 + 3.0)
    untouched = scores(gains).baselines(-2.0, is_kept=False)
    assert untouched.model == pytest.approx(-1 + 4)


def test_a_fit_whose_tilts_bring_nothing_is_the_reference(plan):
    states = {member.name: plan.new_state(member.base, seed=member.seed) for member in plan.members}
    for state in states.values():
        state.best = {name: value.clone() for name, value in state.model.state_dict().items()}
    chosen = select_model(plan, states, plan.validation(seed=0))
    assert chosen.member == "reference"
    rows = plan.validation(seed=0).rows
    torch.testing.assert_close(
        chosen.model.log_density(rows, 0), plan.table.bases.best(rows, chosen.model.schedule.log_snr_at(0))
    )
    assert chosen.left_out.gain == 0


def test_an_average_whose_annealing_finds_more_mass_gives_way_to_the_reference_of_all_rows(plan):
    model = plan.new_model(plan.members[0].base, seed=0)
    chosen = Selected("average", model, left_out=scores(torch.full((6,), 0.2, dtype=torch.float64)))
    held_out = plan.validation(seed=0)
    # The rows are in the folds of other members, so they have no say here.
    assert rejection(plan, model, log_z=5.0, excess=0.0, rows=held_out) == ""
    assert "annealing" in (reason := rejection(plan, model, log_z=0.0, excess=0.4, rows=held_out))
    found = untouched(plan, chosen, reason)
    assert (found.member, found.rejection, found.left_out) == ("reference", reason, chosen.left_out)
    torch.testing.assert_close(found.model.base.log_prob(held_out.rows), plan.table.bases.best.log_prob(held_out.rows))


def test_a_constant_tilt_cancels_and_leaves_the_reference_of_the_fold(plan, data):
    models = [plan.new_model(member.base, seed=0) for member in plan.members]
    for shift, model in enumerate(models):
        torch.nn.init.constant_(model.network.readout.bias[-1:], 1.0 + shift)
    found = score_folds(plan.table, models, num_samples=500, least=10, most=1000, seed=0)
    assert len(found.reference) == len(plan.table.side) == 180
    torch.testing.assert_close(found.tilt, torch.zeros_like(found.tilt), atol=1e-6, rtol=0)
    first = plan.table.parts[0]
    rows = first.transform(first.dataset.validation).float()
    expected = first.bases.best(rows, plan.schedule.log_snr_at(0)).double()
    torch.testing.assert_close(found.reference[: len(rows)], expected, atol=1e-4, rtol=0)
    assert int(found.is_validation.sum()) == len(data.validation)


def test_scores_are_of_the_fold_that_a_row_is_left_out_of(plan):
    """Every fold has a base and a tilt of its own here."""
    log_snr, models, first = plan.schedule.log_snr_at(0), [], 0
    for number in range(3):
        base = NoisedGaussianMixture(torch.ones(1), torch.full((1, 2), 0.2 * number), torch.ones(1, 2))
        model = plan.new_model(base, seed=0)
        torch.nn.init.normal_(model.network.readout.weight, generator=seeded_generator(number))
        torch.nn.init.constant_(model.network.readout.bias[-1:], 10.0 + number)
        models.append(freeze(model))
    found = score_folds(plan.table, models, num_samples=500, least=10, most=1000, seed=0)
    for part, model in zip(plan.table.parts, models, strict=True):
        rows = part.transform(part.dataset.validation).float()
        own = slice(first, first := first + len(rows))
        torch.testing.assert_close(found.reference[own], model.base(rows, log_snr).double(), atol=1e-4, rtol=0)
        gap = found.tilt[own] - model.tilt(rows, 0).double()
        assert float(gap.std()) < 1e-4
        assert -15 < float(gap.mean()) < -5  # log Z counts the constant


def test_each_fold_selects_by_its_share_of_draws_and_stages_by_others(plan):
    state, rows = plan.new_state(plan.members[0].base, seed=0), plan.validation(seed=0)
    selecting = training_score(plan, rows, state, seed=plan.members[0].seed)
    comparing = stage_score(plan, state.model)
    assert len(selecting.draws) == plan.selection.num_samples // 3
    assert len(comparing.draws) == plan.selection.num_samples
    assert not bool(torch.isin(comparing.draws, selecting.draws).any())


def test_the_score_of_a_rounded_row_is_the_mean_over_its_noise():
    plan = plan_fit(drl.load_dataset(ring(60).round(decimals=1), seed=0), SETTINGS, seed=0)
    models = [plan.new_model(member.base, seed=0) for member in plan.members]
    found = score_folds(plan.table, models, num_samples=10, least=100, most=1000, seed=0)
    part = plan.table.parts[0]
    size = len(part.dataset.validation)
    noisy = part.validation_rows(seed=0, least=100, most=1000)
    assert len(noisy) >= 100 > size
    base = plan.members[0].base
    values = base(part.transform(noisy).float(), plan.schedule.log_snr_at(0)).double()
    torch.testing.assert_close(found.reference[:size], values.reshape(-1, size).mean(0), atol=1e-4, rtol=0)


def test_a_fit_in_folds_comes_back_from_its_files(density, tmp_path):
    density.save(tmp_path / "run")
    rows = ring(20)
    again = drl.Density.load(tmp_path / "run")
    assert torch.equal(again.log_prob(rows), density.log_prob(rows))
    assert again.settings.num_folds == 3
