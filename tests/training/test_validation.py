"""The validation loss has fixed noise, and the spurious gap sees modes that the data do not have."""

import torch

from drl_density import EnergySequence, NoiseSchedule
from drl_density.testing import gaussian_sequence, seeded_generator
from drl_density.training import RecoveryLikelihood, ValidationLoss, validation_loss
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
