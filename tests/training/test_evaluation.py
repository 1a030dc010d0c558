"""What evaluations record."""

import math

import pytest
import torch

from drl_density.training.evaluation import Evaluation, StepMeans, evaluation_record
from drl_density.training.gradient_step import GradientStep
from drl_density.training.objectives.objective import LevelStatistics, ObjectiveValue
from tests.training.small_runs import draw, fresh, settings


def step(gap, loss, norm):
    """A step with the given energy gaps, acceptance 0.5 at the same levels, and two parts of the loss."""
    gaps = torch.tensor(gap)
    rates = torch.where(gaps.isnan(), torch.nan, 0.5)
    parts = {"recovery": torch.tensor(loss), "classification": torch.tensor(1.0)}
    return GradientStep(ObjectiveValue(torch.tensor(0.0), parts, LevelStatistics(gaps, rates, rates)), norm)


def test_means_are_over_steps_and_per_level_over_steps_with_rows_there():
    means = StepMeans(3)
    means.add(step([1.0, math.nan, math.nan], 2.0, 3.0))
    means.add(step([2.0, 4.0, math.nan], 4.0, 5.0))
    record = means.record()
    assert record["loss_recovery"] == 3.0
    assert record["loss_classification"] == 1.0
    assert record["loss"] == 4.0
    assert record["gradient_norm"] == 4.0
    assert record["energy_gap"][:2] == [1.5, 4.0]
    assert math.isnan(record["energy_gap"][2])
    assert record["acceptance_rate"][:2] == [0.5, 0.5]


def test_a_record_holds_the_validation_loss_and_the_rate_of_its_step():
    state, means = fresh(), StepMeans(6)
    means.add(step([0.0] * 6, 1.0, 1.0))
    state.step, state.rate_factor = 20, 0.5
    record = evaluation_record(state, state.averaged_model, Evaluation(draw(64, state.generator)), means, settings())
    assert record["step"] == 20
    assert record["learning_rate"] == 0.5 * settings().rate(20)
    total = record["validation_cross_entropy"] + abs(record["validation_recovery_gap"])
    assert record["validation_loss"] == pytest.approx(total)
    assert len(record["spurious_gap"]) == len(record["step_size"]) == 6
    assert not state.averaged_model.training


def test_a_record_holds_the_figures_asked_for_and_no_others():
    state, means, seen = fresh(), StepMeans(6), []
    means.add(step([0.0] * 6, 1.0, 1.0))
    rows = draw(8, state.generator)

    def figures(model, given, step_sizes):
        seen.append((given, step_sizes))
        return {"validation_loss": 2.5}

    evaluation = Evaluation(rows, figures=figures)
    record = evaluation_record(state, state.averaged_model, evaluation, means, settings())
    assert record["validation_loss"] == 2.5
    assert torch.equal(seen[0][0], rows)
    assert torch.equal(seen[0][1], state.step_sizes)
    assert not {"spurious_gap", "validation_recovery_gap", "validation_cross_entropy"} & record.keys()
