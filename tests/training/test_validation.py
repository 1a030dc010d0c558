"""Figures of held-out rows: fixed noise, modes that the data do not have, and objectives without chains."""

import math

import pytest
import torch

from drl_density import EnergySequence, NoiseSchedule
from drl_density.testing import gaussian_sequence, seeded_generator
from drl_density.training import (
    ObjectiveFigures,
    RecoveryLikelihood,
    ReferenceContrast,
    ValidationLoss,
    recovery_figures,
    validation_loss,
)
from drl_density.training.validation import spurious_gap

STEPS = torch.full((4,), 0.8, dtype=torch.float64)


def gaussian():
    """The exact sequence of N(0, 1), and rows of it."""
    system = gaussian_sequence(torch.zeros(1), torch.eye(1), NoiseSchedule.log_spaced(4))
    return system.model, system.sample(400, None, generator=seeded_generator(0))


def test_a_deviation_of_the_recovery_gap_counts_in_either_direction():
    assert ValidationLoss(1.0, 0.5).total == ValidationLoss(1.0, -0.5).total == 1.5


def test_equal_seeds_give_equal_losses_and_the_objective_is_used():
    model, x = gaussian()
    one, again, other = (validation_loss(model, x, STEPS, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one != other
    longer = validation_loss(model, x, STEPS, objective=RecoveryLikelihood(num_steps=20))
    assert longer.cross_entropy == one.cross_entropy
    assert longer.recovery_gap != one.recovery_gap


class WithMode(torch.nn.Module):
    """The exact energies with a mode of 40 nats at 3."""

    has_bounded_growth = False

    def __init__(self, exact):
        super().__init__()
        self.exact = exact

    def forward(self, x, log_snr):
        return self.exact(x, log_snr) + 40 * torch.exp(-0.5 * (x[:, 0] - 3).square())


def test_the_spurious_gap_sees_a_mode_that_the_data_do_not_have():
    model, x = gaussian()
    with_mode = EnergySequence(model.schedule, WithMode(model.network), (1,), has_base=False)
    right, wrong = (spurious_gap(m, x, STEPS).max() for m in (model, with_mode))
    assert float(right) < 1
    assert float(wrong) > 2


def test_the_figures_of_recovery_chains_are_the_loss_with_its_parts_and_the_gap_of_every_level():
    model, x = gaussian()
    found, loss = recovery_figures(model, x, STEPS), validation_loss(model, x, STEPS)
    assert found["validation_loss"] == loss.total
    assert found["validation_cross_entropy"] == loss.cross_entropy
    assert found["validation_recovery_gap"] == loss.recovery_gap
    assert found["spurious_gap"] == spurious_gap(model, x, STEPS).tolist()


class Shift(torch.nn.Module):
    """The tilt of N(m, 1) over N(0, 1) at every level."""

    is_bounded = has_bounded_growth = False

    def __init__(self, mean):
        super().__init__()
        self.mean = mean

    def forward(self, x, log_snr):
        shift = torch.sigmoid(log_snr).sqrt() * self.mean
        return shift * x[:, 0] - shift**2 / 2


def contrast_of(mean):
    """Held-out contrast of the tilt to N(mean, 1), on rows of N(1, 1)."""
    model = EnergySequence(NoiseSchedule.log_spaced(4), Shift(mean), (1,))
    rows = 1 + torch.randn(4000, 1, generator=seeded_generator(0))
    return ObjectiveFigures(ReferenceContrast(), seed=3)(model, rows, torch.ones(4))


def test_the_figures_of_a_contrast_are_its_held_out_value():
    """Guessing scores 2 log 2; the truth scores less, and less than its neighbours on both sides."""
    assert contrast_of(0.0)["validation_loss"] == pytest.approx(2 * math.log(2), rel=1e-6)
    truth = contrast_of(1.0)
    assert truth == contrast_of(1.0)
    assert truth.keys() == {"validation_loss", "validation_contrast"}
    assert truth["validation_loss"] < min(contrast_of(mean)["validation_loss"] for mean in (0.5, 1.5))
