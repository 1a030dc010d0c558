"""Time limits."""

import dataclasses
import itertools
import sys

import pytest
import torch

import drl_density as drl
from drl_density.bases import QuadraticBase
from drl_density.density.fitting.forecast import (
    FEWEST_TIMED,
    Footprint,
    _seconds_per_row_of,
    check_memory,
    finishing_seconds,
    footprint,
    seconds_per_step,
    within_time,
)
from drl_density.density.fitting.plan import plan_fit
from drl_density.devices import available_memory
from drl_density.errors import DataError
from drl_density.partition_function import AISSettings
from tests.density.small_images import plan_for, settings_for


@pytest.mark.filterwarnings("ignore:max_minutes leaves:drl_density.errors.DRLDensityWarning")
def test_time_limits_cut_the_steps(tiny_data, tiny_settings):
    training = drl.TrainingSettings(num_steps=10**6, evaluate_every=20)
    plan = plan_fit(tiny_data, dataclasses.replace(tiny_settings, base="gaussian", training=training))
    assert seconds_per_step(plan) > 0
    forecast = within_time(plan, 0.01)
    assert forecast.seconds > 0
    assert 20 <= forecast.num_steps < 10**5
    assert plan.with_num_steps(forecast.num_steps).settings.training.num_steps == forecast.num_steps


@pytest.mark.parametrize("max_minutes", [0.0, 60.0])
@pytest.mark.filterwarnings("ignore:max_minutes leaves:drl_density.errors.DRLDensityWarning")
def test_time_limits_add_no_steps(tiny_data, tiny_settings, max_minutes):
    training = drl.TrainingSettings(num_steps=7, evaluate_every=20)
    plan = plan_fit(tiny_data, dataclasses.replace(tiny_settings, base="gaussian", training=training))
    assert within_time(plan, max_minutes).num_steps == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base": "gaussian"}, r"reported without a tilt; for one, allow about \d+\.\d minutes more$"),
        ({"base": "gaussian", "num_networks": 2}, r"minutes more, or train fewer networks \(base, num_networks\)$"),
        ({"num_folds": 2}, r"minutes more, or train fewer folds \(num_folds\)$"),
    ],
    ids=["one", "two", "folds"],
)
def test_too_little_time_is_said_with_what_to_mend(tiny_data, tiny_settings, monkeypatch, changes, said):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    contrast = {"objective": drl.ContrastObjective(num_samples=1000), "network": drl.ColumnNetwork(width=8)}
    plan = plan_fit(tiny_data, dataclasses.replace(tiny_settings, **contrast | changes), max_minutes=0.01)
    with pytest.warns(drl.DRLDensityWarning, match=said):
        assert within_time(plan, 0.0).num_steps == 0
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.warns(drl.DRLDensityWarning, match=said[:-1] + r"\. Beside other busy .*: set OMP_NUM_THREADS=1$"):
        within_time(plan, 0.0)


def test_an_objective_without_a_reference_trains_up_to_its_first_evaluation(tiny_data, tiny_settings):
    training = drl.TrainingSettings(num_steps=40, evaluate_every=5)
    plan = plan_fit(tiny_data, dataclasses.replace(tiny_settings, base="gaussian", training=training))
    with pytest.warns(drl.DRLDensityWarning, match=r"training will take \d+ s for one network: allow about \d+\.\d minutes"):
        assert within_time(plan, 0.0).num_steps == 5


@pytest.mark.parametrize(
    ("changes", "num_steps", "patience"),
    [({}, 8000, 12), ({"num_steps": 700}, 700, 6), ({"patience": 40}, 8000, 40)],
)
def test_a_contrast_takes_more_steps_where_the_time_admits_them(tiny_data, monkeypatch, changes, num_steps, patience):
    """Four times the usual 2,000, with patience over 15 % of them, unless it was given a number of its own."""
    settings = drl.FitSettings(base="gaussian", network=drl.ColumnNetwork(width=8), num_folds=1)
    settings = dataclasses.replace(settings, training=drl.TrainingSettings(**changes))
    plan = plan_fit(tiny_data, settings)
    module = sys.modules[footprint.__module__]
    monkeypatch.setattr(module, "seconds_per_step", lambda *_, **__: 0.01)
    forecast = within_time(plan, 100.0)
    longer = plan.with_num_steps(forecast.num_steps).training
    assert (longer.num_steps, longer.patience) == (num_steps, patience)
    assert forecast.seconds == pytest.approx(0.01 * num_steps)
    assert within_time(plan, 0.05).num_steps == int(0.9 * 3.0 / 0.01)


def test_finishing_by_draws_of_the_base_is_a_small_share_of_finishing_along_the_levels(
    tiny_data, tiny_settings, monkeypatch
):
    """A clock that ticks by a millisecond at every look gives equal times to a gradient and to a weighted draw."""
    contrast = {"objective": drl.ContrastObjective(num_samples=1000), "network": drl.ColumnNetwork(width=8)}
    settings = dataclasses.replace(tiny_settings, base="gaussian", num_pool_draws=2000)
    plans = [plan_fit(tiny_data, dataclasses.replace(settings, **given)) for given in ({}, contrast)]
    ticks = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: 1e-3 * next(ticks))
    along, weighted = map(finishing_seconds, plans)
    assert 0 < weighted < 0.2 * along
    double = dataclasses.replace(plans[1], selection=dataclasses.replace(plans[1].selection, num_samples=2000))
    # 1,000 further draws each to select and to estimate, at a third of a millisecond for 2,048 of them.
    assert finishing_seconds(double) - weighted == pytest.approx(1.4e-3 * 2000 / (3 * 2048))
    # Each of 2,000 draws of the pool takes 40 draws of the base; the rest are gradients of the check by annealing.
    checking = weighted - 1.4e-3 * (2 * 1000 + 40 * 2000) / (3 * 2048)
    sizes = AISSettings(num_replicates=4)
    assert checking == pytest.approx(1.4e-3 * 20 * (12 * sizes.num_particles + 5 * sizes.num_pilot_particles) / (3 * 2048))
    # The average of folds leans on one base.
    two = dataclasses.replace(plans[1], members=plans[1].members * 2)
    folds = [dataclasses.replace(member, part=plans[1].table) for member in two.members]
    less = finishing_seconds(two) - finishing_seconds(dataclasses.replace(two, members=tuple(folds)))
    assert less == pytest.approx(1.4e-3 * (1000 + 40 * 2000) / (3 * 2048) + checking)


@pytest.mark.parametrize("num_threads", [1, 4])
def test_the_time_of_images_names_what_several_threads_cost(num_threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    described = Footprint(1000, 2**20, 2**20, None, 0.1, 100).describe()
    assert described.endswith("set OMP_NUM_THREADS=1" if num_threads > 1 else "measured speed)")


def test_memory_is_counted_and_refused_before_training(pictures, monkeypatch):
    plan = plan_for("images", pictures)
    small = footprint(plan)
    wide = plan_for("images", pictures, network={"num_channels": 16})
    assert 3.5 < footprint(wide).activation_bytes / small.activation_bytes < 4.1

    def with_training(**given):
        return dataclasses.replace(plan, training=dataclasses.replace(plan.training, **given))

    assert footprint(with_training(batch_size=16)).activation_bytes == 2 * small.activation_bytes
    assert footprint(with_training(batch_size=16, num_shards=2)).activation_bytes == small.activation_bytes
    model = plan.new_model(QuadraticBase(16, 1.0), seed=0)
    assert small.num_parameters == sum(part.numel() for part in model.network.parameters())
    check_memory(plan)
    alone = available_memory()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert 0.2 < available_memory() / alone < 0.3
    module = sys.modules[footprint.__module__]
    monkeypatch.setattr(module, "available_memory", lambda _: 1000)
    monkeypatch.setattr(
        sys.modules["drl_density.density.fitting.fit"],
        "train_member",
        lambda *_, **__: pytest.fail("trained all the same"),
    )
    with pytest.raises(DataError, match="lower training.batch_size"):
        drl.fit(pictures, seed=0, settings=settings_for("images"), progress=False)
    monkeypatch.setattr(module, "available_memory", lambda _: None)
    check_memory(plan)


def test_checkpoints_keep_less_and_an_initialiser_keeps_more(pictures):
    """A block keeps its input and three tensors of its inside: of many blocks about a quarter is left."""
    deep = {"network": {"num_blocks": 12}}

    def bytes_of(objective=None, *, is_checkpointed=False, **given):
        parts = {} if objective is None else {"classification_weight": 0.0}
        plan = plan_for("images", pictures, objective=objective, objective_parts=parts, **deep)
        training = dataclasses.replace(plan.training, is_checkpointed=is_checkpointed)
        return footprint(dataclasses.replace(plan, training=training)).activation_bytes

    assert 0.2 < bytes_of(is_checkpointed=True) / bytes_of() < 0.45
    once = bytes_of("langevin")
    assert bytes_of("denoising", is_checkpointed=True) == pytest.approx(2 * once, rel=1e-6)
    assert bytes_of("cooperative") > 1.01 * once


@pytest.mark.parametrize(("per_row", "most_rows"), [(1e-6, 2048), (1.0, FEWEST_TIMED)])
def test_rows_of_many_columns_are_timed_on_few_of_them(per_row, most_rows):
    spent, counts = [0.0], []

    def work(count):
        counts.append(count)
        spent[0] += per_row * count

    assert _seconds_per_row_of(work, lambda: spent[0], most=2048) == pytest.approx(per_row)
    assert max(counts) == most_rows
