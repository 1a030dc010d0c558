"""Pairs from one noise or two, short chains, and what is refused."""

import math

import pytest
import torch

from drl_density import NoiseSchedule, RecoveryLikelihood
from drl_density.networks import (
    SpectralWeight,
)
from drl_density.samplers import (
    sample_short_run,
)
from drl_density.testing import assert_z, seeded_generator
from drl_density.training import CooperativeRecovery, LangevinChains, LangevinRecovery, draw_pairs, propose
from tests.training.objectives.closed_forms import VARIANCE, exact, image_sequence, unet


def test_shared_noise_leaves_the_mean_gradient_and_lowers_its_variance():
    """Gaussian data, f = -lambda y^2 / 2 with a wrong lambda, exact negatives: means agree, the spread falls."""
    system, level, num_rows = exact(NoiseSchedule.linear_beta()), 1, 100_000
    model, schedule = system.model, system.schedule
    x = VARIANCE**0.5 * torch.randn(num_rows, 1, generator=seeded_generator(1), dtype=torch.float64)
    a, sigma = float(schedule.step_alpha[level]), float(schedule.step_sigma[level])
    levels = torch.full((num_rows,), level)
    total = 1.6 + sigma**-2
    gradients = []
    for offset, shares_noise in ((2, False), (3, True)):
        generator = seeded_generator(offset)
        clean, x_noisier = draw_pairs(model, x, levels, levels + 1, shares_noise=shares_noise, generator=generator)
        negative = x_noisier / (sigma**2 * total) + total**-0.5 * torch.randn(
            num_rows, 1, generator=generator, dtype=torch.float64
        )
        gradients.append(0.5 * (negative.square() - (a * clean).square()))
    markov, shared = gradients
    error = math.hypot(*(float(value.std()) / num_rows**0.5 for value in gradients))
    assert_z(markov.mean() - shared.mean(), 0.0, error)
    assert abs(float(markov.mean())) > 20 * error
    assert float(shared.std()) < 0.95 * float(markov.std())


SHARED = {
    "recovery likelihood": lambda: RecoveryLikelihood(shares_noise=True),
    "half of the chains": lambda: RecoveryLikelihood(shares_noise=True, noisier_share=0.5),
    "langevin": lambda: LangevinRecovery(start="data", shares_noise=True),
}


@pytest.mark.parametrize("name", SHARED)
def test_shared_noise_with_data_starts_is_refused(name):
    with pytest.raises(ValueError, match="need Markov pairs"):
        SHARED[name]()
    RecoveryLikelihood(shares_noise=True, noisier_share=1.0)
    LangevinRecovery(shares_noise=True)


BAD = [
    (lambda: LangevinRecovery(negatives="normal"), "no conditional to approximate"),
    (lambda: LangevinRecovery(chains=LangevinChains(num_steps=0)), 'K = 0 give negatives="normal"'),
    (lambda: LangevinChains(factor=0.0), "factor must be positive"),
    (lambda: CooperativeRecovery(label_dropout=1.5), "label_dropout must lie in"),
    (lambda: propose(image_sequence(), torch.zeros(1, 64), torch.zeros(1).long(), LangevinChains()), "initializer"),
    (lambda: sample_short_run(image_sequence(), 2, noise=torch.zeros(3, 64)), "expected noise at level"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[row[1] for row in BAD])
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("kind", ["langevin", "normal", "cooperative", "adjusted"])
def test_power_iteration_moves_once_per_loss_and_pauses_in_chains(kind):
    model = image_sequence(initializer=unet()).train()
    objective = {
        "langevin": LangevinRecovery(chains=LangevinChains(num_steps=3)),
        "normal": LangevinRecovery(chains=LangevinChains(is_top_marginal=False), negatives="normal"),
        "cooperative": CooperativeRecovery(chains=LangevinChains(num_steps=3)),
        "adjusted": RecoveryLikelihood(num_steps=3, classification_weight=0.0),
    }[kind]
    weights = [part for part in model.network.modules() if isinstance(part, SpectralWeight) and part.is_normalized]
    expected = [weight.iterate()[0] for weight in weights]
    x = torch.randn(12, 64, generator=seeded_generator(1))
    value = objective(model, x, torch.full((6,), 0.5, dtype=torch.float64), generator=seeded_generator(2))
    assert all(torch.equal(weight.u, u) for weight, u in zip(weights, expected, strict=True))
    assert bool(torch.isfinite(value.loss))


def test_a_clean_row_is_the_cleaner_state_of_level_zero_alone():
    system = exact(NoiseSchedule.linear_beta())
    x = torch.randn(6, 1, generator=seeded_generator(0), dtype=torch.float64)
    levels = torch.tensor([0.0, 0.0, 0.5, 1.0, 0.0, 2.0], dtype=torch.float64)
    clean, noisier = draw_pairs(system.model, x, levels, levels + 1, has_clean_rows=True, generator=seeded_generator(1))
    assert (clean == x)[:, 0].tolist() == [True, True, False, False, True, False]
    assert not bool((noisier == x).any())
    noised, _ = draw_pairs(system.model, x, levels, levels + 1, generator=seeded_generator(1))
    assert not bool((noised == x).any())
    assert torch.equal(noised[[2, 3, 5]], clean[[2, 3, 5]])
