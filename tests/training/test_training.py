"""Training: end to end in one dimension, resume to the bit, the doctor, the objective's options."""

import math

import pytest
import torch

from drl_density import NoiseSchedule, RecoveryLikelihood, TrainingSettings
from drl_density.errors import DivergenceWarning, RunFolderError, TrainingFailed
from drl_density.mcmc import ULA
from drl_density.model import EnergySequence
from drl_density.networks import MLP, MLPSettings, ResidualEnergy, ResidualSettings, SpectralWeight
from drl_density.run_folder import RunFolder
from drl_density.testing import seeded_generator
from drl_density.training import Doctor, Evaluation, SelectionScore, TrainingHooks, history_dataset, new_state, train

WEIGHT, SCALE = 0.3, 0.25


def draw(num_rows, generator):
    """0.3 N(-1, 0.25^2) + 0.7 N(0.6, 0.25^2)."""
    is_left = torch.rand(num_rows, generator=generator) < WEIGHT
    return (torch.where(is_left, -1.0, 0.6) + SCALE * torch.randn(num_rows, generator=generator))[:, None]


def fresh(seed=0, *, width=32, rate=3e-3, num_fourier=16):
    generator = torch.Generator().manual_seed(seed)
    sizes = MLPSettings(1, width=width, num_blocks=1, num_fourier_features=num_fourier)
    model = EnergySequence(
        NoiseSchedule.log_spaced(6, sigma_min=0.05), MLP(sizes, generator=generator), (1,), generator=generator
    )
    return new_state(model, learning_rate=rate, weight_decay=0.0, average_decay=0.98, seed=seed)


def settings(**changes):
    return TrainingSettings(
        **{"num_steps": 40, "batch_size": 32, "evaluate_every": 10, "learning_rate": 3e-3, **changes}
    )


def evaluation(**changes):
    return Evaluation(draw(256, seeded_generator(1)), **changes)


def test_two_modes_are_learned_with_their_weights():
    """Total variation to the truth below 0.05 and the left mode's weight within 0.03, by quadrature."""
    state = fresh()
    train(
        state,
        RecoveryLikelihood(num_steps=5),
        draw,
        settings=settings(num_steps=800, batch_size=128, evaluate_every=200),
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


def test_averaged_weights_are_divided_by_their_own_norms():
    """Operator norms are at most 1 + 1e-3 even if power iterations stood at random vectors."""
    sizes = ResidualSettings((1, 8, 8), num_channels=8, multipliers=(1, 2), num_blocks=1)
    network = ResidualEnergy(sizes, generator=seeded_generator())
    model = EnergySequence(NoiseSchedule.log_spaced(3), network, (64,))
    state = new_state(model, learning_rate=1e-2, weight_decay=0.0, average_decay=0.7, seed=0)
    x = torch.randn(16, 64, generator=seeded_generator(1))
    for _ in range(4):
        state.optimizer.zero_grad()
        model.log_density(x, 0).mean().backward()
        state.optimizer.step()
        state.average.update_parameters(model)
    generator = seeded_generator(2)
    for weight in normalized(state.average.module):
        weight.u.copy_(torch.nn.functional.normalize(torch.randn(weight.u.shape, generator=generator), dim=0))
    found = [weight().detach().flatten(1) for weight in normalized(state.averaged_model.eval())]
    assert len(found) == 10
    assert max(float(torch.linalg.matrix_norm(matrix, 2)) for matrix in found) <= 1 + 1e-3


def normalized(model):
    return [part for part in model.modules() if isinstance(part, SpectralWeight) and part.is_normalized]


def test_foreign_state_is_refused():
    with pytest.raises(RunFolderError, match="does not fit this model"):
        fresh().load_tensors(*fresh(width=16).to_tensors())


def test_doctor_rolls_back_lowers_the_rate_and_stops():
    """A source of rows that turns to NaN is a run-away: three rollbacks, then a clear end."""
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


def test_doctor_sees_a_run_away():
    record = {"loss": 1.0, "validation_loss": 2.0, "energy_gap": [0.1, math.nan]}
    doctor, past = Doctor(), [{"loss": 1.1, "validation_loss": 1.9}]
    assert doctor.divergence(record, past, num_features=2) is None
    overfitted = record | {"validation_loss": 9.0}
    assert doctor.divergence(overfitted, past, num_features=2) is None
    for change in ({"loss": math.nan}, {"energy_gap": [0.0, 500.0]}, {"validation_loss": 9.0, "loss": 8.0}):
        assert doctor.divergence(record | change, past, num_features=2) is not None
    assert doctor.divergence(record | {"loss": -1.0}, [{"loss": -1.5, "validation_loss": 1.9}], num_features=2) is None


def test_doctor_sees_a_positive_loss_multiply():
    record = {"validation_loss": 1.0, "energy_gap": [math.nan]}
    doctor, past = Doctor(max_loss_rise=math.inf, max_loss_ratio=1.5), [{"loss": 40.0, "validation_loss": 1.0}]
    assert doctor.divergence(record | {"loss": 90.0}, [], num_features=2) is None
    assert doctor.divergence(record | {"loss": 59.0}, past, num_features=2) is None
    assert "rose from 40 to 61" in doctor.divergence(record | {"loss": 61.0}, past, num_features=2)


def test_doctor_complains_of_frozen_chains():
    record = {"acceptance_rate": [0.6, 0.1], "relative_jump": [0.001, 0.5], "spurious_gap": [0.0, 50.0]}
    said = "; ".join(Doctor().complaints(record, num_features=2))
    assert "hardly accept at level 1" in said
    assert "frozen at level 0" in said
    assert "above the data at level 1" in said


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


@pytest.mark.parametrize(
    "objective",
    [
        RecoveryLikelihood(num_steps=2, noisier_share=1.0),
        RecoveryLikelihood(num_steps=2, noisier_share=0.5, jump=3),
        RecoveryLikelihood(num_steps=2, kernel=ULA()),
        RecoveryLikelihood(num_steps=2, classification_weight=0.0),
        RecoveryLikelihood(num_steps=2, recovery_weight=0.0),
    ],
    ids=["noise-started", "mixed, jump", "unadjusted", "recovery alone", "classification alone"],
)
def test_options_of_the_objective(objective):
    state = fresh()
    train(state, objective, draw, settings=settings(num_steps=10), evaluation=evaluation())
    assert len(state.history) == 1
    history = history_dataset(state.history)
    assert history["energy_gap"].dims == ("step", "level")
    assert ("loss_classification" in history) == bool(objective.classification_weight)


@pytest.mark.parametrize("changes", [{"num_steps": 0}, {"jump": 0}, {"noisier_share": 1.5}], ids=str)
def test_bad_objectives(changes):
    with pytest.raises(ValueError, match="need num_steps"):
        RecoveryLikelihood(**changes)
