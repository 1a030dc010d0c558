"""Progressive sampling on closed-form sequences."""

import torch

from drl_density import NoiseSchedule, sample_progressive
from drl_density.samplers import ProgressiveSettings, plan_progressive
from drl_density.testing import GaussianMixtureSequence, assert_z, seeded_generator

SYSTEM = GaussianMixtureSequence.example(dim=2, schedule=NoiseSchedule.log_spaced(8))


def test_moments_of_the_data_come_back():
    generator = seeded_generator(1)
    settings = ProgressiveSettings(steps_per_level=3, num_steps=12)
    result = sample_progressive(SYSTEM.model, 6000, settings=settings, generator=generator)
    exact = SYSTEM.marginal(0)
    assert_z(result.draws, exact.mean)
    assert_z((result.draws - exact.mean).square(), exact.variance)
    assert result.stats["acceptance_rate"].shape == (25, 6000)


def test_a_plan_is_reused_and_steps_are_told():
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
