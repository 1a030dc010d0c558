"""Spectral norms: unit norm, gradient, one iteration per training pass, and one density while they are frozen."""

import torch

from drl_density.mcmc import HMC
from drl_density.networks import (
    SpectralWeight,
    frozen_power_iteration,
    settle_power_iteration,
)
from drl_density.testing import seeded_generator
from tests.networks.images.tiny_networks import images, network, wake


def test_settled_weights_have_unit_norm_and_small_ones_stay_small():
    """200 iterations leave an error of (second / first singular value)^400, far below 1e-6 for these matrices."""
    big = SpectralWeight((6, 4, 3, 3), generator=seeded_generator()).double()
    settle_power_iteration(big, num_iterations=200)
    assert abs(float(torch.linalg.matrix_norm(big().detach().flatten(1), 2)) - 1) < 1e-6
    bounded = SpectralWeight((6, 4, 3, 3), is_zero=True, generator=seeded_generator()).double()
    for norm, expected in ((0.3, 0.3), (7.0, 1.0)):
        with torch.no_grad():
            bounded.weight.copy_(norm * big())
        settle_power_iteration(bounded, num_iterations=200)
        assert abs(float(torch.linalg.matrix_norm(bounded().detach().flatten(1), 2)) - expected) < 1e-6


def test_gradient_goes_through_the_singular_value():
    """W / sigma does not change when W is scaled, so its gradient is orthogonal to W; the readout alone is not so."""
    weight = SpectralWeight((5, 3), generator=seeded_generator()).double()
    (weight() * torch.randn(5, 3, generator=seeded_generator(1), dtype=torch.float64)).sum().backward()
    assert abs(float((weight.weight.grad * weight.weight.detach()).sum())) < 1e-12


def test_one_power_iteration_per_training_pass_and_none_when_frozen():
    net = network().train()
    first = net.enter.kernel
    start = first.u.clone()
    expected = first.iterate()[0]
    net(images(), torch.zeros(4, dtype=torch.float64))
    assert torch.equal(first.u, expected)
    assert not torch.equal(first.u, start)
    with frozen_power_iteration(net):
        before = first.u.clone()
        inside = net(images(), torch.zeros(4, dtype=torch.float64))
        assert torch.equal(first.u, before)
    assert torch.equal(net(images(), torch.zeros(4, dtype=torch.float64)), inside)
    assert not torch.equal(first.u, before)
    before = first.u.clone()
    net.eval()(images(), torch.zeros(4, dtype=torch.float64))
    assert torch.equal(first.u, before)


def test_an_adjusted_chain_sees_one_density():
    """The energy of the accepted state, evaluated afresh, is the energy the kernel kept: exactly, in training mode."""
    net = wake(network()).train()
    for module in net.modules():
        if isinstance(module, SpectralWeight) and module.is_normalized:
            module.u.copy_(torch.nn.functional.normalize(torch.ones_like(module.u), dim=0))
    log_snr = torch.zeros(4, dtype=torch.float64)

    def log_density(x):
        return net(x, log_snr) - 0.5 * x.square().flatten(1).sum(1)

    kernel = HMC(num_leapfrog=2)
    with frozen_power_iteration(net), torch.no_grad():
        state = kernel.init(images(), log_density)
        for _ in range(3):
            state, _ = kernel.step(state, log_density, 0.1, seeded_generator(3))
        assert torch.equal(state.log_density, log_density(state.position))
    moving = kernel.init(images(), log_density)
    assert not torch.equal(moving.log_density, log_density(moving.position))
