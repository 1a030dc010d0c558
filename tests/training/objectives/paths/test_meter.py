"""Measured tables of paths: an exact and a wrong model, and the state that keeps them."""

import math

import pytest
import torch

from drl_density.training import PathMatching, PathMeter, new_state
from drl_density.training.objectives.paths.matching import SCATTER, VARIANCES
from tests.training.objectives.paths.sequences import Wrong, measured, sequence, with_tables


def test_increments_of_the_exact_model_scatter_little_and_those_of_a_wrong_one_much():
    objective = PathMatching(steps_per_level=4)
    _, exact = measured(sequence(), objective)  # a new network is zero, and the base is exact at every level
    _, wrong = measured(sequence(Wrong()), objective)
    assert exact["validation_scatter"] < 1.5
    assert wrong["validation_scatter"] > 2 * exact["validation_scatter"]
    assert wrong["validation_score_matching"] > exact["validation_score_matching"]
    assert objective.num_steps(sequence()) == 12
    levels = exact["level_scatter"]
    assert len(levels) == 4
    assert math.isnan(levels[3])  # no step leads on from the topmost level
    assert sum(value**2 for value in levels[:3]) == pytest.approx(exact["validation_scatter"] ** 2)


def test_tables_are_part_of_a_state():
    objective, state = with_tables(sequence(), PathMatching(steps_per_level=2))
    assert state.drawn[VARIANCES].shape == (6, 6)
    assert state.drawn[SCATTER].shape == (6,)
    tensors, scalars = state.to_tensors()
    again = new_state(sequence(), learning_rate=1e-2, weight_decay=0.0, average_decay=0.9, seed=1)
    again.load_tensors(tensors, scalars)
    assert torch.equal(again.drawn[VARIANCES], state.drawn[VARIANCES])
    PathMeter(objective).begin(again, torch.zeros(4, 6))  # what is there is not measured again
    assert torch.equal(again.drawn[VARIANCES], state.drawn[VARIANCES])
