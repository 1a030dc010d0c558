"""Chains from given starting points: they lead to the model, and R-hat shows how far they have come."""

import pytest
import torch

from drl_density import NoiseSchedule
from drl_density.mcmc import ULA
from drl_density.samplers import RefinementSettings, sample_refined
from drl_density.testing import GaussianMixtureSequence, assert_z, gaussian_sequence, seeded_generator


def test_chains_from_wrong_points_lead_to_the_model():
    """Begun at N(3, 0.1^2) where the model is a mixture elsewhere: moments of the model at the end."""
    system = gaussian_sequence(
        torch.tensor([0.3, -0.2]), torch.tensor([[0.5, 0.2], [0.2, 0.3]]), NoiseSchedule.log_spaced(6)
    )

    def wrong(count, generator):
        return 3 + 0.1 * torch.randn(count, 2, generator=generator, dtype=torch.float64)

    settings = RefinementSettings(num_steps=150, num_warmup=150)
    found = sample_refined(system.model, 2000, initial=wrong, settings=settings, generator=seeded_generator(0))
    exact = system.marginal(0)
    assert_z(found.draws, exact.mean)
    assert_z((found.draws - exact.mean).square(), exact.variance)
    short = RefinementSettings(num_steps=4, num_warmup=1)
    assert float(sample_refined(system.model, 200, initial=wrong, settings=short).stats["r_hat"].max()) > 1.1
    with pytest.raises(ValueError, match="starting points"):
        sample_refined(system.model, 5, initial=lambda count, source: torch.zeros(3, 2))
    with pytest.raises(ValueError, match="needs an adjusted kernel"):
        RefinementSettings(kernel=ULA())


def test_draws_are_the_last_steps_and_every_step_is_reported():
    model, steps = GaussianMixtureSequence.example().model, []
    found = sample_refined(
        model,
        6,
        initial=lambda count, generator: torch.randn(count, 2, generator=generator, dtype=torch.float64),
        settings=RefinementSettings(num_steps=5, num_warmup=3),
        generator=seeded_generator(0),
        on_step=steps.append,
    )
    assert len(steps) == 8
    assert torch.equal(steps[-1].x, found.draws)
    assert found.stats["acceptance_rate"].shape == (5, 6)
    assert steps[-1].acceptance_rate == pytest.approx(float(found.stats["acceptance_rate"][-1].mean()))


def test_too_few_steps_are_refused():
    with pytest.raises(ValueError, match="num_steps must be at least 4"):
        RefinementSettings(num_steps=3)
