"""Recovery likelihood with adjusted chains: its options and what is refused."""

import math

import pytest
import torch
from torch import nn

from drl_density import EnergySequence, NoiseSchedule, RecoveryLikelihood
from drl_density.bases import NoisedGaussianMixture
from drl_density.mcmc import ULA
from drl_density.testing import assert_z, seeded_generator
from drl_density.training import history_dataset, train
from tests.training.small_runs import draw, evaluation, fresh, settings


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
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must"):
        RecoveryLikelihood(**changes)


SCHEDULE = NoiseSchedule.log_spaced(3, sigma_min=0.8)


class CleanLevelZero(nn.Module):
    """The tilt of data N(m, 1) over the base N(0, 1), where level 0 is the density of the clean rows."""

    is_bounded = has_bounded_growth = False

    def __init__(self, mean):
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))

    def forward(self, x, log_snr):
        is_clean = log_snr.float() >= SCHEDULE.log_snr_at(0).float()
        shift = torch.where(is_clean, 1.0, torch.sigmoid(log_snr).sqrt()).to(x) * self.mean
        return shift * x[:, 0] - shift**2 / 2


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)], ids=["recovery", "classification"])
def test_the_truth_is_stationary_when_level_zero_is_clean(weights):
    """Of data N(0.8, 1): at the true mean the gradient has expectation 0, and not at another, nor with noise on level 0."""

    def gradients(mean, clean_share):
        base = NoisedGaussianMixture.standard(1)
        model = EnergySequence(SCHEDULE, CleanLevelZero(mean), (1,), base=base)
        objective = RecoveryLikelihood(
            num_steps=4, recovery_weight=weights[0], classification_weight=weights[1], clean_share=clean_share
        )
        found = []
        for seed in range(60):
            rows = 0.8 + torch.randn(1000, 1, generator=seeded_generator(seed))
            loss = objective(model, rows, torch.full((3,), 0.8), generator=seeded_generator(seed)).loss
            found.append(torch.autograd.grad(loss, model.network.mean)[0].detach())
        return torch.stack(found)

    assert_z(gradients(0.8, 0.5), 0.0)
    for mean, clean_share in ((0.4, 0.5), (0.8, 0.0)):
        with pytest.raises(AssertionError, match="beyond"):
            assert_z(gradients(mean, clean_share), 0.0)


@pytest.mark.parametrize("clean_share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("num_levels", [1, 4])
def test_rows_of_each_level(clean_share, num_levels):
    """Half of the seeds shift the grid; every position lies below T, and level 0 has its share."""
    objective = RecoveryLikelihood(clean_share=clean_share)
    for shift in (0.0, 0.25):
        levels, above = objective.levels(
            40, num_levels, torch.tensor(shift, dtype=torch.float64), generator=seeded_generator(0)
        )
        position = levels + above
        assert bool(((above >= 0) & (above < 1) & (position < num_levels)).all())
        num_clean = int((position == 0).sum())
        if clean_share:
            assert num_clean == (40 if num_levels == 1 else math.ceil(40 * clean_share))
        else:
            assert num_clean == (40 // num_levels if shift == 0 else 0)


def test_clean_rows_share_no_noise():
    with pytest.raises(ValueError, match="no noise to share"):
        RecoveryLikelihood(shares_noise=True, noisier_share=1.0, clean_share=0.5)
