"""The local kernel leaves its target alone and is reversible."""

import pytest
import torch

from drl_density.mcmc import init_state
from drl_density.partition_function.target_bases.defended import DefendedBase
from drl_density.partition_function.target_bases.fitted_base import fit_base
from drl_density.partition_function.target_bases.local_kernel import LocalMALA
from drl_density.partition_function.target_bases.mixture import MixtureBase
from drl_density.partition_function.target_bases.scale_base import ScaleRegression
from drl_density.partition_function.target_bases.student import StudentProduct, TailChart
from drl_density.testing import assert_z, seeded_generator
from tests.partition_function.known_answers import funnel

LIKE = torch.empty(0, dtype=torch.float64)


def mixture_of_slices(x):
    """A mixture that follows a funnel slice by slice, where :func:`fit_base` would take the regression."""
    slices = x[x[:, 0].argsort()].chunk(6)
    means = torch.stack([rows.mean(0) for rows in slices])
    covariances = torch.stack([rows.T.cov() for rows in slices])
    local = MixtureBase(torch.full((6,), 1 / 6), means, covariances, LIKE)
    return DefendedBase(
        (local, MixtureBase(torch.ones(1), x.mean(0)[None], 2 * x.T.cov()[None], LIKE)), (0.9, 0.1), local
    )


@pytest.mark.parametrize("jump_share", [1.0, 0.25, 0.0], ids=["jumps", "few jumps", "local moves alone"])
@pytest.mark.parametrize("fitted", [fit_base, mixture_of_slices], ids=["regression", "mixture"])
def test_local_kernel_leaves_its_target_alone(fitted, jump_share):
    """Exact draws of a funnel stay exact: moments of its first coordinate, spread 3, known in closed form."""
    generator = seeded_generator(5)
    first = 3 * torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    x = torch.cat([first, (first / 2).exp() * torch.randn(20_000, 3, generator=generator, dtype=torch.float64)], -1)
    base = fitted(x.reshape(4, -1, 4)[:, :500] if fitted is fit_base else x[:2000])
    assert isinstance(base.local, ScaleRegression if fitted is fit_base else MixtureBase)
    kernel = LocalMALA(base, jump_share=jump_share)
    state = init_state(x, funnel)
    sizes = 2.0 * 10 ** -torch.rand(len(x), generator=generator, dtype=torch.float64)
    for _ in range(20):
        state, info = kernel.step(state, funnel, sizes, generator)
    assert float(info.is_accepted.double().mean()) > 0.2
    assert float((state.position != x).any(1).double().mean()) > 0.9
    moved = state.position[:, 0] / 3
    for value, truth in ((moved, 0.0), (moved.square(), 1.0), ((moved < -1).double(), 0.15865525)):
        assert_z(value, truth)
    rest = state.position[:, 1] * (-state.position[:, 0] / 2).exp()
    assert_z(rest.square(), 1.0)
    torch.testing.assert_close(state.log_density, funnel(state.position), rtol=1e-9, atol=1e-9)


def test_local_kernel_is_reversible():
    """E[f(x) g(x')] = E[g(x) f(x')] for exact draws x, as the weights of reverse walks need it. A jump always after the
    local move leaves the target alone as well, and fails here with a z-score of -8.7.
    """
    generator = seeded_generator(3)
    base = fit_base(torch.randn(4, 500, 1, generator=generator, dtype=torch.float64))

    def target(x):
        return -2 * (x - 1.5).square().sum(-1)

    x = 1.5 + 0.5 * torch.randn(400_000, 1, generator=generator, dtype=torch.float64)
    state, _ = LocalMALA(base).step(init_state(x, target), target, 0.3, generator)
    before, after = x[:, 0] - 1.5, state.position[:, 0] - 1.5
    assert_z(before * after**3 - before**3 * after, 0.0)


def test_a_step_beyond_the_last_number_of_a_chart_is_never_taken():
    """sinh overflows at 710."""
    one = torch.ones(1).double()
    base = DefendedBase((StudentProduct(one, 0 * one, one),), (1.0,), TailChart(0 * one, one))

    def target(x):
        return -torch.log1p(x.square()).sum(-1)

    x = torch.linspace(-3, 3, 50).double()[:, None]
    state, info = LocalMALA(base, jump_share=0.0).step(init_state(x, target), target, 1e6, seeded_generator(0))
    assert state.position.equal(x)
    assert not info.is_accepted.any()


def test_step_sizes_adapt_to_local_moves_alone():
    """Hardly a jump from a base far away is accepted, and nearly every tiny local move is."""
    far = MixtureBase(torch.ones(1), torch.full((1, 1), 30.0), torch.eye(1)[None], LIKE)

    def target(x):
        return -0.5 * x.square().sum(-1)

    x = torch.linspace(-1, 1, 200).double()[:, None]
    kernel = LocalMALA(DefendedBase((far,), (1.0,), far), jump_share=0.5)
    _, info = kernel.step(init_state(x, target), target, 1e-3, seeded_generator(0))
    assert float(info.is_accepted.double().mean()) < 0.7
    assert float(info.acceptance_probability.min()) > 0.99
