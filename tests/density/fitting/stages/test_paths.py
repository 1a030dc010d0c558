"""Fits by path increments: tables of a state, and the tilt against its untouched base."""

import dataclasses

import numpy as np
import pytest
import torch

import drl_density as drl
from drl_density.bases import FactorAnalysers
from drl_density.density.data_units import freeze
from drl_density.density.fitting.forecast import seconds_per_step
from drl_density.density.fitting.plan import plan_fit
from drl_density.density.fitting.selection import Selected
from drl_density.density.fitting.stages import paths
from drl_density.errors import Verdict
from drl_density.model import EnergySequence
from drl_density.networks import NoTilt, UNetEnergy, UNetEnergySettings
from drl_density.schedule import NoiseSchedule
from drl_density.training import DenoisingScoreMatching, Evaluation, LevelParticles, PathMatching
from drl_density.training.objectives.paths.matching import SCATTER, VARIANCES
from drl_density.weights import assess_weights

NETWORK = drl.UNetNetwork(num_channels=4, multipliers=(1,), num_middle_blocks=1, dropout=0.0)


def images():
    rng = np.random.default_rng(0)
    found = rng.integers(0, 40, (80, 4, 4)).astype(np.uint8)
    found[::2, 1:3] += 150
    return found


SETTINGS = drl.FitSettings(
    objective=drl.PathObjective(steps_per_level=1),
    network=NETWORK,
    base="factors",
    schedule=drl.LogSpacedSchedule(num_levels=3),
    training=drl.TrainingSettings(num_steps=4, evaluate_every=2, batch_size=8),
    num_particles=8,
    num_pool_draws=8,
    num_validation_rows=32,
)


@pytest.fixture(scope="module")
def plan():
    return plan_fit(drl.load_dataset(images(), seed=0), SETTINGS, seed=0)


def test_a_state_gets_tables_before_training_and_new_ones_at_every_evaluation(plan):
    state, rows = plan.new_state(plan.members[0].base, seed=0), plan.validation(seed=0).rows
    seen = []
    objective, evaluation = paths.with_meter(plan.objective, Evaluation(rows, redraw=seen.append), state, num_steps=10)
    assert state.drawn[VARIANCES].shape == (2, 16)
    assert objective.tables() is state.drawn
    before = state.drawn[SCATTER]
    record = evaluation.figures(state.model, rows, state.step_sizes)
    assert evaluation.score is None
    evaluation.redraw(state)
    assert seen == [state]
    torch.testing.assert_close(state.drawn[SCATTER], before)  # the same weights and the same noise
    assert record["level_scatter"][:2] == pytest.approx(state.drawn[SCATTER].tolist())
    other = DenoisingScoreMatching()
    assert paths.with_meter(other, evaluation, state, num_steps=10) == (other, evaluation)


def test_increments_join_in_after_their_share_of_the_steps(plan):
    state, rows = plan.new_state(plan.members[0].base, seed=0), plan.validation(seed=0).rows
    objective, _ = paths.with_meter(plan.objective, Evaluation(rows), state, num_steps=100)
    seen = []
    for state.step in (0, 50, 55, 60, 100):
        value = objective(state.model, rows[:8], state.step_sizes, generator=torch.Generator().manual_seed(0))
        seen.append((objective.share(), {"increments", "particles"} & set(value.parts)))
    shares, are_on = zip(*seen, strict=True)
    both = {"increments", "particles"}
    assert shares == pytest.approx((0, 0, 0.5, 1, 1))
    assert are_on == (set(), set(), both, both, both)


def test_the_forecast_of_a_step_counts_short_and_long_steps(plan, monkeypatch):
    spent, inner = [0.0], PathMatching.__call__

    def timed(objective, *given, **named):
        spent[0] += 3.0 if objective.share() else 1.0
        return inner(objective, *given, **named)

    monkeypatch.setattr(PathMatching, "__call__", timed)
    assert seconds_per_step(plan, clock=lambda: spent[0]) == 2.0


def test_weights_from_before_the_particles_are_not_kept(plan):
    rows = plan.validation(seed=0).rows
    for weight, is_kept in ((1.0, False), (0.0, True)):
        state = plan.new_state(plan.members[0].base, seed=0)
        objective = dataclasses.replace(plan.objective, particles=LevelParticles(weight))
        _, evaluation = paths.with_meter(objective, Evaluation(rows), state, num_steps=100)
        state.step = 55
        state.keep_best(-10.0, 0.0)
        evaluation.redraw(state)
        state.step = 61
        state.keep_best(-20.0, 0.0)
        evaluation.redraw(state)
        assert state.best_step == (55 if is_kept else 61)
        assert state.best_score == (-10.0 if is_kept else -20.0)  # what counts in full is kept


def test_the_forecast_counts_the_gradients_of_the_estimate():
    """In 64 columns, with a network that is zero: a pass of the network for each gradient of a row."""
    generator = torch.Generator().manual_seed(0)
    base = FactorAnalysers(
        torch.ones(1), torch.zeros(1, 64), torch.randn(1, 64, 1, generator=generator), torch.ones(1, 64)
    )
    sizes = UNetEnergySettings((1, 8, 8), num_channels=4, multipliers=(1,), num_middle_blocks=1)
    schedule = NoiseSchedule.log_spaced(2, sigma_min=0.3)
    model = freeze(EnergySequence(schedule, UNetEnergy(sizes, generator=generator), (64,), base=base))
    passes = []
    model.network.register_forward_pre_hook(lambda _, given: passes.append(len(given[0])))
    found = paths.tilt_log_z(model, base.sample(256, generator=generator), num_particles=128, seed=0)
    assert abs(found.log_z) < 0.5  # known to be 0
    assert 0.6 < sum(passes) / paths.log_z_gradients(2, 128) < 1.5


def test_a_tilt_is_reported_where_it_is_surely_better(plan, monkeypatch):
    held_out = plan.validation(seed=0)
    model = plan.new_model(plan.members[0].base, seed=0)
    with torch.no_grad():
        model.network.leave.weight.add_(0.05)
    chosen = Selected(plan.members[0].name, freeze(model))
    gain = float(held_out.mean(model.tilt(held_out.rows, 0).double()))
    known = assess_weights(torch.zeros(8, 20, dtype=torch.float64), bias="none-known")

    def with_log_z(log_z, verdict=Verdict.RELIABLE):
        made = dataclasses.replace(known, log_z=log_z, verdict=verdict, advice="for a test")
        monkeypatch.setattr(paths, "tilt_log_z", lambda *_, **__: made)
        return paths.judged(plan, chosen, held_out)

    kept, estimate = with_log_z(gain - 0.5)
    assert kept is chosen
    assert estimate is not None
    worse, none = with_log_z(gain + 0.5)
    assert "at the upper end of log Z is -0.5 nats a row" in worse.rejection
    assert none is None
    assert type(worse.model.network) is NoTilt
    unknown, _ = with_log_z(gain - 5, Verdict.UNKNOWN)
    assert unknown.rejection == "the verdict on its log Z is unknown: for a test"
    assert paths.judged(plan, chosen._replace(rejection="no time"), held_out)[0].rejection == "no time"


@pytest.mark.filterwarnings("ignore::drl_density.errors.UnreliableEstimateWarning")
def test_a_fit_runs_from_images_to_a_density_and_goes_on_where_it_was_saved(tmp_path):
    data = drl.load_dataset(images(), seed=0)
    density = drl.fit(data, seed=0, settings=SETTINGS, out=tmp_path / "run", progress=False)
    assert type(density.model.network) in (NoTilt, UNetEnergy)
    assert (type(density.model.network) is NoTilt) == bool(density.provenance.rejection)
    assert "validation_scatter" in density.history
    assert density.log_prob(data.test).isfinite().all()
    again = drl.fit(data, seed=0, settings=SETTINGS, out=tmp_path / "run", resume=True, progress=False)
    assert torch.equal(again.log_prob(data.test), density.log_prob(data.test))


def test_without_time_the_reference_is_the_result():
    with pytest.warns(drl.DRLDensityWarning, match="the reference density is reported without a tilt"):
        density = drl.fit(images(), seed=0, settings=SETTINGS, max_minutes=1e-6, progress=False)
    assert type(density.model.network) is NoTilt
    assert density.estimate.log_z == 0.0
    assert isinstance(plan_fit(drl.load_dataset(images(), seed=0), SETTINGS).objective, PathMatching)
