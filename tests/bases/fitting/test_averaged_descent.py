"""Descent to the best average: warm-up, endings, and weights that are put back."""

import math

import pytest
import torch

from drl_density.bases import PixelSettings
from drl_density.bases.fitting import PixelPlan
from drl_density.bases.fitting.averaged_descent import AveragedDescent, descend_to_best_average
from drl_density.errors import NumericalError

SIZES = PixelSettings((1, 1, 1), num_cells=2, width=1)


def plan(**given):
    return PixelPlan(SIZES, **{"num_steps": 40, "num_warm_up": 0, "averaging": 0.5, "num_scores": 40, **given})


def descended(settings, loss=None, score=None, **given):
    """The record, the final weight, and what the weight was at every loss."""
    weight, seen = torch.ones(1), []

    def own_loss():
        seen.append(float(weight.detach()))
        return (weight**2).sum()

    record = descend_to_best_average([weight], loss or own_loss, score or (lambda: -float(weight**2)), settings, **given)
    assert not weight.requires_grad
    assert weight.grad is None
    return record, float(weight), seen


def test_the_average_that_scores_best_is_kept():
    scores = {}
    record, weight, _ = descended(plan(learning_rate=0.5), on_score=scores.__setitem__)
    assert record.best_step == max(scores, key=scores.__getitem__)
    assert -(weight**2) == pytest.approx(scores[record.best_step])
    assert record.ending == "patience"


def test_steps_are_small_while_the_rate_rises():
    plain, warm = (descended(plan(learning_rate=0.1, num_warm_up=number))[2] for number in (0, 10))
    assert plain[0] - plain[1] == pytest.approx(10 * (warm[0] - warm[1]), rel=0.01)
    assert warm[9] > plain[9]


def test_scores_see_the_average_and_steps_the_weights():
    seen_by_score = []
    weight = torch.ones(1)

    def score():
        seen_by_score.append(float(weight))
        return 0.0

    seen = []

    def loss():
        seen.append(float(weight.detach()))
        return (weight**2).sum()

    descend_to_best_average([weight], loss, score, plan(num_steps=3, learning_rate=0.1, patience=1.0))
    # The first decay is 1 / 11: the average after a step is nearly its weight.
    assert seen[0] > seen[1] > seen[2]
    assert seen_by_score[0] == pytest.approx(1 - (1 - 1 / 11) * (1 - seen[1]))
    assert float(weight) == seen_by_score[0]  # later scores are no better


def test_patience_and_time_end_a_descent():
    assert descended(plan(patience=0.1), score=lambda: 0.0)[0].ending == "patience"
    assert descended(plan(), max_seconds=1e-9)[0][:3] == (1, 1, "time")


def test_what_is_not_finite_ends_a_descent():
    values = iter([1.0, 1.0, math.nan])
    weight = torch.ones(1)
    record = descend_to_best_average(
        [weight], lambda: (weight * next(values)).sum(), lambda: 0.0, plan(patience=1.0), name="it"
    )
    assert (record.ending, record.num_steps) == ("divergence", 2)
    with pytest.raises(NumericalError, match="it has no score: the loss or the score was not finite after 0 steps"):
        descend_to_best_average([weight], lambda: (weight * math.inf).sum(), lambda: 0.0, plan(), name="it")
    assert not weight.requires_grad


def test_pauses_change_nothing_but_when_scores_are_taken():
    """Paused at its scores, a descent takes the same steps; the end of a pause is a score of its own."""
    settings = plan(learning_rate=0.1, num_scores=4, patience=1.0)
    _, whole, _ = descended(settings)
    weight, scores = torch.ones(1), []
    descent = AveragedDescent(
        [weight], lambda: (weight**2).sum(), lambda: -float(weight**2), settings, on_score=lambda *each: scores.append(each)
    )
    for stop in (10, 15, 30):
        descent.advance(lambda stop=stop: descent.num_steps >= stop)
        assert (descent.num_steps, descent.ending, scores[-1][0]) == (stop, "pause", stop)
    descent.advance()
    assert descent.finish("it").ending == "steps"
    assert float(weight) == whole


def test_a_descent_that_stalls_can_go_back_to_its_best_weights():
    """The loss turns round after ten steps. Back at the best weights, with the first loss, the score rises again."""
    weight, stalls, sign = torch.ones(1), [], [1.0]

    def turn(stalled):
        stalls.append(stalled)
        sign[0] = 1.0
        return len(stalls) == 1

    descent = AveragedDescent(
        [weight],
        lambda: (sign[0] * weight).sum(),
        lambda: -float(weight),
        plan(learning_rate=0.01, averaging=0.0, patience=0.2),
        on_stall=turn,
    )
    descent.advance(lambda: descent.num_steps >= 10)
    sign[0] = -1.0
    descent.advance(lambda: bool(stalls))
    best = descent.best
    assert -float(weight.detach()) == best
    descent.advance()
    assert descent.ending == "steps"
    assert descent.best > best
