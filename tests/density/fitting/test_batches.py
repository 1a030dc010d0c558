"""Training batches: rescaled, mirrored, labelled, and completed rows."""

import contextlib
import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

import drl_density as drl
from drl_density.density.fitting.batches import batch_source, mirror
from drl_density.density.fitting.plan import plan_fit
from drl_density.density.fitting.table import prepare_table
from drl_density.errors import DataError
from drl_density.testing import assert_z, seeded_generator
from tests.conftest import TINY
from tests.density.small_images import plan_for, right_over_left, settings_for


def test_pixels_are_rescaled_and_mirrored(pictures):
    plan = plan_for("cifar10", pictures)
    table = plan.table
    ends = torch.tensor([0.0, 255.0], dtype=torch.float64)[:, None].expand(2, 16)
    assert torch.equal(table.transform(ends)[:, 0], torch.tensor([-1.0, 1.0], dtype=torch.float64))
    plain = table.batches(64, torch.Generator().manual_seed(0)).reshape(64, 1, 4, 4)
    batches = plan.source(plan.new_state(plan.members[0].base, seed=0))
    rows = batches(64, torch.Generator().manual_seed(0)).reshape(64, 1, 4, 4)
    same = (rows == plain).flatten(1).all(1)
    flipped = (rows == plain.flip(-1)).flatten(1).all(1)
    assert bool((same | flipped).all())
    assert 10 < int(flipped.sum()) < 54


def test_batches_carry_the_places_of_their_labels(labelled_pictures):
    data = drl.load_dataset(labelled_pictures)
    plan = plan_for("cifar10_cdrl", data, network={"num_classes": 2, "flips": False})
    state = plan.new_state(plan.table.bases.best, seed=0)
    rows, places = plan.source(state)(64, torch.Generator().manual_seed(0))
    assert torch.equal(places, torch.where(right_over_left(rows) > 0, 2, 1))
    mirroring = plan_for("cifar10_cdrl", data, network={"num_classes": 2, "flips": True})
    mirrored, _ = mirroring.source(state)(400, torch.Generator().manual_seed(0))
    assert 100 < int((right_over_left(mirrored) > 0).sum()) < 300
    model = plan.new_model(plan.table.bases.best, seed=0)
    generator = torch.Generator().manual_seed(0)
    plan.objective(model, (rows, places), torch.full((2,), 0.1), generator=generator).loss.backward()
    gradient = model.network.network.embed_label.weight.grad
    assert bool((gradient.abs().sum(1) > 0).all())  # both labels, and "not told"


def test_labels_that_do_not_fit(labelled_pictures, pictures):
    five = settings_for("cifar10_cdrl", network={"num_classes": 5})
    with pytest.raises(DataError, match=r"5, and the data have 2 labels \(3, 8\)"):
        drl.fit(labelled_pictures, seed=0, settings=five, progress=False)
    with pytest.raises(DataError, match="give y_train with"):
        drl.fit(pictures, seed=0, settings=five, progress=False)
    with pytest.raises(ValueError, match='cooperative and the denoising objective learn labels, got "langevin"'):
        settings_for("cifar10", network={"num_classes": 5})


def test_mirrored_pictures_are_whole():
    """Each picture comes back either as it was or with its columns in reverse, half of them each."""
    rows = torch.arange(2000 * 6.0).reshape(2000, 6)
    found = mirror(rows, (1, 2, 3), generator=torch.Generator().manual_seed(0))
    reverse = rows[:, [2, 1, 0, 5, 4, 3]]
    flipped = (found == reverse).all(1)
    assert bool(((found == rows).all(1) ^ flipped).all())
    assert_z(flipped.double().mean(), 0.5, 0.5 / 2000**0.5)


def test_drawn_values_follow_the_model_and_observed_ones_stay():
    """A sequence that is its base redraws from the base's own conditional, and touches missing values alone."""
    rows = torch.randn(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows[:100, 1] = torch.nan
    data = drl.load_dataset(rows, missing="draw", seed=0)
    settings = dataclasses.replace(TINY, base="gaussian", transform="standardize")
    plan = plan_fit(data, settings)
    state = plan.new_state(plan.table.bases.best, seed=0)
    batches = plan.source(state)
    first = state.drawn["cells"].clone()
    assert torch.equal(first, plan.table.drawn)
    batches.redraw(state)
    moved = state.drawn["cells"]
    is_missing = plan.table.dataset.train.isnan()
    assert bool((moved != first)[:, is_missing].double().mean() > 0.5)
    # Columns are independent, so the conditional is N(0, 1); 80 rows or so are incomplete.
    assert 0.6 < float(moved[:, is_missing].std()) < 1.4
    complete = ~is_missing.any(1)
    assert torch.equal(moved[:, complete], first[:, complete])
    batch = batches(200, torch.Generator().manual_seed(0))
    assert bool(torch.isfinite(batch).all())
    state.drawn = {"cells": torch.full_like(moved, 7.0)}
    batch = batches(200, torch.Generator().manual_seed(0))
    assert 20 < int((batch[:, 1] == 7.0).sum()) < 140
    assert torch.equal(plan.source(state).state.drawn["cells"], state.drawn["cells"])


@pytest.mark.filterwarnings("ignore:76 rows for 16 columns:drl_density.errors.DataWarning")
def test_missing_values_have_neither_labels_nor_mirrors(pictures):
    rows = pictures.train.double().clone()
    rows[:40, 3] = torch.nan
    data = drl.load_dataset(rows, missing="draw", seed=0)
    table = prepare_table(data, "standardize").with_bases("gaussian")
    for network in (drl.ResidualNetwork((1, 4, 4), flips=True), drl.ResidualNetwork((1, 4, 4), num_classes=2)):
        with pytest.raises(DataError, match="network.num_classes and network.flips cannot be combined"):
            batch_source(table, network, batch_size=8)


@pytest.fixture(scope="module")
def sorted_plan(tmp_path_factory):
    """The plan of a fit from a sorted file of two groups, in tiny row groups and samples of 500 rows."""
    rng = np.random.default_rng(0)
    a = np.sort(rng.normal(size=5000))
    path = tmp_path_factory.mktemp("sorted") / "sorted.parquet"
    pd.DataFrame({"a": a, "b": np.sign(a) * 5 + rng.normal(size=5000)}).to_parquet(path, row_group_size=40)
    data = drl.load_dataset(str(path), seed=0, max_rows_in_memory=500)
    return plan_fit(data, dataclasses.replace(TINY, base="gaussian", transform="standardize"))


def test_batches_of_a_sorted_file_are_those_of_a_shuffled_table(sorted_plan):
    """One batch from each of 60 samples: shares of eight ordered blocks, against the training rows themselves."""
    stream = sorted_plan.table.dataset.stream
    rows = torch.cat([stream.sample(number).rows for number in range(stream.num_slices)])
    u = sorted_plan.table.to_model(rows, generator=None)[:, 0]
    edges = u.quantile(torch.linspace(0, 1, 9)[1:-1])
    state = sorted_plan.new_state(sorted_plan.table.bases.best, seed=0)
    size, generator = sorted_plan.training.batch_size, seeded_generator(7)
    found = []
    with contextlib.closing(sorted_plan.source(state)) as batches:
        for number in range(60):
            state.step = -(-number * stream.sample_size // size)
            found.append(batches(size, generator)[:, 0])
    assert stream.num_slices < 60
    blocks = torch.stack([(torch.bucketize(torch.cat(found), edges) == block).double() for block in range(8)], 1)
    assert_z(blocks, 1 / 8)
    assert_z(torch.cat(found).double(), float(u.mean()))


def test_a_resumed_run_has_the_same_rows(sorted_plan):
    """The batch of a step depends on the step and the generator, not on the steps before."""
    drawn = []
    for steps in (range(100), (60, 99)):
        state = sorted_plan.new_state(sorted_plan.table.bases.best, seed=0)
        with contextlib.closing(sorted_plan.source(state)) as batches:
            for state.step in steps:
                batch = batches(32, torch.Generator().manual_seed(state.step))
        drawn.append(batch)
    assert torch.equal(*drawn)


@pytest.fixture(scope="module")
def incomplete_plan(tmp_path_factory):
    """The plan of a fit from a file of two correlated columns, a fifth of whose second cells is missing where a > 0."""
    rng = np.random.default_rng(0)
    a = np.sort(rng.normal(size=3000))
    b = a + 0.5 * rng.normal(size=3000)
    b[(a > 0) & (rng.random(3000) < 0.4)] = np.nan
    path = tmp_path_factory.mktemp("incomplete") / "incomplete.parquet"
    pd.DataFrame({"a": a, "b": b}).to_parquet(path, row_group_size=100)
    data = drl.load_dataset(str(path), seed=0, max_rows_in_memory=800, missing="draw")
    return plan_fit(data, dataclasses.replace(TINY, base="gaussian", transform="standardize"))


def test_missing_values_of_a_streamed_table_are_drawn_sample_by_sample(incomplete_plan):
    plan = incomplete_plan
    base, stream = plan.table.bases.best, plan.table.dataset.stream
    size, drawn = stream.sample_size, []
    for steps in (range(3 * size // 32), (2 * size // 32 + 1, 3 * size // 32 - 1)):
        state = plan.new_state(base, seed=0)
        with contextlib.closing(plan.source(state)) as batches:
            for state.step in steps:
                batch = batches(32, torch.Generator().manual_seed(state.step))
                assert bool(batch.isfinite().all())
            assert int(state.drawn["sample"]) == state.step * plan.training.batch_size // size
            before = state.drawn["cells"]
            batches.redraw(state)
            is_missing = stream.sample(int(state.drawn["sample"])).rows.isnan()
            assert bool((before[0][is_missing] != state.drawn["cells"][0][is_missing]).any())
            assert torch.equal(before[0][~is_missing], state.drawn["cells"][0][~is_missing])
        drawn.append(batch)
    assert torch.equal(*drawn)
