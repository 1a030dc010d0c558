"""Progressive sampling on closed-form sequences."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from drl_density import NoiseSchedule
from drl_density.mcmc import HMC, ULA
from drl_density.model import EnergySequence
from drl_density.networks import (
    guide_by_label,
)
from drl_density.samplers import (
    AncestralSettings,
    ProgressiveSettings,
    plan_progressive,
    sample_ancestral,
    sample_progressive,
)
from drl_density.testing import GaussianMixtureSequence, assert_z, seeded_generator
from tests.training.objectives.closed_forms import VARIANCE, exact

SYSTEM = GaussianMixtureSequence.example(dim=2, schedule=NoiseSchedule.log_spaced(8))


def test_moments_of_the_data_come_back():
    generator = seeded_generator(1)
    settings = ProgressiveSettings(steps_per_level=3, num_steps=12)
    result = sample_progressive(SYSTEM.model, 6000, settings=settings, generator=generator)
    exact = SYSTEM.marginal(0)
    assert_z(result.draws, exact.mean)
    assert_z((result.draws - exact.mean).square(), exact.variance)
    assert result.stats["acceptance_rate"].shape == (25, 6000)


def test_a_plan_is_reused_and_steps_are_reported():
    plan = plan_progressive(SYSTEM.model, generator=seeded_generator(2))
    levels = []
    runs = [
        sample_progressive(
            SYSTEM.model, 10, plan=plan, generator=seeded_generator(3), on_step=lambda step: levels.append(step.level)
        ).draws
        for _ in range(2)
    ]
    assert torch.equal(*runs)
    assert levels[: len(levels) // 2][-1] == 0
    assert len(plan.step_sizes) == 16


class NoisedClasses(nn.Module):
    """Exact log densities, at every level, of two Gaussian classes and of their mixture (label 0)."""

    has_bounded_growth = True

    def forward(self, x, log_snr, label):
        return self.log_densities(x[:, 0], log_snr)[label, torch.arange(len(x))]

    def log_densities(self, x, log_snr):
        alpha, variance = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr)
        classes = [
            Normal(alpha * mean, (alpha**2 * scale**2 + variance).sqrt()).log_prob(x)
            for mean, scale in ((-1.0, 0.6), (1.2, 0.9))
        ]
        mixed = torch.logaddexp(classes[0] + math.log(0.3), classes[1] + math.log(0.7))
        return torch.stack([mixed, *classes])


def test_guided_energies_need_chains():
    """p(x | c) p(c | x)^2 at level 0, by quadrature: guided energies of noisier levels are not its noised versions."""
    schedule, network = NoiseSchedule.log_spaced(8, sigma_min=0.2), NoisedClasses()
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    mixed, own, _ = network.log_densities(grid, schedule.log_snr_at(0))
    weights = (own + 2 * (own + math.log(0.3) - mixed)).softmax(0)
    mean = float(weights @ grid)
    variance = float(weights @ (grid - mean).square())
    model = EnergySequence(
        schedule, guide_by_label(network, 1, 2.0), (1,), has_base=False, is_integrable=True, dtype=torch.float64
    )
    chains = ProgressiveSettings(steps_per_level=1)
    draws = sample_progressive(model, 3000, settings=chains, generator=seeded_generator(4)).draws
    assert_z(draws, mean)
    assert_z((draws - mean).square(), variance)
    without = sample_ancestral(model, 3000, settings=AncestralSettings(80), generator=seeded_generator(5)).draws
    with pytest.raises(AssertionError, match="estimate"):
        assert_z(without, mean)


def test_refined_normal_approximation_ends_at_the_marginal():
    """The T = 1000 sampler at 12 levels: a Gaussian draw, then HMC with two leapfrog steps, on a Gaussian of known width."""
    system = exact(NoiseSchedule.log_spaced(12, sigma_min=0.3))
    settings = ProgressiveSettings(
        steps_per_level=1, num_steps=4, num_final_steps=0, kernel=HMC(num_leapfrog=2), starts_at_normal=True
    )
    result = sample_progressive(system.model, 4000, settings=settings, generator=seeded_generator(8))
    variance = float(system.schedule.alpha[0] ** 2 * VARIANCE + system.schedule.sigma[0] ** 2)
    assert_z(result.draws.square(), variance)
    rates = result.stats["acceptance_rate"][:-1].mean(1)
    assert bool(((rates > 0.5) & (rates <= 1)).all())
    unrefined = sample_progressive(
        system.model,
        4000,
        settings=ProgressiveSettings(steps_per_level=1, num_steps=0, num_final_steps=0, starts_at_normal=True),
        generator=seeded_generator(8),
    )
    with pytest.raises(AssertionError, match="estimate"):
        assert_z(unrefined.draws.square(), variance)


def test_an_unadjusted_kernel_is_refused():
    with pytest.raises(ValueError, match="progressive sampling needs an adjusted kernel"):
        ProgressiveSettings(kernel=ULA())
