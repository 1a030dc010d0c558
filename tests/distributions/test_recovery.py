"""Recovery conditionals against closed forms."""

import torch

from drl_density import ChainSampler, NoiseSchedule
from drl_density.distributions import RecoveryDistribution, SampleResult
from drl_density.testing import GaussianMixtureSequence, assert_z, seeded_generator

SYSTEM = GaussianMixtureSequence.example(dim=2, schedule=NoiseSchedule.log_spaced(5))


def test_recovery_draws_match_the_exact_conditional():
    x_noisier = torch.tensor([0.3, -0.2], dtype=torch.float64).expand(4000, 2)
    exact = SYSTEM.recovery(x_noisier[:1], 2)
    conditional = SYSTEM.model.recovery(2).condition(
        x_noisier, sampler=ChainSampler(num_warmup=80, num_steps=80, step_size=0.2)
    )
    draws = conditional.run(generator=seeded_generator(3)).draws
    assert_z(draws, exact.mean[0])
    assert_z((draws - exact.mean[0]).square(), exact.variance[0])


def test_log_density_is_the_energy_less_the_misfit():
    x_noisier, x = torch.tensor([[1.0, -1.0], [0.5, 2.0]]), torch.tensor([0.2, 0.4])
    step = RecoveryDistribution(lambda rows: -0.5 * rows.square().sum(-1), x_noisier, 0.8, 0.6)
    expected = -0.1 - ((x_noisier - 0.8 * x) ** 2).sum(-1) / (2 * 0.36)
    torch.testing.assert_close(step.log_prob(x), expected)
    torch.testing.assert_close(step.expand(torch.Size([3, 2])).log_prob(x), expected.expand(3, 2))


def test_chains_start_at_the_noisier_state():
    x_noisier = torch.tensor([[1.0, -1.0]])
    step = RecoveryDistribution(lambda rows: -0.5 * rows.square().sum(-1), x_noisier, 0.8, 0.6)
    found = step.with_sampler(lambda log_density, initial, generator: SampleResult(initial)).run(4)
    assert torch.equal(found.draws, x_noisier.expand(4, 1, 2))
