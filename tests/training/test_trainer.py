"""The training loop: end to end in one dimension, resumed to the bit, selection, early stopping and rollbacks."""

import math

import pytest
import torch

from drl_density import RecoveryLikelihood
from drl_density.errors import DivergenceWarning, TrainingFailed
from drl_density.parallel import Workers
from drl_density.run_folder import RunFolder
from drl_density.training import Doctor, SelectionScore, TrainingHooks, train, trainer
from tests.training.small_runs import SCALE, WEIGHT, draw, evaluation, fresh, settings


def test_two_modes_are_learned_with_their_weights():
    """Total variation to the truth below 0.05 and the left mode's weight within 0.03, by quadrature.

    Few steps at a high rate are enough: 0.027 and -0.010. Without classification they are 0.081 and -0.060.
    """
    state = fresh()
    train(
        state,
        RecoveryLikelihood(num_steps=5),
        draw,
        settings=settings(num_steps=300, batch_size=128, evaluate_every=300, learning_rate=1e-2),
        evaluation=evaluation(),
    )
    grid = torch.linspace(-3, 3, 2001, dtype=torch.float64)[:, None]
    width = 6 / 2000
    with torch.no_grad():
        values = state.averaged_model.log_density(grid, 0)
    model = (values - values.logsumexp(0)).exp() / width
    normal = torch.distributions.Normal
    truth = (
        WEIGHT * normal(-1, SCALE).log_prob(grid[:, 0]).exp()
        + (1 - WEIGHT) * normal(0.6, SCALE).log_prob(grid[:, 0]).exp()
    )
    assert 0.5 * float((model - truth).abs().sum()) * width < 0.05
    assert abs(float(model[grid[:, 0] < -0.2].sum()) * width - WEIGHT) < 0.03


def test_a_doctor_of_other_levels_is_refused_before_training():
    state = fresh()
    doctor = Doctor(max_gap_per_dimension=(1.0, 2.0))
    with pytest.raises(
        ValueError, match=f"2 limits for {state.model.num_levels} levels: give one number, or one per level"
    ):
        train(state, RecoveryLikelihood(), draw, settings=settings(), evaluation=evaluation(), doctor=doctor)
    assert state.step == 0


def test_resumed_run_ends_with_the_same_bits(tmp_path):
    whole = fresh()
    train(whole, RecoveryLikelihood(num_steps=2), draw, settings=settings(), evaluation=evaluation())
    folder = RunFolder.create(tmp_path / "run")

    class Killed(Exception):
        pass

    def save_then_die(tensors, scalars):
        folder.write_tensors("training_state.safetensors", tensors, scalars)
        if scalars["step"] == 20:
            raise Killed

    with pytest.raises(Killed):
        train(
            fresh(),
            RecoveryLikelihood(num_steps=2),
            draw,
            settings=settings(),
            evaluation=evaluation(),
            hooks=TrainingHooks(save=save_then_die),
        )
    resumed = fresh(seed=5)
    resumed.load_tensors(*folder.read_tensors("training_state.safetensors"))
    assert resumed.step == 20
    train(resumed, RecoveryLikelihood(num_steps=2), draw, settings=settings(), evaluation=evaluation())
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert whole.best_step == resumed.best_step
    assert whole.best_score == resumed.best_score


def test_doctor_rolls_back_lowers_the_rate_and_stops():
    """A source of rows that turns to NaN is divergence: three rollbacks, then a clear end."""
    calls = []

    def broken(num_rows, generator):
        calls.append(1)
        rows = draw(num_rows, generator)
        return rows if len(calls) < 12 else torch.full_like(rows, math.nan)

    state = fresh()
    with (
        pytest.warns(DivergenceWarning, match="rolled back to step 10"),
        pytest.raises(TrainingFailed, match="4 times"),
    ):
        train(state, RecoveryLikelihood(num_steps=2), broken, settings=settings(), evaluation=evaluation())
    assert state.step == 10
    assert all(bool(parameter.isfinite().all()) for parameter in state.model.parameters())


def test_best_of_the_score_from_above_is_kept():
    scores = iter([-1.0, 1.0, 3.0, 2.0, 0.0])
    state = fresh()
    train(
        state,
        RecoveryLikelihood(num_steps=1),
        draw,
        settings=settings(),
        evaluation=evaluation(score=lambda _: SelectionScore(next(scores), level=0.5)),
    )
    assert (state.best_step, state.best_score, state.best_level) == (20, 3.0, 0.5)


def test_early_stopping():
    scores = iter(range(0, -100, -1))
    state = fresh()
    train(
        state,
        RecoveryLikelihood(num_steps=1),
        draw,
        settings=settings(num_steps=400, patience=2),
        evaluation=evaluation(score=lambda _: SelectionScore(next(scores))),
    )
    assert state.step == 20
    assert state.best_step == 0


class OneBroken(Workers):
    """Another process, one of whose weights is not finite."""

    def add_up(self, *tensors):
        for tensor in tensors:
            tensor += 1


def test_weights_are_finite_where_all_parts_are():
    layer = torch.nn.Linear(2, 1)
    assert trainer.all_finite(layer, Workers())
    assert not trainer.all_finite(layer, OneBroken(0, 2))
    layer.weight.data[0, 1] = torch.nan
    assert not trainer.all_finite(layer, Workers())
