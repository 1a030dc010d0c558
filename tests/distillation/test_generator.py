"""Generators: gradients through a roll-out, and the Gaussian that a one-step network starts from."""

import pytest
import torch

from drl_density.distillation import (
    OneStepGenerator,
    RollOut,
    TiltedGaussianNetwork,
)
from drl_density.samplers import DDIMSettings, MultistepDenoiser, sample_ddim
from drl_density.testing import GaussianMixtureSequence, assert_z, seeded_generator
from tests.distillation.tunable import tunable_sequence


@pytest.mark.parametrize("is_multistep", [False, True])
def test_gradient_through_the_roll_out(is_multistep):
    model = tunable_sequence()
    rollout = RollOut(model, DDIMSettings(num_steps=3), is_multistep=is_multistep)
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


def test_a_multistep_roll_out_is_the_walk_of_that_rule():
    model, settings = GaussianMixtureSequence.example(dim=2, seed=0).model, DDIMSettings(num_steps=5)
    noise = torch.randn(50, 2, generator=seeded_generator(0), dtype=torch.float64)
    plain, multistep = (RollOut(model, settings, is_multistep=each)(noise).detach() for each in (False, True))
    expected = sample_ddim(model, 50, settings=settings, noise=noise, denoiser=MultistepDenoiser(model, settings)).draws
    assert torch.equal(multistep, expected)
    # Its error in five steps is a fraction of DDIM's.
    exact = sample_ddim(model, 50, settings=DDIMSettings(num_steps=400), noise=noise).draws
    assert float((multistep - exact).norm()) < 0.5 * float((plain - exact).norm())


def test_a_roll_out_leaves_the_sequence_alone_and_is_deterministic():
    model = tunable_sequence()
    rollout = RollOut(model, DDIMSettings(num_steps=3))
    first, second = (rollout.sample(5, generator=seeded_generator(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert not any(a is b for a, b in zip(model.parameters(), rollout.model.parameters(), strict=True))


def test_a_one_step_network_starts_as_its_gaussian():
    mean, factor = torch.tensor([1.0, -2.0]).double(), torch.tensor([[2.0, 0.0], [1.0, 0.5]]).double()
    network = TiltedGaussianNetwork(mean, factor, width=8, generator=seeded_generator(0))
    generator = OneStepGenerator(network, num_latents=2)
    z = generator.latents(20_000, generator=seeded_generator(1))
    assert torch.equal(generator.sample(20_000, generator=seeded_generator(1)), network(z))
    x = network(z).detach()
    torch.testing.assert_close(x, mean + z @ factor.T, rtol=1e-12, atol=1e-12)
    assert_z(x[:, 0], 1.0)
    assert_z((x[:, 1] + 2) ** 2, 1.25)
    assert_z((x[:, 0] - 1) * (x[:, 1] + 2), 2.0)
