"""The discrepancy in closed form, and finetuning by it."""

import math

import pytest
import torch

from drl_density.distillation import (
    MMDSettings,
    RollOut,
    cubic_kernel,
    energy_kernel,
    finetune,
    log_kernel,
    rbf_kernel,
    unbiased_mmd,
)
from drl_density.errors import TrainingFailed
from drl_density.samplers import DDIMSettings
from drl_density.testing import GaussianMixtureSequence, assert_z, seeded_generator
from tests.distillation.tunable import tunable_sequence


def test_mmd_is_unbiased_and_has_its_closed_form():
    generator, kernel, gamma, shift = seeded_generator(0), rbf_kernel(0.5), 0.5, 0.8
    same, apart = [], []
    for _ in range(200):
        x, y = torch.randn(2, 30, 1, generator=generator, dtype=torch.float64)
        same.append(float(unbiased_mmd(x, y, kernel)))
        apart.append(float(unbiased_mmd(x, y + shift, kernel)))
    exact = 2 * (1 + 4 * gamma) ** -0.5 * (1 - math.exp(-gamma * shift**2 / (1 + 4 * gamma)))
    for values, truth in ((torch.tensor(same), 0.0), (torch.tensor(apart), exact)):
        assert_z(float(values.mean()), truth, float(values.std()) / math.sqrt(200))
    assert min(same) < 0
    with pytest.raises(ValueError, match="at least two rows"):
        unbiased_mmd(torch.zeros(1, 2), torch.zeros(3, 2), cubic_kernel)


def test_the_energy_kernel_gives_the_energy_distance():
    """E|x - y| of N(0, 1) and N(m, 1) is known: twice that of a normal number of variance 2, less 2 E|x - x'|."""
    shift, generator = 1.5, seeded_generator(1)
    x, y = torch.randn(2, 4000, 1, generator=generator, dtype=torch.float64)
    far = 2 / math.sqrt(math.pi) * math.exp(-(shift**2) / 4) + shift * math.erf(shift / 2)
    exact = 2 * far - 2 * 2 / math.sqrt(math.pi)
    assert float(unbiased_mmd(x, y + shift, energy_kernel)) == pytest.approx(exact, rel=0.08)


def test_several_widths_are_their_mean():
    x, y = torch.randn(2, 3, 2, generator=seeded_generator(2))
    both = rbf_kernel(0.2, 2.0)(x, y)
    torch.testing.assert_close(both, (rbf_kernel(0.2)(x, y) + rbf_kernel(2.0)(x, y)) / 2)


def test_the_log_kernel_is_a_sum_of_laplace_kernels():
    """-log(1 + r / s) is the integral of (exp(-u r) - 1) exp(-u s) / u over the rates u."""
    far, scale = 3.0, 0.7
    rates = torch.linspace(0, 60 / scale, 200_001, dtype=torch.float64)[1:]
    integral = float(torch.trapezoid(torch.expm1(-rates * far) / rates * torch.exp(-rates * scale), rates))
    found = float(log_kernel(scale)(torch.zeros(1, 1), torch.full((1, 1), far)))
    # The part below the first rate is 4e-4 wide, with an integrand of -3.
    assert found == pytest.approx(integral, abs=2e-3)


def test_the_log_kernel_sees_filaments_better_than_the_energy_kernel():
    """Points gathered by fours: of the discrepancy to a shift, the part that the log kernel sees is larger."""
    x, y, shift = torch.randn(3, 400, 2, generator=seeded_generator(3), dtype=torch.float64)
    gathered = x[:100].repeat(4, 1) + 0.005 * shift
    moved = y + 0.3
    shares = []
    for kernel in (log_kernel(0.02), energy_kernel):
        shares.append(float(unbiased_mmd(gathered, y, kernel) / unbiased_mmd(moved, x, kernel)))
    assert shares[0] > 1.5 * shares[1]


def sliced_distance(x, y):
    """Wasserstein-2 distance of equally many rows, root mean square over 20 directions."""
    directions = torch.nn.functional.normalize(
        torch.randn(x.shape[1], 20, generator=seeded_generator(9), dtype=x.dtype), dim=0
    )
    return float(((x @ directions).sort(0).values - (y @ directions).sort(0).values).square().mean().sqrt())


def test_finetuning_cuts_the_discrepancy_of_two_steps():
    system = GaussianMixtureSequence.example(dim=2, seed=0)
    model = tunable_sequence(system)
    before = [value.clone() for value in model.parameters()]
    rollout = RollOut(model, DDIMSettings(num_steps=2))
    data, held = (system.sample(2000, 0, generator=seeded_generator(seed)) for seed in (1, 2))
    kernel = rbf_kernel(1.0)

    def discrepancy():
        drawn = rollout.sample(2000, generator=seeded_generator(3))
        return float(unbiased_mmd(drawn, held, kernel)), sliced_distance(drawn, held)

    start = discrepancy()
    enough = sliced_distance(data, held)
    assert start[1] > 3 * enough  # two steps with exact scores are visibly wrong
    losses = finetune(
        rollout,
        data,
        kernel=kernel,
        settings=MMDSettings(num_steps=100, batch_size=128, learning_rate=5e-3),
        generator=seeded_generator(4),
    )
    assert len(losses) == 100
    end = discrepancy()
    assert end[0] < 0.2 * start[0]
    assert end[1] < 0.7 * start[1]
    assert all(
        torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)
    )  # the sequence itself is untouched


def test_wrong_features_are_refused():
    system = GaussianMixtureSequence.example(dim=2, seed=0)
    rollout, data = RollOut(system.model, DDIMSettings(num_steps=2)), system.sample(20, 0)
    for features, message in (
        (lambda x: x.sum(1), "to \\(n, k\\)"),
        (lambda x: x.reshape(1, -1), "to \\(n, k\\)"),
        (lambda x: x.detach(), "differentiable"),
    ):
        with pytest.raises(ValueError, match=message):
            finetune(rollout, data, features=features)
    with pytest.raises(ValueError, match="event shape"):
        finetune(rollout, torch.zeros(5, 3))


def test_a_discrepancy_that_is_not_finite_stops():
    rollout = RollOut(tunable_sequence(), DDIMSettings(num_steps=2))
    data = torch.full((20, 2), math.nan, dtype=torch.float64)
    with pytest.raises(TrainingFailed, match="the discrepancy at step 0 is nan"):
        finetune(rollout, data, settings=MMDSettings(num_steps=2, batch_size=8), generator=seeded_generator(0))
