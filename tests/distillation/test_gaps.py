"""The learned gap against its closed form."""

import torch

import drl_density as drl
from drl_density.descent import DescentRule
from drl_density.distillation import OneStepGenerator
from drl_density.distillation.gaps import DenoisedGap, GapNetwork, KnownGap, noised
from drl_density.testing import assert_z, gaussian_sequence, seeded_generator

LEVELS = torch.full((128,), 3.0, dtype=torch.float64)


def known_pair():
    """Teacher N(0, 0.5 I) and the student 0.3 z + 0.4, with the gap of their exact scores."""
    system = gaussian_sequence(torch.zeros(2), 0.5 * torch.eye(2), drl.NoiseSchedule.log_spaced(6))
    linear = torch.nn.Linear(2, 2, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(0.3 * torch.eye(2))
        linear.bias.fill_(0.4)

    def score(x, levels):
        alpha, sigma = (value[:, None] for value in system.schedule.step_between(torch.zeros_like(levels), levels))
        return (alpha * 0.4 - x) / (alpha**2 * 0.09 + sigma**2)

    return system, OneStepGenerator(linear, 2), KnownGap(system.model, score)


class Affine(torch.nn.Module):
    """Vectors of one level that are affine in x, coordinate by coordinate, which the exact ones are."""

    def __init__(self):
        super().__init__()
        self.slope, self.constant = (torch.nn.Parameter(torch.zeros(2, dtype=torch.float64)) for _ in range(2))

    def forward(self, x, log_snr):
        return self.slope * x + self.constant


def test_a_learned_gap_is_the_exact_one():
    system, student, known = known_pair()
    generator, rule = seeded_generator(0), DescentRule(400, 0.05, betas=(0.5, 0.99), is_annealed=True)
    gap = DenoisedGap(system.model, Affine(), student, rule)
    for _ in range(400):
        gap.learn(LEVELS, generator)
    x = noised(system.schedule, student.sample(128, generator=generator), LEVELS, generator)[0]
    found, exact = gap(x, LEVELS), known(x, LEVELS)
    assert float((found - exact).square().mean().sqrt()) < 0.1 * float(exact.square().mean().sqrt())


def test_a_network_of_the_gap_starts_at_zero_and_knows_its_level():
    network = GapNetwork(2, width=8, generator=seeded_generator(0))
    x = torch.ones(2, 2)
    assert not bool(network(x, torch.tensor([0.0, 3.0])).any())
    with torch.no_grad():
        network.trunk.last.weight.fill_(1.0)
    one, other = network(x, torch.tensor([0.0, 3.0]))
    assert not torch.allclose(one, other)


def test_noised_states_have_the_noise_of_their_level():
    """Draws of level 0 become draws of level 3: their covariance is known, and the noise is what was added."""
    system = gaussian_sequence(torch.ones(2), 0.5 * torch.eye(2), drl.NoiseSchedule.log_spaced(6))
    generator, levels = seeded_generator(1), torch.full((20_000,), 3.0, dtype=torch.float64)
    clean = system.sample(20_000, 0, generator=generator)
    states, noise, sigma = noised(system.schedule, clean, levels, generator)
    level = system.components(3)
    assert_z((states[:, 0] - level.mean[0, 0]) ** 2, float(level.covariance_matrix[0, 0, 0]))
    assert_z(states[:, 1], float(level.mean[0, 1]))
    alpha = system.schedule.step_between(torch.tensor(0.0), torch.tensor(3.0))[0]
    torch.testing.assert_close(states, alpha * clean + sigma * noise)
