"""Generators: gradients through a roll-out, and the Gaussian that a one-step network starts from."""

import pytest
import torch

from drl_density.distillation import (
    OneStepGenerator,
    RollOut,
    TiltedGaussianNetwork,
)
from drl_density.samplers import DDIMSettings
from drl_density.testing import assert_z, seeded_generator
from tests.distillation.tunable import tunable_sequence


def test_gradient_through_the_roll_out():
    model = tunable_sequence()
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
