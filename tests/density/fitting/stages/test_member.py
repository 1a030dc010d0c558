"""Stages of a member: the refinement is kept by its gain, resumes, and does not touch a fit without it."""

import dataclasses
import time

import pytest
import torch

import drl_density as drl
from drl_density.density.fitting import run as run_module
from drl_density.density.fitting.plan import plan_fit
from drl_density.density.fitting.run import FitRun
from drl_density.density.fitting.stages import Budget, member_stages, train_member
from drl_density.density.fitting.stages.member import doctor_line, refinement_plan, with_refinement
from drl_density.testing import seeded_generator

ADJUSTED = drl.AdjustedObjective(num_chain_steps=1, clean_share=0.5)
SETTINGS = drl.FitSettings(
    objective=drl.ContrastObjective(num_samples=2000),
    network=drl.ColumnNetwork(width=16, num_blocks=1, num_sigmoids=8, column_width=4),
    base="gaussian",
    transform="standardize",
    schedule=drl.LogSpacedSchedule(num_levels=3),
    num_validation_rows=200,
    num_pool_draws=20,
    training=drl.TrainingSettings(num_steps=60, batch_size=128, evaluate_every=20, learning_rate=5e-3, warmup_steps=5),
    recovery=drl.RecoverySettings(is_on=True, objective=ADJUSTED, num_steps=20, evaluate_every=10, learning_rate=1e-3),
)


def ring(count):
    """Rows near a ring, which a Gaussian fits poorly."""
    generator = seeded_generator(0)
    angle = 6.283 * torch.rand(count, generator=generator, dtype=torch.float64)
    radius = 2 + 0.3 * torch.randn(count, generator=generator, dtype=torch.float64)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


@pytest.fixture(scope="module")
def data():
    return drl.load_dataset(ring(600), seed=0)


@pytest.fixture(scope="module")
def plan(data):
    return plan_fit(data, SETTINGS, seed=0)


def trained(plan, settings=SETTINGS, budget=None, **folder):
    """The only member of a plan, trained in a run."""
    options = {"out": None, "resume": False, "force": False} | folder
    with FitRun.open(plan.table.dataset, settings, seed=0, progress=False, **options) as run:
        run.begin(plan)
        return train_member(plan, plan.members[0], run, budget=budget)


@pytest.fixture(scope="module")
def member(plan):
    return trained(plan)


def test_gains_of_the_stages_add_up(plan, member):
    network = plan.new_model(plan.members[0].base, seed=0)
    network.load_state_dict(member.state.best)
    reference, tilt, recovery = member_stages(plan, member, network.eval())
    assert [reference.name, tilt.name, recovery.name] == ["reference", "tilt", "recovery"]
    assert tilt.gain > 3 * tilt.gain_error > 0
    assert tilt.validation == pytest.approx(reference.validation + tilt.gain)
    assert recovery.validation == pytest.approx(tilt.validation + recovery.gain)
    assert recovery.kept == (recovery.gain > recovery.gain_error)
    assert member_stages(plan, None, network.eval())[1].name == "tilt"


def test_the_history_of_the_refinement_follows_that_of_the_contrast(member):
    assert [record["step"] for record in member.state.history] == [20, 40, 60, 70, 80]
    history = drl.training.history_dataset(member.state.history)
    assert history["loss_contrast"].isnull().values.tolist() == [False] * 3 + [True] * 2
    assert history["loss_recovery"].isnull().values.tolist() == [True] * 3 + [False] * 2


def states_of(plan, first, second):
    """States of both stages with these best weights."""
    place = plan.members[0]
    states = [part.new_state(place.base, seed=0) for part in (plan, refinement_plan(plan))]
    for state, weights in zip(states, (first, second), strict=True):
        state.best, state.step, state.best_step, state.best_score = weights, 60, 20, 0.0
    return states


@pytest.mark.parametrize("is_better", [True, False])
def test_refined_weights_are_kept_where_they_gain_more_than_the_error(plan, member, is_better):
    untrained = plan.new_model(plan.members[0].base, seed=0).state_dict()
    first, second = (untrained, member.tilt) if is_better else (member.tilt, untrained)
    state, refined = states_of(plan, first, second)
    found = with_refinement(plan, plan.members[0], state, refined)
    assert found.recovery.kept is is_better
    assert (found.recovery.gain > 0) is is_better
    assert found.state.best is (second if is_better else first)
    assert found.state.best_step == (80 if is_better else 20)
    assert found.tilt is first
    _, tilt, recovery = member_stages(plan, found, plan.new_model(plan.members[0].base, seed=0))
    assert recovery is found.recovery
    assert tilt.kept is not is_better  # untrained weights gain nothing, whatever refined them
    assert (tilt.gain == 0) is is_better


def test_a_refinement_has_the_settings_of_its_own_stage(plan):
    objective = drl.AdjustedObjective(chain_step_size=0.3)
    recovery = dataclasses.replace(SETTINGS.recovery, objective=objective)
    changed = dataclasses.replace(plan, settings=dataclasses.replace(SETTINGS, recovery=recovery))
    second = refinement_plan(changed)
    assert second.start.step_size == 0.3
    assert (second.training.num_steps, second.training.learning_rate) == (20, 1e-3)
    assert second.training.batch_size == plan.training.batch_size


def test_equal_weights_are_not_an_improvement(plan, member):
    state, refined = states_of(plan, member.tilt, member.tilt)
    found = with_refinement(plan, plan.members[0], state, refined)
    assert (found.recovery.gain, found.recovery.kept) == (0.0, False)


def test_a_refinement_that_is_interrupted_resumes_to_the_same_bits(data, plan, member, tmp_path, monkeypatch):
    store_saver = run_module.TrainingFolder.saver

    def stop_in_the_second_stage(self, name):
        save = store_saver(self, name)

        def wrapped(tensors, scalars):
            save(tensors, scalars)
            if name.endswith(".recovery"):
                raise KeyboardInterrupt

        return wrapped

    monkeypatch.setattr(run_module.TrainingFolder, "saver", stop_in_the_second_stage)
    with pytest.raises(KeyboardInterrupt):
        trained(plan, out=tmp_path / "run")
    monkeypatch.undo()
    again = trained(plan, out=tmp_path / "run", resume=True)
    assert again.recovery == member.recovery
    assert again.state.step == member.state.step == 80
    for name, value in member.state.best.items():
        assert torch.equal(value, again.state.best[name]), name


def test_a_contrast_that_ended_by_its_deadline_stays_as_the_refinement_found_it(plan, tmp_path):
    short = trained(plan, out=tmp_path / "run", budget=Budget(deadline=time.monotonic()))
    assert short.state.step == 20 + 10
    longer = trained(plan, out=tmp_path / "run", resume=True)
    assert longer.state.step == 20 + 20
    assert all(torch.equal(value, longer.tilt[name]) for name, value in short.tilt.items())


def test_without_the_stage_there_is_none(plan):
    settings = dataclasses.replace(SETTINGS, recovery=drl.RecoverySettings())
    found = trained(dataclasses.replace(plan, settings=settings), settings)
    assert found.recovery is None
    assert found.state.best is found.tilt
    assert found.state.step == 60


def test_a_fit_records_its_stages(data):
    density = drl.fit(data, settings=SETTINGS, seed=0, max_minutes=5, progress=False)
    stages = density.provenance.stages
    assert [stage.name for stage in stages] == ["reference", "tilt", "recovery"]
    assert density.provenance.steps_done == 80
    # Both normalise the reported weights by draws of their own.
    last = next(stage for stage in reversed(stages) if stage.kept)
    assert density.provenance.best_score["gaussian-0"] == pytest.approx(last.validation, abs=0.1)


@pytest.mark.parametrize(
    ("rates", "shown"), [([0.9, 0.62], ", acc>=0.62"), ([float("nan")] * 2, ""), ([float("nan"), 0.7], ", acc>=0.70")]
)
def test_the_line_of_progress_shows_acceptance_where_there_are_chains(rates, shown):
    record = {"acceptance_rate": rates, "selection_score": -1.5, "selected_level": 0, "complaints": []}
    assert doctor_line(record) == f"val -1.500 (level 0){shown} | healthy"
