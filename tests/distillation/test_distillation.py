"""MMD finetuning and EM distillation against closed forms."""

import math

import pytest
import torch

import drl_density as drl
from drl_density.distillation import (
    EMDistillationSettings,
    MMDSettings,
    OneStepGenerator,
    RollOut,
    cubic_kernel,
    distill,
    finetune,
    rbf_kernel,
    unbiased_mmd,
)
from drl_density.samplers import DDIMSettings
from drl_density.testing import GaussianMixtureSequence, assert_z, gaussian_sequence, seeded_generator


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


class Tunable(torch.nn.Module):
    """The exact mixture plus a small network that starts at zero."""

    has_bounded_growth = True

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.change = drl.networks.MLP(
            drl.networks.MLPSettings(2, width=32, num_blocks=1), generator=seeded_generator(0)
        ).double()

    def forward(self, x, log_snr):
        return self.inner(x, log_snr) + self.change(x, log_snr)


def test_finetuning_cuts_the_discrepancy_of_two_steps():
    system = GaussianMixtureSequence.example(dim=2, seed=0)
    model = drl.EnergySequence(
        system.schedule, Tunable(system.model.network), (2,), has_base=False, dtype=torch.float64
    )
    before = [value.clone() for value in model.parameters()]
    rollout = RollOut(model, DDIMSettings(num_steps=2))
    data, held = (system.sample(2000, 0, generator=seeded_generator(seed)) for seed in (1, 2))
    kernel = rbf_kernel(1.0)

    def discrepancy():
        return float(unbiased_mmd(rollout.sample(2000, generator=seeded_generator(3)), held, kernel))

    start = discrepancy()
    losses = finetune(
        rollout,
        data,
        kernel=kernel,
        settings=MMDSettings(num_steps=120, learning_rate=3e-3),
        generator=seeded_generator(4),
    )
    assert len(losses) == 120
    assert discrepancy() < 0.3 * start
    assert all(
        torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)
    )  # the sequence itself is untouched


def test_gradient_through_the_roll_out():
    system = GaussianMixtureSequence.example(dim=2, seed=0)
    model = drl.EnergySequence(
        system.schedule, Tunable(system.model.network), (2,), has_base=False, dtype=torch.float64
    )
    rollout = RollOut(model, DDIMSettings(num_steps=3))
    noise, bias = (
        torch.randn(4, 2, generator=seeded_generator(0), dtype=torch.float64),
        rollout.model.network.change.readout.bias,
    )

    def loss():
        return rollout(noise).square().sum()

    loss().backward()
    gradient, step = float(bias.grad[0]), 1e-5
    with torch.no_grad():
        bias[0] += step
        above = float(loss())
        bias[0] -= 2 * step
        below = float(loss())
    assert gradient == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-6)
    with pytest.raises(ValueError, match="eta must be 0"):
        RollOut(model, DDIMSettings(eta=1.0))


@pytest.mark.parametrize("cancellation", ["none", "accumulated", "all"])
def test_a_linear_student_learns_the_teachers_covariance(cancellation):
    """Teacher N(0, S), student W z, both scores exact: W W^T must become S."""
    covariance = torch.tensor([[1.0, 0.5], [0.5, 0.6]], dtype=torch.float64)
    system = gaussian_sequence(torch.zeros(2), covariance, drl.NoiseSchedule.log_spaced(8))
    linear = torch.nn.Linear(2, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(0.3 * torch.eye(2))
    student = OneStepGenerator(linear, 2)

    def student_score(x, level):
        alpha, sigma = float(system.schedule.alpha_at(level)), float(system.schedule.sigma_at(level))
        weight = linear.weight.detach()
        noised = alpha**2 * weight @ weight.T + sigma**2 * torch.eye(2, dtype=torch.float64)
        return -torch.linalg.solve(noised, x.T).T

    settings = EMDistillationSettings(
        num_steps=1000,
        num_corrections=4,
        learning_rate=0.01,
        cancellation=cancellation,
        step_latent=0.02,
        lowest_level=4.0,
    )
    corrections = distill(
        system.model, student, student_score=student_score, settings=settings, generator=seeded_generator(0)
    )
    found = linear.weight.detach() @ linear.weight.detach().T
    assert float((found - covariance).norm() / covariance.norm()) < 0.15
    assert sum(corrections[-50:]) < sum(corrections[:50])


def test_student_scores_can_be_learned():
    system = gaussian_sequence(torch.zeros(2), 0.5 * torch.eye(2), drl.NoiseSchedule.log_spaced(6))
    student = OneStepGenerator(torch.nn.Linear(2, 2, dtype=torch.float64), 2)
    network = drl.networks.MLP(drl.networks.MLPSettings(2, width=32), generator=seeded_generator(0)).double()
    learner = drl.EnergySequence(system.schedule, network, (2,), dtype=torch.float64)
    settings = EMDistillationSettings(
        num_steps=150, num_corrections=2, learning_rate=0.02, score_learning_rate=0.01, lowest_level=3.0
    )
    distill(system.model, student, score_network=learner, settings=settings, generator=seeded_generator(0))
    spread = student.sample(4000, generator=seeded_generator(1)).var(0)
    assert bool(((spread > 0.25) & (spread < 1.0)).all())
    with pytest.raises(ValueError, match="either a score_network"):
        distill(system.model, student)
