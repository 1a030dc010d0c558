"""Ambient training against Gaussian conditioning."""

import pytest
import torch

import drl_density as drl
from drl_density.errors import DataError
from drl_density.inverse_problems import (
    AmbientDenoiser,
    AmbientPrior,
    AmbientSettings,
    DPSSettings,
    sample_dps,
    train_ambient,
)
from drl_density.operators import Mask
from drl_density.samplers import DDIMSettings
from drl_density.testing import assert_z, seeded_generator

COVARIANCE = torch.tensor([[1.0, 0.8, 0.3], [0.8, 1.0, 0.2], [0.3, 0.2, 0.7]])
SCHEDULE = drl.NoiseSchedule.log_spaced(8)


def corrupted(count):
    generator = seeded_generator(0)
    rows = torch.randn(count, 3, generator=generator) @ torch.linalg.cholesky(COVARIANCE).T
    is_measured = torch.rand(count, 3, generator=generator) < 0.6
    is_measured[~is_measured.any(1), 0] = True
    return rows, is_measured


@pytest.mark.slow
def test_the_denoiser_becomes_the_conditional_mean_without_ever_seeing_a_whole_row():
    rows, is_measured = corrupted(20_000)
    torch.manual_seed(0)
    denoiser = AmbientDenoiser(3, width=64)
    settings = AmbientSettings(num_steps=1500, hidden_share=0.3, levels=(2.0, 2.0), learning_rate=4e-3)
    hidden = torch.where(is_measured, rows, torch.nan)
    losses = train_ambient(denoiser, hidden, is_measured, SCHEDULE, settings=settings, generator=seeded_generator(1))
    assert sum(losses[-50:]) < 0.8 * sum(losses[:50])
    alpha, sigma = float(SCHEDULE.alpha_at(2.0)), float(SCHEDULE.sigma_at(2.0))
    x = SCHEDULE.diffuse(corrupted(500)[0], 2.0, generator=seeded_generator(2))
    for seen in ([0], [1, 2], [0, 1, 2]):
        mask = torch.zeros(500, 3, dtype=torch.bool)
        mask[:, seen] = True
        block = alpha**2 * COVARIANCE[seen][:, seen] + sigma**2 * torch.eye(len(seen))
        exact = x[:, seen] @ torch.linalg.solve(block, alpha * COVARIANCE[seen])
        with torch.no_grad():
            found = denoiser(x, mask, SCHEDULE.log_snr_at(2.0))
        assert float((found - exact).square().mean()) < 0.02


class ExactDenoiser(torch.nn.Module):
    """E[x_0 | A~ x_t, A~] of N(0, COVARIANCE) data by Gaussian conditioning, in the place of a trained network."""

    def __init__(self):
        super().__init__()
        self.num_features, self.nothing = 3, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, is_seen, log_snr):
        seen = is_seen[0].nonzero().flatten()
        alpha, sigma = torch.sigmoid(log_snr).sqrt().float(), torch.sigmoid(-log_snr).sqrt().float()
        block = alpha**2 * COVARIANCE[seen][:, seen] + sigma**2 * torch.eye(len(seen))
        return x[:, seen] @ torch.linalg.solve(block, alpha * COVARIANCE[seen])


def test_ambient_posterior_sampling_lands_near_the_posterior_mean():
    """x_0 measured as 1: guided draws with the ambient estimate, against Gaussian conditioning; with A~ = 1 it is DPS."""
    y, operator = torch.tensor([1.0]), Mask(torch.tensor([True, False, False]))
    exact = COVARIANCE[0] / COVARIANCE[0, 0]
    settings = DPSSettings(DDIMSettings(num_steps=150, eta=1.0), strength=0.05)
    for is_seen in ([True, True, True], [True, False, True]):
        prior = AmbientPrior(ExactDenoiser(), SCHEDULE, torch.tensor(is_seen))
        found = sample_dps(prior, operator, y, 300, settings=settings, generator=seeded_generator(0)).draws
        # The method is biased: the step length, 0.05, and the mask's share both move the mean; 0.3 holds for either.
        assert float((found.mean(0) - exact).abs().max()) < 0.3
    with pytest.raises(ValueError, match="at least one True"):
        AmbientPrior(ExactDenoiser(), SCHEDULE, torch.zeros(3, dtype=torch.bool))


class Constant(torch.nn.Module):
    """Answers 3 everywhere and keeps the masks it was shown."""

    def __init__(self):
        super().__init__()
        self.num_features, self.value, self.seen = 3, torch.nn.Parameter(torch.tensor(3.0)), []

    def forward(self, x, is_seen, log_snr):
        self.seen.append(is_seen)
        return self.value.expand(x.shape)


def test_the_loss_counts_what_the_denoiser_was_not_shown_and_masks_are_drawn_afresh():
    """Loss on the original mask: E |A (3 - x)|^2; on the further mask it would be (1 - hidden_share) of that."""
    rows, is_measured = corrupted(200)
    denoiser = Constant()
    settings = AmbientSettings(num_steps=40, batch_size=200, hidden_share=0.5, learning_rate=1e-12)
    losses = train_ambient(denoiser, rows, is_measured, SCHEDULE, settings=settings, generator=seeded_generator(0))
    expected = ((3 - rows) * is_measured).square().sum(1)
    error = float(expected.std()) / (200 * 40) ** 0.5
    assert_z(sum(losses) / 40, float(expected.mean()), error)
    shown = torch.stack(denoiser.seen).double().mean()
    assert float(shown) == pytest.approx(0.5 * float(is_measured.double().mean()), abs=0.02)
    assert not torch.equal(denoiser.seen[0], denoiser.seen[1])


def test_rows_of_float64_are_those_of_float32():
    rows, is_measured = corrupted(20)
    losses = []
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(0)
        denoiser, settings = AmbientDenoiser(3, width=8), AmbientSettings(num_steps=2, batch_size=8)
        source = torch.Generator().manual_seed(0)
        given = rows.to(dtype)
        losses.append(train_ambient(denoiser, given, is_measured, SCHEDULE, settings=settings, generator=source))
    assert losses[0] == losses[1]


def test_wrong_masks():
    rows, is_measured = corrupted(10)
    denoiser = AmbientDenoiser(3)
    with pytest.raises(DataError, match="expected rows and masks"):
        train_ambient(denoiser, rows[:, :2], is_measured, SCHEDULE)
    with pytest.raises(DataError, match="every column"):
        train_ambient(denoiser, rows, torch.tensor([True, True, False]).expand(10, 3), SCHEDULE)
    with pytest.raises(DataError, match=r"mask of booleans, got torch.float32"):
        train_ambient(denoiser, rows, is_measured.float(), SCHEDULE)
    with pytest.raises(DataError, match="measured values must be finite"):
        train_ambient(denoiser, rows.where(is_measured, 0.0) * torch.nan, is_measured, SCHEDULE)
    with pytest.raises(ValueError, match="hidden_share"):
        AmbientSettings(hidden_share=0.0)
