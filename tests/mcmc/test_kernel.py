"""The contract of kernels, tested on every one of them."""

import math

import pytest
import torch

from drl_density.mcmc import (
    HMC,
    MALA,
    ULA,
    ChainState,
    run_chain,
)
from drl_density.mcmc.kernel import choose, init_state, spread_step_size
from drl_density.testing import assert_z, seeded_generator
from tests.mcmc.targets import ADJUSTED, KERNELS, PRECISION, correlated, normal, two_modes


@pytest.fixture(params=KERNELS, ids=list(KERNELS))
def kernel(request):
    return KERNELS[request.param]()


@pytest.mark.parametrize("event_shape", [(), (3,), (2, 4, 4)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_shapes_and_dtypes(kernel, event_shape, dtype):
    x = torch.zeros(5, *event_shape, dtype=dtype)
    state = kernel.init(x, normal)
    for step_size in (0.3, torch.full((5,), 0.3)):
        state, info = kernel.step(state, normal, step_size, seeded_generator())
        assert state.position.shape == x.shape
        assert state.position.dtype == dtype
        assert all(value.shape == (5,) for value in info)


def test_reproducible_by_generator(kernel):
    runs = [
        run_chain(kernel, normal, torch.zeros(4, 2), num_steps=5, step_size=0.5, generator=seeded_generator(3)).draws
        for _ in range(2)
    ]
    assert torch.equal(*runs)


def test_one_gradient_per_leapfrog_step(kernel):
    calls = []

    def counted(x):
        calls.append(1)
        return normal(x)

    state = kernel.init(torch.zeros(2, 2), counted)
    calls.clear()
    kernel.step(state, counted, 0.5, None)
    assert len(calls) == kernel.gradients_per_step


@pytest.mark.parametrize("name", ADJUSTED)
def test_not_a_number_is_rejected_and_reported(name):
    def broken(x):
        return torch.where(x[:, 0].abs() > 1e-6, torch.nan, 0.0) + 0 * x.sum(1)

    kernel = KERNELS[name]()
    state = kernel.init(torch.zeros(3, 1), broken)
    after, info = kernel.step(state, broken, 0.5, seeded_generator())
    assert info.is_diverging.all()
    assert torch.equal(after.position, state.position)


@pytest.mark.parametrize("name", ADJUSTED)
def test_exact_start_stays_exact(name):
    """Started from exact draws an adjusted kernel keeps every moment, whatever its step size."""
    generator = seeded_generator(4)
    factor = torch.linalg.cholesky(torch.linalg.inv(PRECISION))
    x = torch.randn(20_000, 2, generator=generator, dtype=torch.float64) @ factor.T
    result = run_chain(KERNELS[name](), correlated, x, num_steps=8, step_size=0.8, generator=generator)
    last = result.draws[-1]
    products = last[:, :, None] * last[:, None, :]
    assert_z(last, 0.0)
    assert_z(products.reshape(-1, 4), torch.linalg.inv(PRECISION).reshape(4))


@pytest.mark.parametrize("name", ADJUSTED)
def test_two_modes_keep_their_weights(name):
    generator = seeded_generator(5)
    is_left = torch.rand(20_000, generator=generator) < 0.2
    noise = torch.randn(20_000, generator=generator, dtype=torch.float64)
    x = torch.where(is_left, -1 + 0.5 * noise, 1 + noise)[:, None]
    last = run_chain(KERNELS[name](), two_modes, x, num_steps=10, step_size=1.0, generator=generator).draws[-1]
    assert_z(last[:, 0], 0.2 * -1 + 0.8 * 1)
    assert_z(last[:, 0] ** 2, 0.2 * 1.25 + 0.8 * 2)


def test_scale_is_a_change_of_units(kernel):
    """A diagonal scale S on p(x) equals no scale on the density of x / S."""
    scale = torch.tensor([0.5, 3.0], dtype=torch.float64)
    x = torch.randn(10, 2, generator=seeded_generator(11), dtype=torch.float64)
    scaled = type(kernel)(**{**_settings(kernel), "scale": scale})
    first = run_chain(scaled, correlated, x, num_steps=6, step_size=0.5, generator=seeded_generator(12)).draws
    second = run_chain(
        kernel, lambda z: correlated(z * scale), x / scale, num_steps=6, step_size=0.5, generator=seeded_generator(12)
    ).draws
    torch.testing.assert_close(first, second * scale, rtol=1e-9, atol=1e-12)


def _settings(kernel):
    return {"num_leapfrog": kernel.num_leapfrog} if isinstance(kernel, HMC) else {}


def test_parameters_get_no_gradient():
    layer = torch.nn.Linear(2, 1)
    run_chain(MALA(), lambda x: layer(x)[:, 0] - x.square().sum(1), torch.zeros(3, 2), num_steps=2, step_size=0.1)
    assert layer.weight.grad is None


def test_another_scale_is_another_kernel(kernel):
    scale = torch.tensor([0.5, 3.0])
    scaled = kernel.with_scale(scale)
    assert scaled.scale is scale
    assert kernel.scale is None
    assert scaled.with_scale(None) == kernel


def test_unadjusted_steps_are_reported_as_accepted():
    _, info = ULA().step(ULA().init(torch.zeros(4, 2), normal), normal, 5.0, seeded_generator())
    assert bool(info.is_accepted.all())
    assert bool((info.acceptance_probability == 1).all())
    assert bool(info.energy.isnan().all())


def test_spread_step_sizes_are_log_uniform():
    sizes = spread_step_size(2.0, 100.0, 40_000, seeded_generator(1))
    logs = torch.log(2.0 / sizes.double()) / math.log(100.0)
    assert_z(logs, 0.5)
    assert_z(logs.square(), 1 / 3)
    assert spread_step_size(2.0, 1.0, 5, None) == 2.0


def test_choosing_takes_whole_chains():
    state, other = (ChainState(torch.full((3, 2), v), torch.full((3,), v), torch.full((3, 2), v)) for v in (0.0, 1.0))
    chosen = choose(torch.tensor([True, False, True]), other, state)
    for part in chosen:
        assert part.reshape(3, -1)[:, 0].tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.zeros(len(x)),
        lambda x: -x.detach().square().sum(1),
        lambda x: -x.detach().numpy().sum(1),
    ],
)
def test_a_density_without_gradient_is_named(function):
    with pytest.raises(ValueError, match=r"no gradient in the points.*RandomWalk\(\)"):
        init_state(torch.zeros(3, 2), function)
