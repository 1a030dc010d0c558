"""Levels, labels and records that objectives share."""

import math

import pytest
import torch

from drl_density import RecoveryLikelihood
from drl_density.testing import assert_z, seeded_generator
from drl_density.training import DenoisingScoreMatching, LangevinRecovery
from drl_density.training.objectives.objective import (
    LevelStatistics,
    ObjectiveValue,
    drop_labels,
    level_means,
    level_shift,
    split_labels,
    stratified_levels,
    uniform_levels,
)
from tests.training.small_runs import draw, fresh


def test_levels_are_stratified_in_random_order():
    levels = stratified_levels(14, 4, generator=seeded_generator(0))
    counts = levels.bincount(minlength=4)
    assert int(counts.max() - counts.min()) <= 1
    assert not torch.equal(levels, stratified_levels(14, 4, generator=seeded_generator(1)))
    starts = torch.stack([stratified_levels(1, 4, generator=seeded_generator(seed)) for seed in range(100)])
    assert starts.unique().tolist() == [0, 1, 2, 3]


def test_uniform_levels_are_independent_of_each_other():
    levels = uniform_levels(10_000, 4, generator=seeded_generator(0))
    assert levels.unique().tolist() == [0, 1, 2, 3]
    assert_z((levels == 3).double(), 0.25)
    assert_z((levels[:-1] == levels[1:]).double(), 0.25)


def test_the_grid_is_shifted_half_of_the_time():
    shifts = torch.stack([level_shift(generator=seeded_generator(seed)) for seed in range(2000)])
    assert_z((shifts == 0).double(), 0.5)
    assert_z(shifts[shifts > 0], 0.5)
    assert float(shifts.max()) < 1


def test_means_per_level_are_nan_at_a_level_without_rows():
    found = level_means(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2]), 3)
    assert found[[0, 2]].tolist() == [2.0, 5.0]
    assert math.isnan(float(found[1]))


def test_statistics_of_rows_and_of_no_chains():
    rows = torch.tensor([1.0, 3.0])
    found = LevelStatistics.of_rows(rows, rows / 4, rows * 2, levels=torch.tensor([0, 1]), num_levels=2)
    assert found.stacked().tolist() == [[1.0, 3.0], [0.25, 0.75], [2.0, 6.0]]
    assert bool(LevelStatistics.unknown(2, rows).stacked().isnan().all())


def test_a_term_is_weighted_in_the_loss_and_recorded_without_its_weight():
    statistics = LevelStatistics.unknown(1, torch.zeros(1))
    term = torch.tensor(3.0, requires_grad=True)
    value = ObjectiveValue(torch.tensor(1.0), {"first": torch.tensor(1.0)}, statistics).plus("second", term, 0.5)
    assert float(value.loss.detach()) == 2.5
    assert {name: float(part) for name, part in value.parts.items()} == {"first": 1.0, "second": 3.0}
    value.loss.backward()
    assert float(term.grad) == 0.5
    assert not value.parts["second"].requires_grad


def test_labels_are_split_off_and_dropped():
    rows, label = torch.zeros(10_000, 1), torch.full((10_000,), 2)
    assert split_labels(rows)[1] is None
    assert split_labels((rows, label)) == (rows, label)
    dropped = drop_labels(label, 0.25, generator=seeded_generator(0))
    assert set(dropped.tolist()) == {0, 2}
    assert_z((dropped == 0).double(), 0.25)
    assert torch.equal(drop_labels(label, 0.0), label)
    assert drop_labels(None, 0.25) is None
    with pytest.raises(ValueError, match=r"label_dropout must lie in \[0, 1\], got 1.5"):
        DenoisingScoreMatching(label_dropout=1.5)


@pytest.mark.parametrize("objective", [RecoveryLikelihood(), LangevinRecovery()], ids=["adjusted", "langevin"])
def test_objectives_without_labels_refuse_a_batch_with_labels(objective):
    batch = (draw(8, seeded_generator(0)), torch.ones(8, dtype=torch.long))
    with pytest.raises(ValueError, match="does not use labels"):
        objective(fresh().model, batch, torch.ones(6))
