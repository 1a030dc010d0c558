"""Rows with holes completed by the model itself: the E-step against exact conditionals, and learning from holes alone."""

import pytest
import torch

import drl_density as drl
from drl_density.errors import DataError
from drl_density.testing import assert_z, gaussian_sequence, seeded_generator
from drl_density.training import CompletedBatches, CompletionSettings

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


def test_completions_become_draws_of_the_conditionals():
    system = gaussian_sequence(torch.zeros(2), COVARIANCE, SCHEDULE)
    rows, is_measured = corrupted(4000, SCHEDULE)
    hidden = torch.where(is_measured, rows, torch.nan)
    batches = CompletedBatches(system.model, hidden, is_measured, generator=seeded_generator(1))
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
        model, torch.where(is_measured, rows, torch.nan), is_measured, generator=seeded_generator(1)
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


def test_wrong_holes():
    system = gaussian_sequence(torch.zeros(2), COVARIANCE, SCHEDULE)
    rows, is_measured = corrupted(10)
    with pytest.raises(DataError, match="expected rows and masks"):
        CompletedBatches(system.model, rows, is_measured[:5])
    with pytest.raises(DataError, match="every column"):
        CompletedBatches(system.model, rows, torch.tensor([True, False]).expand(10, 2))
    with pytest.raises(ValueError, match="adjusted kernel"):
        CompletionSettings(kernel=drl.ULA())
