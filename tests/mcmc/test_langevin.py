"""Langevin kernels: the bias of the unadjusted one, and the ratio of the adjusted one."""

import pytest
import torch

from drl_density.mcmc import HMC, MALA, ULA, init_state, run_chain
from drl_density.mcmc.hmc import Trajectory, integrate
from drl_density.testing import assert_z, seeded_generator
from tests.mcmc.targets import KERNELS, correlated


@pytest.fixture(params=KERNELS, ids=list(KERNELS))
def kernel(request):
    return KERNELS[request.param]()


def test_stationary_variance_of_ula_and_mala():
    """ULA on precision P has variance 1 / (P (1 - e^2 P / 4)); MALA has 1 / P."""
    precision, step = 2.0, 0.6
    biased = 1 / (precision * (1 - step**2 * precision / 4))
    for kernel, truth in ((ULA(), biased), (MALA(), 1 / precision), (HMC(3), 1 / precision)):
        generator = seeded_generator(6)
        x = truth**0.5 * torch.randn(40_000, 1, generator=generator, dtype=torch.float64)
        last = run_chain(
            kernel, lambda x: -0.5 * precision * x[:, 0] ** 2, x, num_steps=15, step_size=step, generator=generator
        ).draws[-1]
        assert_z(last**2, truth)


def test_mala_ratio_is_that_of_its_proposal_densities():
    """The kinetic-energy form equals log q(x | x') - log q(x' | x) plus the change of log density."""
    x = torch.randn(6, 2, generator=seeded_generator(9), dtype=torch.float64)
    state, step = init_state(x, correlated), 0.7
    momentum = torch.randn(6, 2, generator=seeded_generator(10), dtype=torch.float64)
    end, end_momentum = integrate(state, momentum, correlated, Trajectory(step, 1))
    error = 0.5 * (end_momentum.square().sum(1) - momentum.square().sum(1)) + state.log_density - end.log_density

    def log_q(to, start):
        mean = start.position + 0.5 * step**2 * start.gradient
        return -0.5 * ((to.position - mean) / step).square().sum(1)

    ratio = end.log_density + log_q(state, end) - state.log_density - log_q(end, state)
    torch.testing.assert_close(-error, ratio, rtol=1e-10, atol=1e-12)
