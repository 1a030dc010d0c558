"""The first paper's loss: its gradient, its negatives and its levels."""

import pytest
import torch
from scipy import stats

from drl_density import NoiseSchedule
from drl_density.model import EnergySequence
from drl_density.networks import (
    StepCalibrated,
)
from drl_density.testing import assert_z, seeded_generator
from drl_density.training import ChainEnds, CooperativeRecovery, LangevinChains, LangevinRecovery
from tests.training.objectives.closed_forms import Quadratic, exact, papers_alpha, staying, with_slopes


def test_gradient_is_that_of_the_papers_loss_on_the_raw_output(monkeypatch):
    """-(sigma_1 / sigma_{t+1}) (f~(y+) - f~(y-)), f~ the output before division by s^2, y = a x with a = 1 at the top."""
    schedule = NoiseSchedule.linear_beta()
    step_alpha, step_size = schedule.langevin_steps()
    raw = Quadratic(0.3)
    model = EnergySequence(schedule, StepCalibrated(raw, schedule.log_snr[:-1], step_alpha, step_size), (5,))
    seen = {}

    def fixed(self, model, clean, x_noisier, levels, *, generator):
        seen.update(clean=clean, levels=levels, end=clean + 0.1 * torch.ones_like(clean))
        return ChainEnds(seen["end"], torch.ones(len(clean), dtype=clean.dtype))

    monkeypatch.setattr(LangevinRecovery, "draw", fixed)
    x = torch.randn(48, 5, dtype=torch.float64, generator=seeded_generator(1))
    LangevinRecovery()(model, x, torch.ones(6), generator=seeded_generator(2)).loss.backward()
    alpha = step_alpha[seen["levels"]][:, None]
    weight = (schedule.step_sigma[0] / schedule.step_sigma)[seen["levels"]]
    squares = (alpha * seen["clean"]).square().sum(1) - (alpha * seen["end"]).square().sum(1)
    assert float(raw.precision.grad) == pytest.approx(float((weight * 0.5 * squares).mean()), rel=1e-10)


def test_normal_negatives_are_draws_of_the_normal_approximation():
    system, level = exact(), 1
    objective = LangevinRecovery(chains=LangevinChains(is_top_marginal=False), negatives="normal")
    x_noisier = torch.full((10_000, 1), 0.8, dtype=torch.float64)
    draws, _ = objective.draw(
        system.model, x_noisier, x_noisier, torch.full((10_000,), level), generator=seeded_generator(6)
    )
    expected = system.model.recovery(level).normal_approximation(x_noisier[:1])
    assert_z(draws, expected.mean[0])
    assert_z((draws - expected.mean).square(), float(expected.variance))


def test_training_chains_start_at_the_noisier_state_in_y(monkeypatch):
    """y = x_{t+1}, so a x = x_{t+1} at every level."""
    system, runs = exact(), staying(monkeypatch)
    x_noisier = torch.randn(12, 1, generator=seeded_generator(1), dtype=torch.float64)
    levels = torch.arange(12) % 4
    LangevinRecovery().draw(system.model, x_noisier + 1, x_noisier, levels, generator=seeded_generator(2))
    start = runs[0][0]
    torch.testing.assert_close(papers_alpha(system.schedule)[levels][:, None] * start, x_noisier, rtol=1e-12, atol=0)


@pytest.mark.parametrize("objective", [LangevinRecovery(), CooperativeRecovery()], ids=["langevin", "cooperative"])
def test_levels_are_uniform(objective, monkeypatch):
    """Every level from 0 to T - 1 equally often, by a chi-square test at 1e-4."""
    _, model = with_slopes(0.5)
    runs = staying(monkeypatch)
    objective(model, torch.zeros(20_000, 1, dtype=torch.float64), torch.ones(4), generator=seeded_generator(1))
    counts = runs[0][2].bincount(minlength=4)
    assert len(counts) == 4
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_levels_follow_their_shares(monkeypatch):
    """By a chi-square test at 1e-4; rows of a level are not divided by its share."""
    _, model = with_slopes(0.5)
    runs, shares = staying(monkeypatch), (1.0, 2.0, 1.0, 4.0)
    objective = LangevinRecovery(level_shares=shares)
    objective(model, torch.zeros(20_000, 1, dtype=torch.float64), torch.ones(4), generator=seeded_generator(1))
    counts = runs[0][2].bincount(minlength=4)
    assert stats.chisquare(counts.numpy(), 2500 * torch.tensor(shares).numpy()).pvalue > 1e-4
    with pytest.raises(ValueError, match="one of level_shares for each of 4 levels, got 2"):
        LangevinRecovery(level_shares=(1.0, 2.0))(model, torch.zeros(4, 1, dtype=torch.float64), torch.ones(4))


def test_defaults_are_the_papers():
    first, second = LangevinRecovery(), CooperativeRecovery()
    assert (first.chains.num_steps, first.chains.factor) == (30, 2e-4)
    assert (second.chains.num_steps, second.chains.factor) == (15, 4e-4)
    assert second.label_dropout == 0.1
    assert second.initializer_weight == 1
