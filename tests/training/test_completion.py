"""Rows with holes completed by the model itself: the E-step against exact conditionals, and learning from holes alone."""

import random

import pytest
import torch

import drl_density as drl
from drl_density.errors import DataError
from drl_density.networks import MLP, MLPSettings
from drl_density.run_folder import RunFolder
from drl_density.testing import assert_z, gaussian_sequence, seeded_generator
from drl_density.training import CompletedBatches, CompletionSettings, Evaluation, new_state, train

COVARIANCE = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
SCHEDULE = drl.NoiseSchedule.log_spaced(4, sigma_min=0.1)


def corrupted(count, schedule=None):
    generator = seeded_generator(0)
    rows = torch.randn(count, 2, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(COVARIANCE).T
    if schedule is not None:
        rows = schedule.diffuse(rows, 0, generator=generator)
    is_measured = torch.rand(count, 2, generator=generator) < 0.6
    is_measured[~is_measured.any(1), 0] = True
    return rows, is_measured


def begun(model, seed=0):
    """A state of training at step 0."""
    return new_state(model, learning_rate=3e-3, weight_decay=0.0, average_decay=0.9, seed=seed)


def test_completions_become_draws_of_the_conditionals():
    system = gaussian_sequence(torch.zeros(2), COVARIANCE, SCHEDULE)
    rows, is_measured = corrupted(4000, SCHEDULE)
    hidden = torch.where(is_measured, rows, torch.nan)
    batches = CompletedBatches(begun(system.model), hidden, is_measured, generator=seeded_generator(1))
    assert abs(float(batches.rows[~is_measured.all(1)].T.corrcoef()[0, 1])) < 0.1
    for _ in range(12):
        completed = batches.complete(torch.arange(4000), seeded_generator(2 + _))
    assert torch.equal(completed[is_measured], rows[is_measured])
    assert batches.acceptance_rate > 0.4
    exact = system.marginal(0).component_distribution.covariance_matrix[0]
    products = torch.stack([completed[:, 0] ** 2, completed[:, 0] * completed[:, 1], completed[:, 1] ** 2], 1)
    assert_z(products, torch.stack([exact[0, 0], exact[0, 1], exact[1, 1]]))


class LearnedGaussian(torch.nn.Module):
    """log N(x; 0, alpha^2 L L^T + sigma^2 I) with L to be learned."""

    is_integrable = True

    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.eye(2, dtype=torch.float64))

    def forward(self, x, log_snr):
        alpha, sigma = torch.sigmoid(log_snr), torch.sigmoid(-log_snr)
        own = self.factor @ self.factor.T
        noised = alpha[..., None, None] * own + sigma[..., None, None] * torch.eye(2, dtype=torch.float64)
        zeros = torch.zeros(2, dtype=torch.float64)
        return torch.distributions.MultivariateNormal(zeros, noised, validate_args=False).log_prob(x)


@pytest.mark.slow
def test_correlation_is_learned_from_rows_of_which_many_show_one_entry():
    rows, is_measured = corrupted(3000)
    network = LearnedGaussian()
    model = drl.EnergySequence(SCHEDULE, network, (2,), has_base=False)
    batches = CompletedBatches(
        begun(model), torch.where(is_measured, rows, torch.nan), is_measured, generator=seeded_generator(1)
    )
    objective, generator = drl.RecoveryLikelihood(num_steps=2), seeded_generator(2)
    optimizer = torch.optim.Adam([network.factor, *model.constants.parameters()], lr=0.02)
    steps = torch.full((4,), 0.8, dtype=torch.float64)
    for _ in range(200):
        loss = objective(model, batches(256, generator), steps, generator=generator).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = (network.factor @ network.factor.T).detach()
    # 3,000 rows fix the entries to 0.03 each; the last steps of Adam move them by as much again.
    assert float((found - COVARIANCE).abs().max()) < 0.2
    assert float(batches.rows.T.corrcoef()[0, 1]) == pytest.approx(0.8, abs=0.1)


SETTINGS = drl.TrainingSettings(num_steps=40, batch_size=32, evaluate_every=10, learning_rate=3e-3, num_shards=2)
STATE = "training_state.safetensors"


def small_state(seed=0):
    """Dropout is on: completing must neither drop anything out nor take noise that a resumed run has not."""
    generator = torch.Generator().manual_seed(seed)
    network = MLP(MLPSettings(2, width=16, num_blocks=1, num_fourier_features=4, dropout=0.2), generator=generator)
    return begun(drl.EnergySequence(SCHEDULE, network, (2,), generator=generator), seed)


def fit_small(state, *, killed_at=None, save=None):
    """Train on 60 rows, half of which have a hole; a kill comes before the rows of that step are drawn."""
    rows, is_measured = corrupted(60)
    rows = rows.float()
    batches = CompletedBatches(state, rows, is_measured, generator=seeded_generator(1))

    def until_killed(num_rows, generator):
        if state.step == killed_at:
            raise KeyboardInterrupt
        return batches(num_rows, generator)

    evaluation = Evaluation(rows[is_measured.all(1)], save=save)
    train(state, drl.RecoveryLikelihood(num_steps=2), until_killed, settings=SETTINGS, evaluation=evaluation)
    return batches


def test_a_fit_killed_at_a_random_step_ends_with_the_same_bits(tmp_path):
    whole, state, moments = small_state(), small_state(), random.Random(0)
    rows = fit_small(whole).rows
    assert not torch.equal(rows, fit_small(small_state(seed=1)).rows)
    folder = RunFolder.create(tmp_path / "run")

    def save(tensors, scalars):
        folder.write_tensors(STATE, tensors, scalars)

    torch.manual_seed(1)
    for block in (1, 2):
        # Steps after an evaluation, whose completions are lost with the process.
        killed_at = 10 * block + moments.randrange(1, 10)
        with pytest.raises(KeyboardInterrupt):
            fit_small(state, killed_at=killed_at, save=save)
        state = small_state(seed=5)
        state.load_tensors(*folder.read_tensors(STATE))
        assert state.step == 10 * block
    batches = fit_small(state, save=save)
    assert torch.equal(batches.rows, rows)
    for found, right in ((state.model.state_dict(), whole.model.state_dict()), (state.best, whole.best)):
        assert found.keys() == right.keys()
        assert all(torch.equal(value, right[name]) for name, value in found.items())
    assert [record["loss"] for record in state.history] == [record["loss"] for record in whole.history]


def test_what_was_saved_stays_as_it_was():
    """The doctor may roll back to it twice."""
    state = small_state()
    rows, is_measured = corrupted(60)
    batches = CompletedBatches(state, rows.float(), is_measured, generator=seeded_generator(1))
    tensors, scalars = state.to_tensors()
    before = tensors["drawn.completions"].clone()
    for _ in range(2):
        state.load_tensors(tensors, scalars)
        assert torch.equal(batches.rows, before)
        batches.complete(torch.arange(60), seeded_generator(2))
        assert not torch.equal(batches.rows, before)
    assert torch.equal(tensors["drawn.completions"], before)


def test_completing_leaves_the_model_in_its_mode():
    state = small_state()
    rows, is_measured = corrupted(60)
    batches = CompletedBatches(state, rows.float(), is_measured)
    for is_training in (True, False):
        state.model.train(is_training)
        batches(8, seeded_generator(2))
        assert state.model.training == is_training


def test_of_a_row_that_comes_twice_the_last_move_stays():
    state = small_state()
    rows, is_measured = corrupted(60)
    batches = CompletedBatches(state, rows.float(), is_measured, generator=seeded_generator(1))
    row = int((~is_measured.all(1)).nonzero()[0])
    chosen = torch.tensor([row, 0, row])
    for seed in range(5):
        completed = batches.complete(chosen, seeded_generator(seed))
        assert torch.equal(batches.rows[row], completed[2])


def test_wrong_holes():
    system = gaussian_sequence(torch.zeros(2), COVARIANCE, SCHEDULE)
    rows, is_measured = corrupted(10)
    with pytest.raises(DataError, match="expected rows and masks"):
        CompletedBatches(begun(system.model), rows, is_measured[:5])
    with pytest.raises(DataError, match="every column"):
        CompletedBatches(begun(system.model), rows, torch.tensor([True, False]).expand(10, 2))
    state = begun(system.model)
    CompletedBatches(state, rows, is_measured)
    with pytest.raises(DataError, match="of other rows"):
        CompletedBatches(state, rows + 1, is_measured)
    with pytest.raises(DataError, match="of other rows"):
        CompletedBatches(state, rows[:9], is_measured[:9])
    with pytest.raises(ValueError, match="adjusted kernel"):
        CompletionSettings(kernel=drl.ULA())
