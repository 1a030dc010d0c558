"""Trials of further networks: what each changes, which one is kept, and when none is made."""

import dataclasses
import math
import sys
import time

import pytest
import torch

import drl_density as drl
from drl_density.density.fitting.plan import plan_fit
from drl_density.density.fitting.run import FitRun
from drl_density.density.fitting.stages import Budget, TrainedMember, search_networks
from tests.density.fitting.stages.test_member import SETTINGS, ring

SEARCHED = dataclasses.replace(SETTINGS, recovery=drl.RecoverySettings(), num_trials=3)


@pytest.fixture(scope="module")
def data():
    return drl.load_dataset(ring(300), seed=0)


@pytest.fixture(scope="module")
def plan(data):
    return plan_fit(data, SEARCHED, seed=0)


@pytest.fixture
def search(plan, monkeypatch):
    """Searches with trials that end with given scores at given steps, without training."""
    module = sys.modules[search_networks.__module__]
    made = []

    def result(name, score, best_step, step):
        state = plan.new_state(plan.members[0].base, seed=0)
        state.best_score, state.best_step, state.step = score, best_step, step
        return TrainedMember(name, state, {})

    def run(first, *trials, settings=None, budget=None, seconds_per_step=0.0):
        left = list(trials)

        def train(changed, member, _, **__):
            made.append(changed)
            return result(member.name, *left.pop(0))

        monkeypatch.setattr(module, "train_member", train)
        planned = dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, **settings or {}))
        given = {"out": None, "resume": False, "force": False, "progress": False}
        with FitRun.open(plan.table.dataset, SEARCHED, seed=0, **given) as opened:
            options = {"budget": budget or Budget(), "seconds_per_step": seconds_per_step}
            found = search_networks(planned, result("gaussian-0", *first), opened, **options)
        return found, made

    return run


def test_each_trial_changes_one_thing_of_the_best_network_so_far(search):
    found, made = search((1.0, 20, 60), (2.0, 20, 60), (1.5, 20, 60), (3.0, 40, 40))
    large, dropped, shorter = (changed.networks.energy for changed in made)
    assert (large.width, large.num_blocks, large.column_width, large.dropout) == (128, 2, 16, 0.4)
    assert large.num_sigmoids == SEARCHED.network.num_sigmoids
    assert dropped == dataclasses.replace(large, dropout=0.5)
    assert shorter == large  # the second trial was not the best
    assert [changed.training.weight_decay for changed in made] == [0.3] * 3
    assert [changed.training.num_steps for changed in made] == [60, 60, 40]
    assert [member.name for member in found.trained] == [
        "gaussian-0", "gaussian-0.resized", "gaussian-0.dropout", "gaussian-0.shorter",
    ]  # fmt: skip
    assert found.plan.networks.energy == large
    assert found.plan.training == made[2].training
    assert found.plan.settings.training.weight_decay == SEARCHED.training.weight_decay  # those that the fit began with
    assert [member.name for member in found.plan.members] == ["gaussian-0.shorter"]
    assert all(changed.members[0].seed == found.plan.members[0].seed for changed in made)  # equal rows and draws


def test_networks_are_built_with_the_size_of_their_trial(search):
    _, made = search((1.0, 20, 60), (2.0, 20, 60), (1.5, 20, 60), (1.5, 20, 40))
    network = made[0].new_model(made[0].members[0].base, seed=0).network
    assert network.settings.width == 128
    assert made[1].new_model(made[1].members[0].base, seed=0).network.settings.dropout > network.settings.dropout


def test_the_first_network_stays_where_no_trial_scores_better(search, plan):
    found, made = search((1.0, 20, 60), (1.0, 20, 60), (0.5, 20, 60), (-math.inf, 20, 40))
    assert found.plan.members == plan.members
    assert found.plan.training.weight_decay == plan.training.weight_decay
    assert len(made) == 3


@pytest.mark.parametrize(
    ("first", "options"),
    [
        ((1.0, 60, 60), {}),
        ((1.0, 20, 60), {"budget": Budget(is_reference_alone=True)}),
        ((1.0, 20, 60), {"settings": {"num_trials": 0}}),
    ],
    ids=["still improving", "reference alone", "none asked for"],
)
def test_no_trial_is_made(search, plan, first, options):
    found, made = search(first, **options)
    assert not made
    assert len(found.trained) == 1
    assert found.plan.members == plan.members


@pytest.mark.parametrize(("seconds", "count"), [(30, 0), (50, 1), (70, 3)])
def test_a_trial_that_the_time_does_not_admit_is_not_begun(search, seconds, count):
    """Two trials of 60 steps of a second each, and a shorter one of 40; none takes time here."""
    budget = Budget(deadline=time.monotonic() + seconds)
    found, made = search((1.0, 20, 60), *[(0.5, 20, 60)] * 3, budget=budget, seconds_per_step=1.0)
    assert len(made) == len(found.trained) - 1 == count


def test_a_fit_keeps_its_best_network_and_comes_back(data, tmp_path, monkeypatch):
    """Two hidden units first, then 24."""
    module = sys.modules[search_networks.__module__]
    monkeypatch.setattr(module, "WIDTHS", {True: (12, 1, 4), False: (24, 1, 4)})
    monkeypatch.setattr(module, "MOST_BEFORE_TRIALS", 1.0)
    network = drl.ColumnNetwork(width=2, num_blocks=1, num_sigmoids=8, column_width=2)
    settings = dataclasses.replace(SEARCHED, network=network, num_trials=1)
    density = drl.fit(data, settings=settings, seed=0, progress=False, out=tmp_path / "run")
    origin = density.provenance
    assert set(origin.best_score) == {"gaussian-0", "gaussian-0.resized"}
    assert origin.selected_member == "gaussian-0.resized" == max(origin.best_score, key=origin.best_score.get)
    assert density.model.network.settings.width == 24
    assert [stage.name for stage in origin.stages] == ["reference", "tilt"]
    rows = ring(20)
    again = drl.Density.load(tmp_path / "run")
    assert torch.equal(again.log_prob(rows), density.log_prob(rows))
    assert drl.fit(data, settings=settings, seed=0, progress=False, out=tmp_path / "run", resume=True).provenance == origin


def test_trials_are_usual_for_a_contrast_that_is_left_at_its_defaults():
    def number(settings, **options):
        return settings.resolve(4000, (5,), 0.05, **options).num_trials

    assert number(drl.FitSettings()) == 3
    assert number(drl.FitSettings(), num_folds=5) == 0
    assert number(drl.FitSettings(num_trials=1, network=drl.ColumnNetwork(width=8))) == 1
    for changes in (
        {"network": drl.ColumnNetwork(width=8)},
        {"training": drl.TrainingSettings(num_steps=100)},
        {"num_networks": 2},
        {"recovery": drl.RecoverySettings(is_on=True)},
        {"selection": "last"},
        {"objective": drl.AdjustedObjective()},
    ):
        assert number(drl.FitSettings(**changes)) == 0
    with pytest.raises(ValueError, match="leave num_trials out"):
        drl.FitSettings(num_trials=2, num_folds=5)
    with pytest.raises(ValueError, match="leave num_trials out"):
        drl.FitSettings(num_trials=2, objective=drl.AdjustedObjective())
    assert not drl.FitSettings(num_trials=2).may_fold
