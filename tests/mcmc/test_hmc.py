"""Leapfrog trajectories: reversible, bounded, and of random size."""

import math

import pytest
import torch

from drl_density.mcmc import HMC, MALA, init_state, run_chain
from drl_density.mcmc.hmc import Trajectory, integrate
from drl_density.testing import assert_z, seeded_generator
from tests.mcmc.targets import KERNELS, correlated


@pytest.fixture(params=KERNELS, ids=list(KERNELS))
def kernel(request):
    return KERNELS[request.param]()


def test_leapfrog_is_reversible():
    state = init_state(torch.tensor([[0.3, -1.0]], dtype=torch.float64), correlated)
    momentum = torch.tensor([[0.5, 0.2]], dtype=torch.float64)
    end, end_momentum = integrate(state, momentum, correlated, Trajectory(0.3, 7))
    back, back_momentum = integrate(end, -end_momentum, correlated, Trajectory(0.3, 7))
    torch.testing.assert_close(back.position, state.position, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(-back_momentum, momentum, rtol=1e-10, atol=1e-12)


def test_mala_is_one_leapfrog_step_of_hmc():
    x = torch.randn(50, 2, generator=seeded_generator(7), dtype=torch.float64)
    runs = [
        run_chain(kernel, correlated, x, num_steps=20, step_size=0.7, generator=seeded_generator(8)).draws
        for kernel in (MALA(), HMC(1))
    ]
    assert torch.equal(*runs)


def test_a_chain_that_leaves_the_numbers_stays_where_it_was():
    x = torch.tensor([[0.5, -0.5], [1.0, 2.0]])
    kernel = HMC(num_leapfrog=40)
    state = kernel.init(x, lambda z: -(z**4).sum(-1))
    state, info = kernel.step(state, lambda z: -(z**4).sum(-1), 1e6, None)
    assert torch.equal(state.position, x)
    assert bool(info.is_diverging.all())
    assert not bool(info.is_accepted.any())


def test_trajectories_that_close_on_themselves_are_broken_up():
    """Five steps whose trajectory on N(0, 1) closes: chains with one step size stay at their energy, random ones do not."""

    def log_density(x):
        return -0.5 * x.square().sum(-1)

    step_size = 2 * math.sin(math.pi / 5)  # the leapfrog map turns by 2 pi / 5
    moved = {}
    for jitter in (0.0, 0.2):
        generator, kernel = seeded_generator(4), HMC(5, jitter=jitter)
        start = 3 * torch.ones(2000, 1, dtype=torch.float64)
        state = kernel.init(start, log_density)
        for _ in range(30):
            state, _ = kernel.step(state, log_density, step_size, generator)
        moved[jitter] = state.position[:, 0]
    assert float((moved[0.0] - 3).abs().max()) < 1e-6
    assert_z(moved[0.2], 0.0)
    assert_z(moved[0.2].square(), 1.0)
    with pytest.raises(ValueError, match=r"jitter must lie in \[0, 1\)"):
        HMC(5, jitter=1.0)
